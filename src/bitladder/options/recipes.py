"""Recipes: ordered techniques, some by name, and the orders that make sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from bitladder import target_specs
from bitladder.errors import StudyError, unknown
from bitladder.options.precision import Precision
from bitladder.options.technique import Technique, find, reference
from bitladder.options.techniques import (
    Adaround,
    BiasCorrection,
    Calibrate,
    CrossLayerEqualization,
    Distill,
    Finetune,
    FoldBatchNorm,
    HighBiasFold,
    ReestimateBatchNorm,
    Relu6ToRelu,
)

RECIPES: dict[str, tuple[Technique, ...]] = {
    "ptq": (
        FoldBatchNorm(),
        Calibrate(),
        Adaround(weights_below=8),
        BiasCorrection(method="empirical", weights_below=8),
    ),
    "distilled": (
        Calibrate(method="mse"),
        Distill(),
        ReestimateBatchNorm(),
    ),
    "qat": (
        Calibrate(method="mse"),
        Finetune(lr=2e-3, distill=0.5),
        ReestimateBatchNorm(),
    ),
    "report": (
        FoldBatchNorm(),
        Relu6ToRelu(),
        CrossLayerEqualization(),
        HighBiasFold(),
        Calibrate(),
        BiasCorrection(),
        Finetune(),
    ),
    "data_free": (
        FoldBatchNorm(),
        Relu6ToRelu(),
        CrossLayerEqualization(),
        HighBiasFold(),
        Calibrate(),
        BiasCorrection(method="analytic"),
    ),
}


def suited(recipe: Iterable[Technique], precision: Precision) -> tuple[Technique, ...]:
    """The techniques of a recipe that are applied at a precision."""
    return tuple(step for step in recipe if step.suits(precision))


def fitting(recipe: Iterable[Technique], targets: Iterable[str]) -> tuple[Technique, ...]:
    """A recipe whose grids fit the formats of some targets, unless it says itself whose.

    Args:
        recipe: the techniques.
        targets: names; those whose formats demand nothing are left out.
    """
    names = tuple(name for name in targets if target_specs.find(name).grids.demand)
    return tuple(
        step.model_copy(update={"targets": names})
        if isinstance(step, Calibrate) and step.targets is None
        else step
        for step in recipe
    )


def parse_recipe(value: object) -> tuple[Technique, ...]:
    """Read a recipe: a name of ``RECIPES``, or a list of names and ``{name: options}``.

    Raises:
        StudyError: a name or an option is unknown, or the order cannot work.
    """
    if isinstance(value, str):
        if value not in RECIPES:
            raise StudyError(unknown("recipe", value, RECIPES))
        return RECIPES[value]
    if not isinstance(value, list | tuple) or not value:
        raise StudyError("a recipe is the name of one or a list of techniques")
    recipe = parse_techniques(value)
    _check_order(recipe)
    return recipe


def parse_techniques(entries: Iterable[object]) -> tuple[Technique, ...]:
    """Read a list of techniques that need not be a whole recipe.

    Raises:
        StudyError: a name or an option is unknown.
    """
    return tuple(_parse_technique(entry) for entry in entries)


def dump_recipe(recipe: Iterable[Technique]) -> list[dict[str, dict[str, Any]]]:
    """Write a recipe with every option resolved, in the form that ``parse_recipe`` reads."""
    return [{reference(type(technique)): technique.model_dump(mode="json")} for technique in recipe]


def _parse_technique(entry: object) -> Technique:
    if isinstance(entry, Technique):
        return entry
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise StudyError(f"recipe entry {entry!r} is not a technique or {{technique: options}}")
    [(name, options)] = entry.items()
    kind = find(str(name))
    try:
        return kind.model_validate(options or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise StudyError(unknown("option", key, kind.model_fields, where=name)) from None
        place = ".".join(filter(None, (str(name), key)))
        raise StudyError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


def _check_order(recipe: tuple[Technique, ...]) -> None:
    simulated_by: str | None = None
    before: list[Technique] = []
    for technique in recipe:
        name, names = technique.name, {one.name for one in before}
        if technique.after is not None and technique.after not in names:
            raise StudyError(f"'{name}' works on folded layers: put '{technique.after}' before it")
        for other in before:
            if other.name in technique.not_after or (technique.before_training and other.trains):
                raise StudyError(f"'{name}' comes too late after '{other.name}': put it before")
        if technique.folded and not any(one.folds for one in before):
            raise StudyError(
                f"'{name}' works on folded layers: put 'fold_batch_norm' before 'calibrate', or "
                "'reestimate_batch_norm' before it"
            )
        if technique.phase == "simulated" and simulated_by is None:
            raise StudyError(f"'{name}' works on the simulated network: put 'calibrate' before it")
        if technique.phase != "simulated" and simulated_by is not None:
            raise StudyError(f"'{name}' changes the float network: put it before '{simulated_by}'")
        if technique.phase == "simulate":
            simulated_by = name
        before.append(technique)
    if simulated_by is None:
        raise StudyError("the recipe never simulates the network: add 'calibrate'")
    _check_batch_norms(recipe)


def _check_batch_norms(recipe: tuple[Technique, ...]) -> None:
    """Targets have no batch norms: one technique has to fold them, and only one can."""
    folding = list(dict.fromkeys(technique.name for technique in recipe if technique.folds))
    if not folding:
        raise StudyError(
            "batch norms stay in the network: put 'fold_batch_norm' before 'calibrate', or "
            "'reestimate_batch_norm' at the end"
        )
    if len(folding) > 1:
        raise StudyError(
            f"'{folding[0]}' leaves '{folding[1]}' nothing to do: take one of them out"
        )
