"""How fast a target runs files of one network on this processor, side by side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bitladder.target_specs import TargetSpec
from bitladder.targets.session import open_target

_SINGLES = 20  # runs of one image in a round


@dataclass(frozen=True)
class Speed:
    """One file on one thread; each figure is the best of several rounds.

    Attributes:
        latency_ms: milliseconds for one image.
        images_per_second: in one batch of the given images.
    """

    latency_ms: float
    images_per_second: float


def speeds(
    files: Mapping[str, Path],
    *inputs: NDArray[Any],
    target: str | TargetSpec = "onnxruntime",
    version: str | None = None,
    rounds: int = 5,
) -> dict[str, Speed]:
    """Run files in turns, so that what else the machine does falls on all of them.

    Args:
        files: ONNX files by name.
        inputs: an array an input, the batch.
        target: that runs them, on one thread.
        version: of the target.
        rounds: of all files; the best of them counts.

    Raises:
        TargetError: the target refuses a file.
    """
    sessions = {
        name: open_target(target, path, threads=1, version=version) for name, path in files.items()
    }
    best = dict.fromkeys(itertools.product(files, (False, True)), float("inf"))
    for _ in range(rounds):
        for name, session in sessions.items():
            for whole, given in ((False, [one[:1] for one in inputs]), (True, inputs)):
                for _ in range(1 if whole else _SINGLES):
                    started = time.perf_counter()
                    session.run(*given)
                    taken = time.perf_counter() - started
                    best[name, whole] = min(best[name, whole], taken)
    return {
        name: Speed(1000 * best[name, False], len(inputs[0]) / best[name, True]) for name in files
    }
