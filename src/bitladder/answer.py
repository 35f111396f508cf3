"""Which precision to ship on a target: the one definition, for terminal, Markdown, page and API.

A candidate is a precision by a recipe. On each target something else counts: the time it takes on
a CPU, the bytes of the file that is loaded, packed bytes and bit operations on silicon that has
the widths. Of the candidates that lose no more than is allowed, the one is shipped that costs
least there; a narrower one that gains nothing is passed over, and it is said why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import mean
from typing import Any

from bitladder.errors import StudyError, unknown
from bitladder.measurement import Unit, one_digit, scaled
from bitladder.target_specs import known

SILICON = "silicon"
"""Hardware that computes in every width as it is: no target runs it; the simulation speaks."""
_SILICON_TITLE = "Silicon with the widths"
_FILES = (("context", "context binary"), ("dlc", "DLC"))  # what an HTP loads, the last form first
_WORST_LSB = "_worst_lsb"  # ends a column that every target has
# Relative differences that are none. Times of one arithmetic differ so much from measurement to
# measurement: w8a8 and w4a8 of ResNet18 in results/targets, 0.63 and 0.49 ms.
_BYTES_NOISE, _TIME_NOISE = 0.01, 0.25
_EXACT = 1e-9  # of a comparison of losses
_ALLOWED: Mapping[str, float] = {"share": 0.01, "dB": 0.5}  # where nobody says otherwise
_PART = 0.01  # of the quality itself, allowed where its unit says nothing
_BITS_OF_BOPS = 1e9
_SMALL = 0.1  # megabytes and milliseconds


@dataclass(frozen=True)
class Cost:
    """Something that counts on a target; less is better.

    Attributes:
        name: of what is counted, such as ``ONNX file``.
        value: in its unit.
        unit: ``MB``, ``ms`` or ``GBOPs``.
        noise: relative difference up to which two are the same.
    """

    name: str
    value: float
    unit: str
    noise: float

    @property
    def text(self) -> str:
        """The value with its unit: two decimals, or two digits where it is small."""
        return (
            f"{self.value:.2f} {self.unit}"
            if self.value >= _SMALL
            else (f"{self.value:.2g} {self.unit}")
        )

    def below(self, other: Cost) -> bool:
        """Whether it is less than another one by more than noise."""
        return self.value < other.value * (1 - self.noise)


@dataclass(frozen=True)
class Candidate:
    """A precision by a recipe, on one target.

    Attributes:
        precision: as it is written in studies.
        bits: of weights, then of activations.
        loss: against the float network as measured, the mean over seeds, in points where qualities
            are shares; None where it is not known.
        high: the upper end of its paired 95 % interval, the largest over seeds, or None.
        costs: what counts, the first thing first.
        recipe: its name, empty where there is one.
        order: of the recipe in the study, where the cheapest stands first.
        cells: rows of results.csv that it is made of.
        by_target: whether the loss is the target's own, else it is the simulation's.
    """

    precision: str
    bits: tuple[int, int]
    loss: float | None
    high: float | None
    costs: tuple[Cost, ...]
    recipe: str = ""
    order: int = 0
    cells: tuple[int, ...] = ()
    by_target: bool = False

    @property
    def name(self) -> str:
        """Precision and recipe."""
        return f"{self.precision} by {self.recipe}" if self.recipe else self.precision

    @property
    def told(self) -> str:
        """Its costs in words."""
        return ", ".join(f"{cost.text} {cost.name}".strip() for cost in self.costs)

    def within(self, allowed: float, *, surely: bool) -> bool:
        """Whether it loses no more than is allowed, as measured or by its interval's upper end."""
        lost = self.high if surely else self.loss
        return lost is not None and lost <= allowed + _EXACT

    def cost(self, name: str) -> Cost | None:
        """That cost, where it is known."""
        return next((cost for cost in self.costs if cost.name == name), None)


@dataclass(frozen=True)
class Answer:
    """What to ship on one target.

    Attributes:
        chosen: the candidate to ship, or None where none loses as little as is allowed.
        allowed: every candidate that does, the widest first.
        passed: the narrower ones that do and are not shipped, each with why.
        front: those that no other one beats in loss and costs together, the widest first.
    """

    chosen: Candidate | None
    allowed: tuple[Candidate, ...]
    passed: tuple[tuple[Candidate, str], ...]
    front: tuple[Candidate, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each of the narrower ones is passed over, a line each."""
        return tuple(f"not {candidate.name}: {why}" for candidate, why in self.passed)


@dataclass(frozen=True)
class Place:
    """A network on a data set, on one target, with its candidates.

    Attributes:
        dataset: its name.
        model: name of the network.
        target: its name, as columns have it, or ``silicon``.
        title: what a reader calls the target.
        candidates: the widest first.
    """

    dataset: str
    model: str
    target: str
    title: str
    candidates: tuple[Candidate, ...]

    def answer(self, allowed: float, *, surely: bool = False) -> Answer:
        """What to ship where so much may be lost; see ``answer``."""
        return answer(self.candidates, allowed, surely=surely)


def answer(candidates: Iterable[Candidate], allowed: float, *, surely: bool = False) -> Answer:
    """What to ship on a target.

    Of the candidates within, those stay whose first cost is the least, up to its noise, then of
    these those whose second is, and so on; of what is left the widest, then the cheapest recipe,
    then the one that loses least. A cost that one of them lacks decides nothing.

    Args:
        candidates: of one network on one target, in any order.
        allowed: loss, in points where qualities are shares.
        surely: the upper end of the loss's interval must be allowed, not only its value.
    """
    every = sorted(candidates, key=_widest)
    inside = [one for one in every if one.within(allowed, surely=surely)]
    left = inside
    for name in dict.fromkeys(cost.name for one in inside for cost in one.costs):
        costs = [one.cost(name) for one in left]
        found = [cost for cost in costs if cost is not None]
        if len(found) < len(left):
            continue
        least = min(found, key=lambda cost: cost.value)
        left = [one for one, cost in zip(left, found, strict=True) if not least.below(cost)]
    chosen = left[0] if left else None
    narrower = [one for one in inside if chosen is not None and one.bits < chosen.bits]
    return Answer(
        chosen,
        tuple(inside),
        tuple((one, _why_not(one, chosen)) for one in narrower if chosen is not None),
        front(every),
    )


def front(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The Pareto front by loss and costs: those that no other one beats, the widest first.

    One beats another if it loses no more, costs no more of anything, and is better in one of them;
    where nothing differs, the wider one does.
    """
    known = sorted((one for one in candidates if one.loss is not None), key=_widest)
    return tuple(
        one
        for place, one in enumerate(known)
        if not any(
            _beats(other, one, tie=at < place) for at, other in enumerate(known) if at != place
        )
    )


def places(rows: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Every network of a run on every target that ran its files, and on silicon.

    Args:
        rows: the rows of results.csv; cells that are not complete are no candidates.
    """
    found = []
    for dataset, model in dict.fromkeys((row["dataset"], row["model"]) for row in rows):
        here = [
            (index, row)
            for index, row in enumerate(rows)
            if (row["dataset"], row["model"]) == (dataset, model)
        ]
        for target in (*target_names(rows), SILICON):
            candidates = _candidates(here, target)
            if candidates or target == SILICON:
                found.append(Place(dataset, model, target, target_title(target), candidates))
    return found


def usual_within(rows: Sequence[Mapping[str, Any]]) -> float:
    """The loss that is allowed in a run where nobody says otherwise."""
    sizes = [abs(size) for row in rows if (size := _number(row.get("float"))) is not None]
    unit: Unit = next((row["unit"] for row in rows if row.get("unit")), "")
    return usual_loss(unit, max(sizes, default=0.0))


def asked(rows: Sequence[Mapping[str, Any]], target: str | None) -> list[Place]:
    """Every network of a run on one target, or on all of them.

    Raises:
        StudyError: the run has no such target.
    """
    found = places(rows)
    names = dict.fromkeys(place.target for place in found)
    if target is not None and target not in names:
        raise StudyError(unknown("target", target, names))
    return [place for place in found if target in (None, place.target)]


def answer_rows(
    found: Sequence[Place], within: float, *, surely: bool = False
) -> list[dict[str, Any]]:
    """What to ship as flat rows, one a network and a target; ``ship`` is None where nothing is."""
    rows = []
    for place in found:
        answer = place.answer(within, surely=surely)
        chosen = answer.chosen
        rows.append(
            {
                "dataset": place.dataset,
                "model": place.model,
                "target": place.target,
                "ship": chosen and chosen.precision,
                "recipe": chosen and chosen.recipe,
                "loss": chosen and chosen.loss,
                "loss_high": chosen and chosen.high,
                "costs": chosen.told if chosen else "",
                "why": "; ".join(answer.reasons),
                "front": [one.name for one in answer.front],
            }
        )
    return rows


def target_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The targets of a run as its columns name them."""
    columns = dict.fromkeys(name for row in rows for name in row)
    names = [name.removesuffix(_WORST_LSB) for name in columns if name.endswith(_WORST_LSB)]
    return [name for name in names if f"{name}_images" in columns]  # and no second session of one


def usual_loss(unit: Unit, largest: float) -> float:
    """The loss that is allowed where nobody says otherwise, in points where qualities are shares.

    Args:
        unit: of the quality.
        largest: size of the float networks' quality, which says what is little where the unit does
            not.
    """
    return scaled(_ALLOWED.get(unit) or one_digit(_PART * abs(largest)) or 1.0, unit)


def target_title(name: str) -> str:
    """What a reader calls a target, e.g. ``HTP emulator v75`` for ``htp_v75``."""
    if name == SILICON:
        return _SILICON_TITLE
    kind, _, version = name.partition("_")
    title = known()[kind].title if kind in known() else kind
    return " ".join(filter(None, (title, version)))


def _candidates(
    rows: Sequence[tuple[int, Mapping[str, Any]]], target: str
) -> tuple[Candidate, ...]:
    """The complete cells by precision and recipe; seeds are put together."""
    recipes = list(dict.fromkeys(_recipe(row) for _, row in rows))
    groups: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for index, row in rows:
        ran = target == SILICON or _number(row.get(f"{target}_images")) is not None
        if row["status"] == "complete" and ran:
            groups.setdefault((row["precision"], _recipe(row)), []).append((index, row))
    found = []
    for (precision, recipe), members in groups.items():
        seeds = [row for _, row in members]
        own = all(_number(row.get(f"{target}_loss")) is not None for row in seeds)
        column = f"{target}_loss" if own else "loss"
        unit: Unit = seeds[0].get("unit") or ""
        losses = [_number(row.get(column)) for row in seeds]
        highs = [_number(row.get(f"{column}_high")) for row in seeds]
        all_known = [loss for loss in losses if loss is not None]
        all_high = [high for high in highs if high is not None]
        found.append(
            Candidate(
                precision=precision,
                bits=(int(seeds[0]["weight_bits"]), int(seeds[0]["activation_bits"])),
                loss=scaled(mean(all_known), unit) if len(all_known) == len(seeds) else None,
                high=scaled(max(all_high), unit) if len(all_high) == len(seeds) else None,
                costs=_mean_costs([_costs(row, target) for row in seeds]),
                recipe=recipe if len(recipes) > 1 else "",
                order=recipes.index(recipe),
                cells=tuple(index for index, _ in members),
                by_target=own,
            )
        )
    return tuple(sorted(found, key=_widest))


def _costs(row: Mapping[str, Any], target: str) -> list[Cost]:
    """What a cell costs on a target, what counts most first."""
    if target == SILICON:
        macs, bits = _number(row.get("macs")), row["weight_bits"] * row["activation_bits"]
        operations = None if macs is None else macs * bits / _BITS_OF_BOPS
        named = [
            ("packed", _number(row.get("packed_mb")), "MB", _BYTES_NOISE),
            ("", operations, "GBOPs", _BYTES_NOISE),
        ]
    else:
        kind = target.partition("_")[0]
        title = known()[kind].file_title if kind in known() else "file"
        loaded = _number(row.get(f"{target}_file_mb"))
        timed = kind not in known() or known()[kind].timed  # an emulator's time is nobody's
        latency = _number(row.get(f"{target}_latency_ms")) if timed else None
        named = [("an image", latency, "ms", _TIME_NOISE)]
        if kind == "htp":
            named += [
                (name, _number(row.get(f"{key}_mb")), "MB", _BYTES_NOISE) for key, name in _FILES
            ]
        named.append((title, loaded or _number(row.get("file_mb")), "MB", _BYTES_NOISE))
    return [
        Cost(name, value, unit, noise) for name, value, unit, noise in named if value is not None
    ]


def _mean_costs(seeds: Sequence[Sequence[Cost]]) -> tuple[Cost, ...]:
    """The mean over seeds of each cost that all of them have."""
    by_name = [{cost.name: cost for cost in costs} for costs in seeds]
    return tuple(
        Cost(cost.name, mean(one[cost.name].value for one in by_name), cost.unit, cost.noise)
        for cost in seeds[0]
        if all(cost.name in one for one in by_name)
    )


def _why_not(one: Candidate, chosen: Candidate) -> str:
    """Why a narrower candidate is not the one to ship."""
    pairs = [(cost, other) for cost in one.costs if (other := chosen.cost(cost.name)) is not None]
    told = ", ".join(
        f"{cost.text} {cost.name}".strip() + f" against {other.text}" for cost, other in pairs
    )
    if not told:
        return f"nothing is known that it gains against {chosen.name}"
    if any(cost.below(other) for cost, other in pairs):
        return f"costs more where it counts first than {chosen.name} ({told})"
    return f"gains nothing here against {chosen.name} ({told})"


def _beats(one: Candidate, other: Candidate, *, tie: bool) -> bool:
    assert one.loss is not None
    assert other.loss is not None
    pairs = [(cost, its) for cost in one.costs if (its := other.cost(cost.name)) is not None]
    if one.loss > other.loss + _EXACT or any(its.below(cost) for cost, its in pairs):
        return False
    better = one.loss < other.loss - _EXACT or any(cost.below(its) for cost, its in pairs)
    return better or tie


def _widest(one: Candidate) -> tuple[Any, ...]:
    """Sorts the widest first, then the cheapest recipe, then the least loss."""
    loss = float("inf") if one.loss is None else one.loss
    return (-one.bits[0], -one.bits[1], one.order, loss, one.precision, one.recipe)


def _recipe(row: Mapping[str, Any]) -> str:
    return str(row.get("recipe") or "")


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str) or not isfinite(value):
        return None
    return float(value)
