"""Compile the kernel once for this machine, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bitladder.files import written_aside

_FILES = ("fake_quantize.cpp", "calibrate.cpp", "cross_entropy.cpp")
_SOURCES = [Path(__file__).with_name(name) for name in _FILES]
_HEADER = Path(__file__).with_name("grid.hpp")
# No fast-math and no fused multiply-add: every processor computes the same values.
_FLAGS = (
    "-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
_POINTER, _SIZE, _WIDTH, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float
_GRID: list[Any] = [*[_SIZE] * 3, *[_WIDTH] * 3, *[_FLOAT] * 3, _WIDTH]


class KernelUnavailableError(Exception):
    """The kernel cannot be used here; the message says why."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernel; found in the cache, or compiled into it.

    Raises:
        KernelUnavailableError: it is turned off by ``BITLADDER_KERNEL=0``, there is no C++
            compiler, or the compiler fails.
    """
    if os.environ.get("BITLADDER_KERNEL") == "0":
        raise KernelUnavailableError("turned off by BITLADDER_KERNEL=0")
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(compiler[0]) is None:
        raise KernelUnavailableError(
            f"no C++ compiler '{compiler[0]}' found; install one or set CXX"
        )
    try:
        path = _compiled(compiler)
        kernel = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or str(error)).splitlines()[0]
        raise KernelUnavailableError(f"{compiler[0]} fails: {reason}") from None
    except OSError as error:
        raise KernelUnavailableError(f"cannot build or load the kernel: {error}") from None
    kernel.fake_quantize_forward.argtypes = [*[_POINTER] * 4, *_GRID]
    kernel.fake_quantize_backward.argtypes = [*[_POINTER] * 7, *_GRID]
    kernel.observe_range.argtypes = [*[_POINTER] * 3, *[_SIZE] * 3]
    kernel.observe_histogram.argtypes = [*[_POINTER] * 4, _WIDTH, *[_SIZE] * 3]
    search: list[Any] = [*[_POINTER] * 2, *[_SIZE] * 2, *[_FLOAT] * 2, _POINTER]
    kernel.search_grid.argtypes = [*[_POINTER] * 2, _WIDTH, *search]
    kernel.search_weights.argtypes = [*[_POINTER] * 3, _SIZE, _WIDTH, *search]
    kernel.merge_histogram.argtypes = [_POINTER, _SIZE, *[_POINTER] * 3, _WIDTH]
    kernel.merge_histogram.restype = _WIDTH
    kernel.describe_weights.argtypes = [*[_POINTER] * 4, *[_SIZE] * 2]
    kernel.describe_weights.restype = _SIZE
    kernel.cross_entropies.argtypes = [
        *[_POINTER] * 4, *[_SIZE] * 3, *[_WIDTH] * 3, _FLOAT, _POINTER,
    ]  # fmt: skip
    kernel.count_on_grid.argtypes = [_POINTER, *[_SIZE] * 2, _WIDTH, *[_FLOAT] * 3]
    kernel.count_on_grid.restype = _SIZE
    for function in (
        kernel.fake_quantize_forward,
        kernel.fake_quantize_backward,
        kernel.observe_range,
        kernel.observe_histogram,
        kernel.search_grid,
        kernel.search_weights,
        kernel.cross_entropies,
    ):
        function.restype = None
    return kernel


def _compiled(compiler: list[str]) -> Path:
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout
    determines = [
        *(source.read_text() for source in (*_SOURCES, _HEADER)),
        *_FLAGS,
        version,
        platform.machine(),
        _processor(),
    ]
    name = hashlib.sha256("\0".join(determines).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitladder"
    path = folder / f"kernel-{name}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as built:  # other processes may build it, too
            subprocess.run(
                [*compiler, *_FLAGS, *map(str, _SOURCES), "-o", str(built)],
                capture_output=True,
                text=True,
                check=True,
            )
    return path


def _processor() -> str:
    """What the processor can do; a cache on a shared disk serves different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
