"""What to run: a YAML file of data sets x models x precisions x recipes x seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from bitladder.errors import StudyError, unknown
from bitladder.models.names import is_onnx_file
from bitladder.options import (
    RECIPES,
    DatasetOptions,
    ExplainOptions,
    ExportOptions,
    LoaderOptions,
    ModelOptions,
    Options,
    Precision,
    TargetOptions,
    TaskOptions,
    Technique,
    TrainOptions,
    dump_recipe,
    parse_recipe,
)
from bitladder.options.base import kinds_of
from bitladder.outside import line_of, parse_yaml, read_text
from bitladder.tasks import TASKS
from bitladder.user_code import is_import_path

EMBEDDED_STUDIES = files("bitladder") / "studies"
_FORMS = {"recipe": "recipes", "recipes": "recipe", "seed": "seeds", "seeds": "seed"}

Loc = tuple[int | str, ...]
_KIND = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int | Mapping) else value


def _precision(value: object) -> Precision:
    if not isinstance(value, str | int | Precision) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a precision; write 8, w4a8 or w4a4-edges8")
    return Precision.parse(value)


def _recipe(value: object) -> tuple[Technique, ...]:
    try:
        return parse_recipe(value)
    except StudyError as error:  # pydantic adds the place
        raise ValueError(str(error)) from None


Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
StudyPrecision = Annotated[Precision, BeforeValidator(_precision), PlainSerializer(str)]
StudyRecipe = Annotated[
    tuple[Technique, ...], BeforeValidator(_recipe), PlainSerializer(dump_recipe)
]


class NamedRecipe(Options):
    """A recipe of a study, as the name of a ready-made one or ``{name: mine, steps: [...]}``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    """What tables and folders call it."""
    steps: StudyRecipe
    """Its techniques with their options, or the name of a ready-made one."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value, "steps": value} if isinstance(value, str) else value


class Study(Options):
    """A validated study."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """Name of the study and of its output folder; by default that of its file."""
    datasets: Annotated[tuple[DatasetOptions, ...], BeforeValidator(_as_list), Field(min_length=1)]
    """Data sets: names, folders or mappings."""
    task: TaskOptions = TaskOptions()
    """What the outputs mean: ``classification``, ``segmentation``, ``detection``, ``restoration``,
    or package.module:Class."""
    models: Annotated[tuple[ModelOptions, ...], BeforeValidator(_as_list), Field(min_length=1)]
    """Networks: names or mappings."""
    precisions: Annotated[
        tuple[StudyPrecision, ...], BeforeValidator(_as_list), Field(min_length=1)
    ] = (Precision(8, 8), Precision(6, 6), Precision(4, 4))
    """Rungs of the bit ladder: ``8``, ``w4a8`` or ``w4a4-edges8``."""
    seed: Seed = 1
    """Seed of the split, the initial weights and the order of images."""
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_list)] = ()
    """Several seeds in place of ``seed``: every cell is run with each."""
    data: LoaderOptions = LoaderOptions()
    """Where data sets are looked for and how they are read."""
    train: TrainOptions = TrainOptions()
    """Float training."""
    recipe: StudyRecipe = RECIPES["qat"]
    """Name of a recipe, or a list of techniques with their options."""
    recipes: Annotated[tuple[NamedRecipe, ...], BeforeValidator(_as_list)] = ()
    """Several recipes in place of ``recipe``, the cheapest first: names of ready-made ones, or
    ``{name: mine, steps: [...]}``."""
    within: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Loss that is allowed, in points where qualities are shares. Precisions are then tried from
    the widest on, recipes in their order, and what is not needed to answer is not run."""
    export: ExportOptions = ExportOptions()
    """Files that are written beside the ONNX files."""
    verify: Annotated[tuple[TargetOptions, ...], BeforeValidator(_as_list)] = (
        TargetOptions(name="onnxruntime"),
    )
    """Targets that run the artifact: ``onnxruntime``, ``htp`` or ``{htp: {images: 200}}``."""

    explain: ExplainOptions | None = None
    """Measure what each quantizer of a cell costs alone, for the report."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: TaskOptions) -> TaskOptions:
        if value.name not in TASKS and not is_import_path(value.name):
            raise ValueError(unknown("task", value.name, TASKS) + ", or package.module:Class")
        return value

    @field_validator("precisions", "datasets", "models", "verify", "seeds")
    @classmethod
    def _once_each(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        # A target is known by its label alone; the rest may differ in any option.
        alike = [getattr(value, "label", value) for value in values]
        for value, one in zip(values, alike, strict=True):
            if alike.count(one) > 1:
                name = getattr(value, "label", None) or getattr(value, "name", None) or str(value)
                raise ValueError(f"'{name}' is there twice")
        return values

    @model_validator(mode="after")
    def _weights_to_start_from(self) -> Study:
        for model in self.models if self.train.start == "weights" else ():
            if model.weights is None and not model.pretrained and not is_onnx_file(model.name):
                raise ValueError(
                    f"train.from: '{model.name}' has no weights to start from; give it "
                    "'weights: FILE' or 'pretrained: true'"
                )
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Study:
        for short, several in (("recipe", self.recipes), ("seed", self.seeds)):
            if several and short in self.model_fields_set:
                raise ValueError(f"give '{short}' or '{short}s', not both")
        names = [recipe.name for recipe in self.recipes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"recipes: '{name}' is there twice; give each its own 'name'")
        return self

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds that every cell is run with."""
        return self.seeds or (self.seed,)

    @property
    def every_recipe(self) -> tuple[NamedRecipe, ...]:
        """The recipes that every cell is run with, the cheapest first."""
        if self.recipes:
            return self.recipes
        name = next((name for name, steps in RECIPES.items() if steps == self.recipe), "own")
        return (NamedRecipe(name=name, steps=self.recipe),)

    def to_yaml(self) -> str:
        """The study with every default written out, in the form that ``load`` reads."""
        dumped = self.model_dump(mode="json")
        for short in ("recipe", "seed"):
            del dumped[f"{short}s" if not dumped[f"{short}s"] else short]
        return yaml.safe_dump(dumped, sort_keys=False)


def load(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and apply ``key=value`` overrides, checked like the file.

    Args:
        source: path of a YAML file, or None for the embedded quick study.
        overrides: ``key=value`` with dots for nested keys and YAML values, e.g.
            ``precisions=[8,4]`` or ``train.epochs=1``.

    Raises:
        StudyError: the file cannot be read, or a key or value is not valid.
    """
    path = Path(str(EMBEDDED_STUDIES / "quick.yaml")) if source is None else Path(source)
    text = _text(path)
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys, such as 'models: [resnet18]'")
    content.setdefault("name", path.stem)
    for override in overrides:
        _override(content, override)
    return validated(content, str(path), partial(_line, text, overrides))


def validated(
    content: Mapping[str, Any], where: str, line: Callable[[Loc], int | None] = lambda loc: None
) -> Study:
    """A study of a mapping of keys.

    Args:
        content: as a study file has it.
        where: what an error begins with.
        line: of a value in its file, or None.

    Raises:
        StudyError: a key or value is not valid.
    """
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise StudyError(_first_fault(error, where, line)) from None


def _text(path: Path) -> str:
    if not path.exists():
        raise StudyError(f"{path}: no such study file")
    return read_text(path)


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise StudyError(f"override '{override}' is not key=value, such as train.epochs=1")
    value = parse_yaml(text, f"override '{override}'")
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        nested = place.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise StudyError(f"override '{override}': '{parent}' has no keys below it here")
        place = nested
    if not parents and last in _FORMS:  # the study's own other form of the same
        place.pop(_FORMS[last], None)
    place[last] = value


def _first_fault(error: ValidationError, source: str, line: Callable[[Loc], int | None]) -> str:
    """One line for the first thing wrong: where it is, what it is, and what would be right."""
    faults = error.errors(include_url=False)
    first = faults[0]
    loc = _keys(first["loc"])
    found = line(loc)
    source += "" if found is None else f", line {found}"
    if first["type"] == "extra_forbidden":
        *parents, key = map(str, loc)
        where = f"{source}: {'.'.join(parents)}" if parents else source
        return unknown("key", key, _known_keys(loc[:-1]), where=where)
    messages = [
        one["msg"].removeprefix("Value error, ") for one in faults if _keys(one["loc"]) == loc
    ]
    place = ".".join(map(str, loc)) or "study"
    return f"{source}: {place}: {', or '.join(dict.fromkeys(messages))}"


def _keys(loc: Loc) -> Loc:
    """Where a fault is, without the kinds that pydantic tells of an option of several."""
    return tuple(part for part in loc if not (isinstance(part, str) and _KIND.fullmatch(part)))


def _line(text: str, overrides: Sequence[str], loc: Loc) -> int | None:
    """The line of the file in which a faulty value stands, unless an override gave it."""
    keys = [override.partition("=")[0].split(".") for override in overrides]
    if any(key == list(map(str, loc))[: len(key)] for key in keys):
        return None
    return line_of(text, loc)


def _known_keys(parents: Loc) -> list[str]:
    """The keys of the options that stand at a place of the study."""
    model: type[Options] = Study
    for parent in parents:
        field = model.model_fields.get(str(parent))
        for kind in () if field is None else kinds_of(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Options):
                model = kind
    return [field.alias or name for name, field in model.model_fields.items()]
