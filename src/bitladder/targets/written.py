"""Write a simulated network as a file of any kind; nothing is called written before it ran.

A file is made aside, opened and run, and only then takes its place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitladder import deploy, dlc
from bitladder.errors import ExportError, TargetError
from bitladder.files import write_whole
from bitladder.options import InputType, WeightType
from bitladder.simulation import SimulatedModel, device_of
from bitladder.structures import moved, named
from bitladder.target_specs import TargetSpec
from bitladder.targets.convert import write_dlc
from bitladder.targets.session import as_arrays, open_target

SUFFIXES = (".onnx", ".dlc", ".tflite")
"""Of the files that can be written."""
_RUN = 1  # images


def check_suffix(path: Path) -> None:
    """Refuse a file of a kind that is not written.

    Raises:
        ExportError: it is none of ``SUFFIXES``, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise ExportError(
            f"{path}: cannot write '{path.suffix}' files; use {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}"
        )
    if not path.parent.is_dir():
        raise ExportError(f"{path}: there is no folder {path.parent}; make it")


def write(
    simulated: SimulatedModel,
    path: Path,
    *,
    target: str | TargetSpec = "onnxruntime",
    int4: bool | None = None,
    weights: WeightType = "int8",
    image_input: InputType = "float",
    description: deploy.Description | None = None,
) -> None:
    """Write a simulated network, by the suffix of the file, and run what was written.

    A QDQ .onnx runs in ONNX Runtime, on one image and on three. A .dlc is read again, and holds
    what its QDQ twin holds, which runs in ONNX Runtime and on the HTP emulator. A .tflite runs on
    LiteRT.

    Args:
        simulated: a calibrated network.
        path: the file; its folder exists.
        target: whom an .onnx is for; a .dlc is always for ``htp``, a .tflite for ``litert``.
        int4: store 4-bit weights of QDQ as int4; by default for ``htp``.
        weights: how a QDQ graph holds weights of up to 8 bit.
        image_input: what the file takes of an image.
        description: for its metadata.

    Raises:
        ExportError: an option is not valid, or the network cannot be written.
        TargetError: a runtime is not installed, or refuses the file.
    """
    check_suffix(path)
    traced = deploy.Traced(simulated, description)
    form: dict[str, Any] = {"int4": int4, "weights": weights, "image_input": image_input}
    if path.suffix == ".onnx":
        traced.write_qdq(path, target=target, **form)
        return
    with tempfile.TemporaryDirectory() as folder:
        made, twin = Path(folder) / path.name, Path(folder) / f"{path.stem}.onnx"
        own = "htp" if path.suffix == ".dlc" else "litert"
        traced.write_qdq(twin, target=own, **form)
        if path.suffix == ".dlc":
            write_dlc(twin, made)
            different = dlc.differences(dlc.read(made), twin)
            if different:
                raise ExportError(f"{path}: is not what was to be written: {different[0]}")
            _run(simulated, twin, "htp")
        else:
            import onnx

            from bitladder.deploy.litert import write_tflite

            write_tflite(onnx.load(twin), made)
            _run(simulated, made, "litert")
        write_whole(path, made.read_bytes(), refusal=ExportError)


def _run(simulated: SimulatedModel, artifact: Path, target: str) -> None:
    """Open a file on its target and run it on an image.

    Raises:
        TargetError: the target refuses it, or its outputs are not of the network's shapes.
    """
    given = simulated.example(_RUN)
    with torch.no_grad():
        made = named(simulated(*moved(given, device_of(simulated))))
    wanted = [tuple(one.shape) for one in made.values()]
    session = open_target(target, artifact)
    try:
        found = list(session.run(*as_arrays(given)).values())
    finally:
        session.close()
    if [one.shape for one in found] != wanted:
        shapes = [one.shape for one in found]
        raise TargetError(f"{target} gives outputs of shapes {shapes}, the network {wanted}")
    if not all(np.isfinite(one).all() for one in found):
        raise TargetError(f"{target} gives outputs that are not numbers")
