"""Write docs/studies.md from the options' own docstrings and defaults.

python scripts/make_study_reference.py
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic_core import PydanticUndefined

from bitladder.data.folders import SPLITS, SUFFIXES
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
`train.epochs=1`, `datasets=[./photos]`. `bitladder init DIR MODEL.onnx` writes a first study for \
a folder of images, an ONNX file or both, with its options explained; it overwrites nothing. This \
page is written by `scripts/make_study_reference.py`.
"""
DATA_SETS = """### Folders of images

`ROOT/CLASS/image` is split by the seed. `ROOT/train/CLASS/image` with `ROOT/val/CLASS/image` is \
taken as it is. Capital letters do not matter, and other usual names are known:

| split | names of its folder | where it is missing |
|---|---|---|
{splits}

Without `val`, validation images are taken from the training images, never from `test`: images \
that choose between precisions must not give the official result, too. Classes must be \
the same in all folders; an error names those that differ. A class of which a split has no image \
is noted. Images of deeper folders belong to the class above them, links are followed, and hidden \
files and folders, `__MACOSX`, `Thumbs.db` and the like are left out. Files whose suffix is none \
of {suffixes} are left out with a note.

Every image is decoded once before anything else is computed. All that cannot be decoded are named \
in one error (20 of them, and how many there are): empty, cut off, not an image, more pixels than \
Pillow's limit of 179 million. Pixels are what a viewer shows:

- Always three channels; gray values stand in all three. A note says where gray and colour mix.
- Turned as the camera was held (EXIF). Of several frames or pages the first.
- Transparent pixels lie on white, in palettes, gray and colour images.
- 16 bits keep their high byte. Values of float files, and of 32-bit integers in TIFF, are taken \
as 0 to 255 if they are whole numbers in that range, floats as 0 to 1 if they are in it; otherwise \
the image's own smallest value becomes black and its largest white, with a note that names one.
- CMYK becomes RGB as Pillow does it. Colour profiles (ICC) are not applied.
- The shorter side is resized to `size`, bilinear with antialiasing, and the middle is cut out.

A set of less than `data.decoded_gib` GiB, one byte a channel and pixel, is kept decoded in \
`~/.cache/bitladder/decoded` (`$BITLADDER_CACHE/decoded`), by the content of its files, so that \
every pass is as fast as from memory. A damaged file there is noticed and made again; all of it \
can be deleted at any time, and what was not used for 30 days is removed. On a cluster each \
machine keeps its own. Larger sets are decoded on every pass by `data.workers` processes ([speed]\
(performance.md#image-folders)). Both give the same pixels.

### Functions

`package.module:function` takes no arguments and returns one, two or three torch Datasets: all \
images, or train and validation, or train, validation and test; or a mapping with these names. An \
item is a float image (C, H, W), all of one size, and an int from 0; a pair of tensors, images \
(N, C, H, W) and labels (N,), will do for a Dataset. A Dataset's attribute \
`classes` says how many there are; otherwise it is one more than the largest label. Other items \
(labels one-hot, as floats or strings, channels last, bytes, NaN) are refused in one line \
that names the item.

The function is called with the random numbers of torch, numpy and Python seeded by the study, and \
every item is read twice. Items that come out the same are kept as a folder's are, so that \
later passes read an array. Items that differ, because they are augmented, are read again in every \
pass; their random numbers follow from the seed, the epoch and the item alone, for any number of \
processes. The first reading of every pixel and label is the data set's fingerprint, \
augmented or not. Only where an item's randomness follows from none of these seeds is the source \
file of the function taken in its place, with a note.
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
        if options is DatasetOptions:
            parts.append(data_sets())
    parts += ["## Recipes\n", "\n".join(recipes()), ""]
    for name, technique in TECHNIQUES.items():
        text = (technique.__doc__ or "").strip()
        parts += [f"### `{name}`\n", f"{text}\n"]
        if technique.model_fields:
            parts.append(table(technique))
    parts += ["## The embedded study\n", "```yaml", load().to_yaml().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def data_sets() -> str:
    """What data sets may be, with the names that the code knows."""
    missing = {
        "train": "the images of `val`, else of `test`, are split, with a note",
        "validation": "split off the training images by the seed, as `train` and `validation` say",
        "test": "there is no official test result",
    }
    rows = (
        f"| {split} | {', '.join(f'`{name}`' for name in names)} | {missing[split]} |"
        for split, names in SPLITS.items()
    )
    suffixes = ", ".join(f"`{suffix}`" for suffix in sorted(SUFFIXES))
    return DATA_SETS.format(splits="\n".join(rows), suffixes=suffixes)


def table(options: type[Options]) -> str:
    """Key, default and meaning of every option."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in options.model_fields.items():
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `{field.alias or name}` | {default(field)} | {meaning} |")
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
