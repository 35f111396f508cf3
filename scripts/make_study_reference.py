"""Write docs/studies.md from the options' own docstrings and defaults.

python scripts/make_study_reference.py
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic_core import PydanticUndefined

from bitladder.options import (
    RECIPES,
    TECHNIQUES,
    DatasetOptions,
    ExplainOptions,
    ExportOptions,
    LoaderOptions,
    ModelOptions,
    Options,
    TargetOptions,
    TrainOptions,
)
from bitladder.options.training import EarlyStopping
from bitladder.study import Study, load

OUTPUT = Path(__file__).parents[1] / "docs" / "studies.md"
HEAD = """# Studies

A study is a YAML file. Unknown keys are refused, with the nearest known one. On the command line \
`key=value` changes it, with dots for nested keys and YAML values: `precisions=[8,4]`, \
`train.epochs=1`, `datasets=[./photos]`. This page is written by `scripts/make_study_reference.py`.
"""
SECTIONS: dict[str, tuple[str, type[Options]]] = {
    "An entry of `datasets`": ("a name alone is short for `{name: ...}`", DatasetOptions),
    "An entry of `models`": ("a name alone is short for `{name: ...}`", ModelOptions),
    "An entry of `verify`": ("a name, or `{name: {images: N}}`", TargetOptions),
    "`data`": ("how images are found and read", LoaderOptions),
    "`export`": ("what is written beside the ONNX files", ExportOptions),
    "`explain`": ("or `null`", ExplainOptions),
    "`train`": ("float training", TrainOptions),
    "`train.early_stopping`": ("or `null`", EarlyStopping),
}


def main() -> None:
    """Write the page."""
    OUTPUT.write_text(page())


def page() -> str:
    """The page's text."""
    parts = [HEAD, "## The study\n", table(Study)]
    for title, (what, options) in SECTIONS.items():
        parts += [f"## {title}\n", f"{what[0].upper()}{what[1:]}.\n", table(options)]
    parts += ["## Recipes\n", "\n".join(recipes()), ""]
    for name, technique in TECHNIQUES.items():
        text = (technique.__doc__ or "").strip()
        parts += [f"### `{name}`\n", f"{text}\n"]
        if technique.model_fields:
            parts.append(table(technique))
    parts += ["## The embedded study\n", "```yaml", load().to_yaml().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def table(options: type[Options]) -> str:
    """Key, default and meaning of every option."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in options.model_fields.items():
        rows.append(f"| `{name}` | {default(field)} | {field.description} |")
    return "\n".join([*rows, ""])


def default(field: object) -> str:
    """A default as it would be written in a study."""
    value = getattr(field, "default", None)
    if value is PydanticUndefined:
        return "required"
    if value is RECIPES["qat"]:
        return "`qat`"
    if isinstance(value, Options):
        return "see below"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(getattr(entry, 'name', entry)) for entry in value)}]`"
    return (
        f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"
    )


def recipes() -> Iterator[str]:
    """The recipes by name."""
    yield (
        "`recipe` is one of these names, or a list of techniques: "
        "`[fold_batch_norm, {calibrate: {images: 500}}, finetune]`.\n"
    )
    yield "| name | techniques |"
    yield "|---|---|"
    for name, recipe in RECIPES.items():
        yield f"| `{name}` | {arrows(step.name for step in recipe)} |"


def arrows(names: Iterable[str]) -> str:
    """Names in the order in which they are applied."""
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    main()
