"""Can this machine do the job: each part is tried in turn, and each says in one line how it went.

The command line prints the checks as they come. Parts are really run, not only looked up, since
a package that is there may still fail to load.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from bitladder.aimet_names import DISTRIBUTION
from bitladder.data_names import EMBEDDED, FOLDERS, find

Status = Literal["ok", "warning", "failed"]

PACKAGES = ("torch", "torchvision", "lightning", DISTRIBUTION, "onnx", "onnxruntime")
_LOW_MEMORY_GB = 2.0
_QNN_PROBE = """
import onnxruntime, onnxruntime_qnn
onnxruntime.register_execution_provider_library(
    "QNNExecutionProvider", onnxruntime_qnn.get_library_path()
)
names = [device.ep_name for device in onnxruntime.get_ep_devices()]
raise SystemExit(0 if "QNNExecutionProvider" in names else "it offers no device")
"""


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: ``failed`` where a study could not run at all, ``warning`` where a part of
            bitladder is missing or slower, else ``ok``.
        detail: one line: what was found, and what to do where something is missing.
    """

    name: str
    status: Status
    detail: str


def examine(data_root: Path | None) -> Iterator[Check]:
    """Run the checks one after the other, each when it is asked for.

    Args:
        data_root: folder that is searched first for data sets, or None.
    """
    yield Check("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        yield check_package(package)
    yield _guard("AIMET", "failed", check_aimet)
    yield _guard("ONNX Runtime", "failed", check_onnxruntime)
    yield _guard("int8 arithmetic", "warning", check_int8)
    yield _guard("QNN provider", "warning", check_qnn)
    yield _guard("kernel", "warning", check_kernel)
    yield _guard("data", "failed", lambda: check_data(data_root))
    yield _guard("cores", "warning", check_cores)
    yield _guard("memory", "warning", check_memory)
    yield _guard("GPU", "warning", check_gpu)


def _guard(name: str, severity: Status, check: Callable[[], Check]) -> Check:
    """Turn whatever a check raises into its outcome: a broken installation raises anything."""
    try:
        return check()
    except Exception as error:
        text = " ".join(str(error).split())
        return Check(name, severity, f"{type(error).__name__}: {text}" if text else repr(error))


def check_package(package: str) -> Check:
    """Look up a package's installed version."""
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:
        return Check(package, "failed", f"not installed: pip install {package}")


def check_aimet() -> Check:
    """Simulate one batch of ResNet18 at AIMET's default precision."""
    with _silence():
        import torch
        from torchvision.models import resnet18

        from bitladder.simulation.aimet import simulate_as_shipped

        images = torch.rand(1, 3, 64, 64)
        model = resnet18().eval()
        output = simulate_as_shipped(model, images)
    if not bool(torch.isfinite(output).all()):
        return Check("AIMET", "failed", "the simulated ResNet18 gave values that are not finite")
    return Check("AIMET", "ok", "simulated one batch of ResNet18")


def check_onnxruntime() -> Check:
    """Run a model of one product whose result is known."""
    found, expected = _product(activation=3, weight=5, exact=False)
    if found != expected:
        return Check("ONNX Runtime", "failed", f"a product gave {found} in place of {expected}")
    return Check("ONNX Runtime", "ok", "ran a small integer model on the CPU")


def check_int8() -> Check:
    """Multiply the largest uint8 with the largest int8 values and see whether sums saturate.

    x86 processors without VNNI add pairs of such products in 16 bits, which can overflow.
    ONNX Runtime documents this, and ``session.x64quantprecision`` as the way round it.
    """
    name = "int8 arithmetic"
    features = ", ".join(_vector_extensions()) or platform.machine()
    found, expected = _product(activation=255, weight=127, exact=False)
    if found == expected:
        return Check(name, "ok", f"ONNX Runtime's u8 x s8 products are exact ({features})")
    found, expected = _product(activation=255, weight=127, exact=True)
    if found == expected:
        remedy = (
            "exact in files exported with weights: auto or uint8, or with the session option "
            "session.x64quantprecision=1"
        )
    else:
        remedy = "its accuracy can differ from the simulation's"
    return Check(
        name, "warning", f"ONNX Runtime's u8 x s8 products saturate here ({features}); {remedy}"
    )


def check_kernel() -> Check:
    """The fused fake-quantize kernel, compiled if it is not yet."""
    from bitladder.simulation.kernel import KernelUnavailableError, library

    try:
        library()
    except KernelUnavailableError as error:
        return Check("kernel", "warning", f"{error}; quantized training takes AIMET's slower path")
    return Check("kernel", "ok", "fake-quantize compiled for this processor")


def check_qnn() -> Check:
    """Register Qualcomm's provider in a process of its own, so that it can take none down."""
    name = "QNN provider"
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        return Check(
            name,
            "warning",
            "not installed, so no htp target and no DLC: pip install 'bitladder[qnn]'",
        )
    done = subprocess.run(
        [sys.executable, "-c", _QNN_PROBE], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"its process ended with {done.returncode}"
        return Check(name, "warning", f"installed, but does not load: {reason}")
    return Check(name, "ok", f"onnxruntime-qnn {version('onnxruntime-qnn')}")


def check_data(root: Path | None) -> Check:
    """Say where the named data sets are; the embedded one has to be there."""
    if not any(EMBEDDED.glob("train-images-idx3-ubyte*")):
        return Check("data", "failed", f"{EMBEDDED} has no images: install bitladder again")
    places = {name: find(name, root) for name in FOLDERS}
    found = [f"{name} in {place}" for name, place in places.items() if place is not None]
    missing = [name for name, place in places.items() if place is None]
    detail = ", ".join(["embedded", *found])
    if missing:
        detail += f"; not here: {', '.join(missing)} (downloaded when a study asks for them)"
    return Check("data", "ok", detail)


def check_cores() -> Check:
    """Count the cores this process may use, and the threads PyTorch takes of them."""
    import torch

    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    setting = os.environ.get("OMP_NUM_THREADS", "not set")
    detail = f"{cores}; PyTorch takes {torch.get_num_threads()} threads (OMP_NUM_THREADS {setting})"
    return Check("cores", "ok", detail)


def check_memory() -> Check:
    """Say how much memory is free, in 10^9 bytes."""
    import psutil

    memory = psutil.virtual_memory()
    detail = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available / 1e9 < _LOW_MEMORY_GB:
        return Check("memory", "warning", f"{detail}; {_LOW_MEMORY_GB:.0f} GB are needed")
    return Check("memory", "ok", detail)


def check_gpu() -> Check:
    """Name the GPU that training would use."""
    import torch

    if torch.cuda.is_available():
        return Check("GPU", "ok", torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return Check("GPU", "ok", "Apple MPS")
    return Check("GPU", "ok", "none; training runs on the CPU")


def _product(*, activation: int, weight: int, exact: bool) -> tuple[int, int]:
    """Sum 64 products of a uint8 and an int8 value in ONNX Runtime; with it, the true sum."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    length, width = 64, 16
    weights = numpy_helper.from_array(np.full((length, width), weight, np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["activations", "weights"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, [4, length])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [4, width])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    activations = np.full((4, length), activation, np.uint8)
    [sums] = session.run(None, {"activations": activations})
    expected = activation * weight * length
    # One wrong element is enough.
    wrong = sums[sums != expected]
    return int(wrong[0]) if wrong.size else expected, expected


def _vector_extensions() -> list[str]:
    """Name what the processor has of the instructions that matter for int8, or nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    if not flags:
        return []
    found = [name.upper() for name in ("avx2", "avx512f") if name in flags]
    has_vnni = any("vnni" in flag for flag in flags)
    return [*found, "VNNI" if has_vnni else "no VNNI"]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep AIMET's notes off the terminal; it prints and logs while it is imported."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
