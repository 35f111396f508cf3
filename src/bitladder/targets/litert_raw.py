"""Raw tensors in files, run on LiteRT; lists and results are as ``raw`` has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitladder.errors import TargetError
from bitladder.targets.htp import QnnInput
from bitladder.targets.litert import Kernels, LitertSession
from bitladder.targets.raw import read_inputs

_NAMES = {"float32": "float"}


def run_raw(artifact: Path, inputs: Path, output: Path, kernels: Kernels = "xnnpack") -> int:
    """Run a .tflite file for every line of an input list; the number of lines.

    Raises:
        TargetError: the list or a file of it does not fit, LiteRT refuses the artifact, or the
            folder cannot be written.
    """
    session = LitertSession(artifact, kernels=kernels)
    given = tuple(
        QnnInput(one["name"], tuple(one["shape"].tolist()), _type(one["dtype"]))
        for one in session.inputs
    )
    count = 0
    for line in read_inputs(inputs, given, session.description):
        folder = output / f"Result_{count}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, values in zip(session.names, session.run_once(line), strict=True):
                values.tofile(folder / f"{name.replace('/', '_')}.raw")
        except OSError as error:
            raise TargetError(f"{folder}: cannot write: {error.strerror}") from None
        count += 1
    return count


def _type(dtype: type) -> str:
    kind = np.dtype(dtype).name
    return f"tensor({_NAMES.get(kind, kind)})"
