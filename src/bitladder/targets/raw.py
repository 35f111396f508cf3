"""Raw tensors in files, listed and written as the vendor's command-line tools do.

An input list has a line an inference: the files of its inputs, ``NAME:=PATH`` each, or the path
alone for a model of one input. Lines that begin with ``#`` or ``%`` choose outputs in those tools
and are skipped here: every output is written. A file holds one tensor in the model's own shape and
type, in C order. A picture, told by its suffix, becomes what the model says it takes of one.
Relative paths are relative to the list, or to the working folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.data.decode import decode_file, why
from bitladder.data.folders import SUFFIXES
from bitladder.deploy import Description, read_description
from bitladder.errors import TargetError
from bitladder.outside import LARGEST_TABLE, read_onnx, read_text
from bitladder.simulation import LEVELS
from bitladder.targets.htp import HTP_LIBRARY, QnnInput, QnnProcess, htp_options

_OF_PICTURES = ("tensor(uint8)", "tensor(float)")
_TYPES = {
    "tensor(float)": "f4",
    "tensor(float16)": "f2",
    "tensor(uint8)": "u1",
    "tensor(int8)": "i1",
    "tensor(uint16)": "u2",
    "tensor(int16)": "i2",
    "tensor(int32)": "i4",
    "tensor(int64)": "i8",
}


def run_raw(artifact: Path, inputs: Path, output: Path, version: str | None = None) -> int:
    """Run an artifact on the HTP emulator for every line of an input list.

    Args:
        artifact: QDQ ONNX as it is exported for ``htp``, or a context's ONNX file.
        inputs: the input list.
        output: folder; the outputs of line N, from 0, are ``Result_N/NAME.raw``.
        version: of the HTP, such as ``v75``.

    Returns:
        The number of lines.

    Raises:
        TargetError: the list or a file of it does not fit, the HTP refuses the artifact, or the
            folder cannot be written.
    """
    if artifact.suffix == ".dlc":
        raise TargetError(
            f"{artifact}: a DLC runs on devices only; give the ONNX file it was made from, or a "
            "context written by 'bitladder dlc context'"
        )
    description = read_description(read_onnx(artifact, external=False, refusal=TargetError))
    process = QnnProcess(artifact.resolve(), backend=HTP_LIBRARY, provider=htp_options(version))
    count = 0
    try:
        for line in read_inputs(inputs, process.inputs, description):
            folder = output / f"Result_{count}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for name, values in zip(process.outputs, process.run(*line), strict=True):
                    values.tofile(folder / f"{name.replace('/', '_')}.raw")
            except OSError as error:
                raise TargetError(f"{folder}: cannot write: {error.strerror}") from None
            count += 1
    finally:
        process.close()
    return count


def read_inputs(
    path: Path, inputs: Sequence[QnnInput], description: Description | None = None
) -> Iterator[list[NDArray[Any]]]:
    """The arrays of each line of an input list, in the order of the model's inputs.

    Args:
        path: of the list.
        inputs: of the model.
        description: what the model says of them; without one a picture is no input.

    Raises:
        TargetError: the list cannot be read or is empty, or a line or a file does not fit.
    """
    text = read_text(path, largest=LARGEST_TABLE, refusal=TargetError)
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and line.lstrip()[0] not in "#%"
    ]
    if not lines:
        raise TargetError(f"{path}: lists no inputs; write a line an inference")
    for number, line in lines:
        yield _line(f"{path}, line {number}", line.split(), path.parent, inputs, description)


def _line(
    where: str,
    entries: list[str],
    folder: Path,
    inputs: Sequence[QnnInput],
    description: Description | None,
) -> list[NDArray[Any]]:
    files: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name, named, file = entry.rpartition(":=")
        if not named and index < len(inputs):
            name = inputs[index].name
        files[name] = file
    wanted = [given.name for given in inputs]
    if sorted(files) != sorted(wanted) or len(entries) != len(wanted):
        raise TargetError(f"{where}: must name a file for each of {', '.join(wanted)}")
    found = [(_find(folder, files[given.name]), given) for given in inputs]
    return [
        _picture(where, file, given, description)
        if file.suffix.lower() in SUFFIXES
        else _read(where, file, given)
        for file, given in found
    ]


def _picture(
    where: str, path: Path, given: QnnInput, description: Description | None
) -> NDArray[Any]:
    """A picture as an input: its pixels in 0 to 1, or their bytes."""
    shape = tuple(size if isinstance(size, int) else 1 for size in given.shape)
    if len(shape) != 4 or shape[1] not in (1, 3) or given.type not in _OF_PICTURES:
        raise TargetError(
            f"{where}: input '{given.name}' {list(given.shape)} {given.type} takes no picture"
        )
    if description is None or not description.pixels:
        raise TargetError(
            f"{where}: {path} is a picture, and the model does not say what it takes of one; give "
            "a raw file"
        )
    try:
        picture = decode_file(path, *shape[2:])
    except Exception as error:  # Pillow's plugins raise whatever they stumble over
        raise TargetError(f"{where}: {path}: cannot read this picture: {why(error)}") from None
    pixels = np.asarray(picture.convert("L" if shape[1] == 1 else "RGB"))
    pixels = np.ascontiguousarray(pixels.reshape(*shape[2:], -1).transpose(2, 0, 1))[None]
    return pixels if given.type == "tensor(uint8)" else pixels / np.float32(LEVELS)


def _find(folder: Path, file: str) -> Path:
    beside = folder / file
    return beside if beside.exists() else Path(file)


def _read(where: str, path: Path, given: QnnInput) -> NDArray[Any]:
    if given.type not in _TYPES:
        raise TargetError(f"{where}: input '{given.name}' is a {given.type}, which no raw file is")
    if any(not isinstance(size, int) for size in given.shape[1:]):
        raise TargetError(
            f"{where}: input '{given.name}' {list(given.shape)} leaves sizes open, so that no raw "
            "file can be read as it; export the network with its sizes"
        )
    kind = np.dtype(_TYPES[given.type])
    shape = tuple(size if isinstance(size, int) else 1 for size in given.shape)
    wanted = int(np.prod(shape)) * kind.itemsize
    try:
        size = path.stat().st_size
        if size != wanted:
            raise TargetError(
                f"{where}: {path} has {size} bytes; input '{given.name}' "
                f"{list(shape)} of {kind.name} takes {wanted}"
            )
        return np.fromfile(path, kind).reshape(shape)
    except OSError as error:
        raise TargetError(f"{where}: {path}: cannot read: {error.strerror}") from None
