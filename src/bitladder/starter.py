"""A first study for a folder of images, an ONNX file, or both: YAML with each option explained.

A line with a ``#`` in front of a key or of an entry is an option that is not taken; without its
``#`` the study is valid, too. All else after a ``#`` explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from bitladder.data.folders import search
from bitladder.data_names import DATASETS, folder_of
from bitladder.errors import ModelError, StoreError, StudyError
from bitladder.models.names import is_onnx_file
from bitladder.outside import parse_yaml
from bitladder.study import validated

_SMALL = 5_000  # images, of which an epoch in batches of 256 has too few steps
_PICTURES = "./pictures"  # stands for the user's own folder

_TEMPLATE = """\
# A study: images x networks x bit widths x recipes.
#
#   bitladder doctor {file}   is the data in order, and does the network fit it?
#   bitladder plan {file}     what would run?
#   bitladder run {file}      run it; interrupted, the same command goes on where it stopped
#
# Paths are taken from the folder in which you type this. A '#' in front of a key marks an option
# that is not taken: take the '#' away. All keys and defaults are in docs/studies.md.

# {about}
datasets:
  - name: {folder}
    size: {size}  # pixels a side, or [height, width]
{normalize}
    # validation: 200  # images to measure on; by default 1 of 12, or those of the folder val

# The networks: a name of torchvision or timm, an .onnx file, or package.module:function.
models:
  - name: {model}
{start}

# Bits of weights and activations, the widest first: w4a8 has 4-bit weights and 8-bit activations.
precisions: [w8a8, w4a8, w4a4]

# How a precision is repaired, the cheapest first: 'ptq' needs no labels and no training, 'qat'
# trains at these bits. See docs/techniques.md.
recipes: [ptq, qat]

# The accuracy that may be lost, in points: the study looks for the narrowest precision within it,
# and runs no more than that needs. Take this line away to run all of them.
within: 1.0

# Training of the float network.
train:
{train}
  batch_size: {batch}
  # augment: standard  # shift and mirror the images

# Runtimes that run the written file, and must agree with the simulation.
verify:
  - onnxruntime
  # - htp: {{images: 200}}  # the emulator of Qualcomm's HTP: pip install 'bitladder[qnn]'
  # - openvino  # pip install 'bitladder[openvino]'
  # - litert  # pip install 'bitladder[litert]'

export:
  input: float  # the files take pixels in 0 to 1; uint8: they take bytes
  # dlc: true  # write .dlc files for Qualcomm devices, too

# seeds: [1, 2, 3]  # run everything once a seed, and tell how far results scatter
"""
_NORMALIZE = {
    True: "    normalize: imagenet  # pixels as ImageNet's weights expect them",
    False: "    # normalize: imagenet  # where training did that to the pixels",
}
_START = {
    True: "    # version: 1  # any text; change it to run everything of this network again",
    False: "    pretrained: true  # begin with ImageNet's weights, or weights: FILE",
}
_TRAIN = {
    True: "  # from: weights  # train the file's network on these images before it is quantized\n"
    "  epochs: 3  # with 'from: weights' alone",
    False: "  epochs: 10",
}


def write_study(sources: Sequence[str], output: Path) -> Path:
    """Write a study for what a user has.

    Args:
        sources: a folder of images (or a data set's name), an ONNX file, or both; without any, the
            embedded images are taken.
        output: the YAML file to write; it must not be there.

    Returns:
        The file.

    Raises:
        StudyError: a source is neither, or there are two of a kind.
        DataError: the folder does not hold a folder of images a class.
        ModelError: the file cannot be read, or does not take images.
        StoreError: the study cannot be written, or is there already.
    """
    files = [source for source in sources if is_onnx_file(source)]
    folders = [source for source in sources if not is_onnx_file(source)]
    if len(files) > 1 or len(folders) > 1:
        raise StudyError(
            f"{', '.join(map(repr, sources))}: give one folder of images, one .onnx file, or one "
            "of each; the study's lists take more"
        )
    if output.exists():
        raise _there(output)
    text = _text(folders[0] if folders else None, files[0] if files else None, output)
    validated({"name": output.stem, **parse_yaml(text, str(output))}, str(output))
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _there(output) from None
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{output}: cannot write here: {reason}") from None
    return output


def _text(folder: str | None, file: str | None, output: Path) -> str:
    if folder is None:
        name, images, about = _no_folder(file)
    else:
        name, images, about = _data_set(folder)
    usual = "32" if name in DATASETS else "224"
    return _TEMPLATE.format(
        file=output,
        about=about,
        folder=_scalar(name),
        size=usual if file is None else _size(Path(file)),
        normalize=_NORMALIZE[file is None and name not in DATASETS],
        model=_scalar(file or "mobilenet_v2"),
        start=_START[file is not None],
        train=_TRAIN[file is not None],
        batch=32 if images is not None and images < _SMALL else 128,
    )


def _no_folder(file: str | None) -> tuple[str, int | None, str]:
    if file is None:
        return "embedded", None, "The images: 6,000 of Fashion-MNIST, which bitladder brings along."
    return _PICTURES, None, "CHANGE THIS: your images, in a folder for each class."


def _data_set(given: str) -> tuple[str, int | None, str]:
    """The name of a data set in a study, how many images it has, and what it is, in one line."""
    folder = folder_of(given)
    try:
        there = folder.is_dir()
    except (OSError, ValueError):  # a NUL in a path is a ValueError
        there = False
    if not there:
        if given in DATASETS:
            return given, None, "The images: a data set that bitladder knows by its name."
        raise StudyError(
            f"'{given}': no folder of images, no .onnx file, and none of the data sets "
            f"{', '.join(DATASETS)}"
        )
    own = given in DATASETS or (":" in given and "/" not in given)  # a study takes it for a name
    name = f"./{given}" if own else given
    if any(folder.glob("*-idx3-ubyte*")):
        return name, None, "The images: files in the format of MNIST."
    found = search(folder)
    count = sum(map(len, found.parts.values()))
    splits = "" if len(found.parts) == 1 else f", split into {', '.join(found.parts)}"
    return name, count, f"The images: {count}, of {len(found.classes)} classes{splits}."


def _size(path: Path) -> str:
    """Height and width that the network in a file takes; 224 where it leaves them open."""
    from bitladder.models import image_input

    try:
        found = image_input(path)
    except ModelError:  # which an open size is, too
        found = image_input(path, (224, 224))
    square = found.height == found.width
    return str(found.height) if square else f"[{found.height}, {found.width}]"


def _scalar(text: str) -> str:
    """A text as YAML has it in one line."""
    return yaml.safe_dump(text, width=len(text) * 10 + 80, allow_unicode=True).partition("\n")[0]


def _there(path: Path) -> StoreError:
    return StoreError(f"{path}: is there already; give another file with --output")
