"""What is asked of every network: one function a check, each of which returns a finding."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bitladder
from bitladder import simulation
from bitladder.errors import BitladderError
from bitladder.targets.session import Session, open_target, open_unfused
from conformance import ties
from conformance.findings import EXACT, Finding, Verdict, difference, least_decibels, one_line
from conformance.poles import pole
from small_network import only

BATCHES = (1, 3, 5)
_TRACED_TOLERANCE = 1e-4  # of the range of the outputs
_HTP_IMAGES = 4
# How far its kernels are off by themselves: those of 16 bit compute with about 11 bits.
_HTP_STEPS = {False: 2, True: 32}
_TIED_SHARE = 0.01  # of a layer's values
_AVERAGED_SHARE = 0.2


@dataclass
class Subject:
    """A network under check, with everything that checks share.

    Attributes:
        network: the float network.
        images: for calibration and comparison, (N, C, H, W).
        precision: such as ``w4a8``.
        recipe: techniques.
        folder: for files.
        quantized: the quantized network.
        artifact: the file for ONNX Runtime.
        spread: what roundings of float32 can make of its outputs.
    """

    network: nn.Module
    images: Tensor
    precision: str
    recipe: tuple[str, ...]
    folder: Path
    quantized: Any = None
    artifact: Path = Path()
    expected: NDArray[np.float32] | None = None
    spread: ties.Spread | None = None
    step: float = 1.0

    @property
    def bits(self) -> int:
        """Of activations."""
        return int(re.split("a", self.precision)[1])

    def quantize(self) -> None:
        self.quantized = bitladder.quantize(
            self.network, self.images, self.precision, list(self.recipe), progress=False
        )
        with torch.no_grad():
            self.expected = self.quantized(self.images).numpy()
        self.step = max(float(np.ptp(self.expected)) / (2**self.bits - 1), 1e-30)

    def export(self) -> None:
        self.artifact = self.quantized.export(self.folder / "model.onnx")


Check = Callable[[Subject], Finding]


def traced(subject: Subject) -> Finding:
    """The traced network against the network itself, in float64 where it can."""
    images = subject.images[:8]
    with torch.no_grad():
        found = simulation.prepare(subject.network, (images,))(images).double()
        try:
            right = copy.deepcopy(subject.network).double()(images.double())
        except RuntimeError:  # it makes values of float32 itself
            right = subject.network(images).double()
    if found.shape != right.shape:
        return Finding(
            Verdict.FAULT, reason=f"shape {tuple(found.shape)}, not {tuple(right.shape)}"
        )
    if not torch.isfinite(right).all():
        return Finding(Verdict.FAULT, reason="the case itself gives values that are not finite")
    # A network whose answer is nearly constant is measured by its size.
    size = (right.max() - right.min()).clamp(min=1e-3 * float(right.abs().max()) + 1e-6)
    apart = float((found - right).abs().max() / size)
    if apart <= _TRACED_TOLERANCE:
        return EXACT
    return Finding(Verdict.FAULT, reason=f"{apart:.2g} of the range away from the float network")


def unfused(subject: Subject) -> Finding:
    """The file, every operation by itself, against the simulation."""
    session = open_unfused(subject.artifact)
    found, step = only(session.run(subject.images.numpy())), _step(session, subject)
    return _of_ties(difference(found, subject.expected, step), subject, step, found)


def optimised(subject: Subject) -> Finding:
    """The file as ONNX Runtime runs it against the simulation."""
    session = open_target("onnxruntime", subject.artifact, threads=1)
    found = difference(
        only(session.run(subject.images.numpy())), subject.expected, _step(session, subject)
    )
    return _with_reason(found, "; ".join(session.fallbacks))


def integers(subject: Subject) -> Finding:
    """The file as ONNX Runtime runs it against the integer arithmetic."""
    session = open_target("onnxruntime", subject.artifact, threads=1)
    try:
        exact = subject.quantized.integer_exact()
    except BitladderError as error:
        return Finding(Verdict.FLOAT, reason=one_line(error))
    images = subject.images.numpy()
    return difference(only(session.run(images)), only(exact.run(images)), _step(session, subject))


def batches(subject: Subject) -> Finding:
    """The simulation and the file at several batch sizes against single images."""
    images = subject.images.numpy()
    sessions = {
        "simulation": lambda given: _simulate(subject, given),
        "unfused": _only_output(open_unfused(subject.artifact)),
        "optimised": _only_output(open_target("onnxruntime", subject.artifact, threads=1)),
    }
    worst = EXACT
    if _answers_by_batch(subject):
        return replace(EXACT, reason="the float network itself answers by its batch")
    for name, run in sessions.items():
        size = 1
        try:
            single = np.concatenate([run(images[i : i + 1]) for i in range(max(BATCHES))])
            if len(single) != max(BATCHES):
                return Finding(Verdict.FAULT, reason=f"{name}: {len(single)} rows of 5 images")
            for size in (*BATCHES[1:], len(images)):
                found = run(images[:size])
                if len(found) != size:
                    rows = f"{len(found)} rows of {size} images"
                    return Finding(Verdict.FAULT, reason=f"{name}: {rows}")
                shared = min(size, len(single))
                apart = difference(found[:shared], single[:shared], subject.step)
                apart = _of_ties(apart, subject, subject.step, found[:shared], single[:shared])
                if apart.steps > worst.steps or apart.verdict is Verdict.FAULT:
                    reason = f"{name}, batch {size}: {apart.reason or 'others than alone'}"
                    worst = replace(apart, reason=reason)
        except BitladderError as error:
            return Finding(Verdict.FAULT, reason=f"{name}, batch {size}: {one_line(error)}")
    return worst


def _only_output(session: Session) -> Callable[[np.ndarray], np.ndarray]:
    return lambda given: only(session.run(given))


def _answers_by_batch(subject: Subject) -> bool:
    """Whether the float network gives an image another answer in other company."""
    images = subject.images[: max(BATCHES)]
    with torch.no_grad():
        together = subject.network(images)
        alone = torch.cat([subject.network(images[i : i + 1]) for i in range(len(images))])
    return not torch.allclose(together, alone, rtol=1e-2, atol=1e-2)


def saved(subject: Subject) -> Finding:
    """Saved and loaded, the simulation is the same in every bit, and so is its file."""
    path = subject.folder / "model.safetensors"
    subject.quantized.save(path)
    loaded = bitladder.QuantizedModel.load(path, subject.network)
    with torch.no_grad():
        same = np.array_equal(loaded(subject.images).numpy(), subject.expected)
    if not same:
        return Finding(Verdict.FAULT, reason="the loaded network computes something else")
    written = loaded.export(subject.folder / "loaded.onnx").read_bytes()
    if written != subject.artifact.read_bytes():
        return Finding(Verdict.FAULT, reason="the loaded network is written as another file")
    return EXACT


def repeated(subject: Subject) -> Finding:
    """Written twice, the file has the same bytes, and the simulation did not change."""
    written = subject.quantized.export(subject.folder / "again.onnx").read_bytes()
    if written != subject.artifact.read_bytes():
        return Finding(Verdict.FAULT, reason="a second export has other bytes")
    if not np.array_equal(_simulate(subject, subject.images.numpy()), subject.expected):
        return Finding(Verdict.FAULT, reason="export changed the simulation")
    return EXACT


def verified(subject: Subject) -> Finding:
    """``verify`` finds nothing where the file equals its simulation in every layer it shows."""
    found = bitladder.verify(
        subject.artifact, subject.images, simulation=subject.quantized, threads=1
    )
    layer = found.first_layer
    if layer is None or found.comparison.worst_lsb > 0:
        return EXACT
    share = _AVERAGED_SHARE if _averages(subject, layer.name) else _TIED_SHARE
    if layer.worst == 1 and (layer.share < share or "softmax" in layer.name):
        return EXACT  # a tie, or ONNX Runtime's softmax, which sums a table of its own
    shown = f"{layer.worst} steps in {100 * layer.share:.2g} %"
    return Finding(Verdict.FAULT, reason=f"equal, but verify names {layer.name}, {shown}")


def _averages(subject: Subject, name: str) -> bool:
    """Whether a layer averages integers, as linear interpolation does.

    Such a value lies exactly in the middle between two integers as often as not, and the order of
    its float sum decides.
    """
    modules = dict(subject.quantized.simulated.module.named_modules())
    module = modules.get(name.replace("_", ".")) or modules.get(name)
    kinds = (nn.Upsample, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d)
    return isinstance(module, kinds)


def htp(subject: Subject) -> Finding:
    """The file for the HTP on its emulator against the simulation."""
    path = subject.quantized.export(subject.folder / "htp.onnx", target="htp")
    images = subject.images[:_HTP_IMAGES].numpy()
    try:
        session = open_target("htp", path)
    except BitladderError as error:
        return Finding(Verdict.REFUSED, reason=one_line(error))
    try:
        found = only(session.run(images))
    except BitladderError as error:
        return Finding(Verdict.REFUSED, reason=one_line(error))
    finally:
        session.close()
    step = _step(session, subject)
    # It takes image by image, which some networks answer by.
    alone = [_simulate(subject, images[i : i + 1]) for i in range(len(images))]
    apart = difference(found, np.concatenate(alone), step)
    if apart.verdict is not Verdict.STEPS or apart.decibels >= least_decibels(subject.bits):
        return apart
    steps = _HTP_STEPS[subject.bits > 8]
    spread = ties.Spread(subject.quantized, subject.images[:_HTP_IMAGES], steps)
    return replace(apart, explained=spread.explains(found, 2 * steps * step))


def loader(subject: Subject) -> Finding:
    """The float file at two batch sizes, and AIMET's own loader of its encodings."""
    path, encodings = subject.folder / "float.onnx", subject.folder / "float.json"
    subject.quantized.export(path, encodings=encodings)
    session = open_unfused(path)
    for size in BATCHES:
        rows = len(only(session.run(subject.images[:size].numpy())))
        if rows != size:
            return Finding(Verdict.FAULT, reason=f"float file: {rows} rows of {size} images")
    from aimet_onnx import quantsim
    from aimet_onnx.common.utils import AimetLogger

    AimetLogger.set_level_for_all_areas(logging.ERROR)
    sim = quantsim.QuantizationSimModel(onnx.load(path))
    quantsim.load_encodings_to_sim(sim, str(encodings), strict=False)
    [found] = sim.session.run(None, {sim.session.get_inputs()[0].name: subject.images.numpy()})
    return difference(found, subject.expected, subject.step)


CHECKS: dict[str, Check] = {
    "traced": traced,
    "unfused": unfused,
    "optimised": optimised,
    "integers": integers,
    "batches": batches,
    "saved": saved,
    "repeated": repeated,
    "verified": verified,
    "htp": htp,
    "loader": loader,
}
"""Every check by the name of its column, in the order of the columns."""
SLOW = ("htp", "loader")
STEPS = ("quantize", "export")
"""What comes before the checks, and is a column where it fails."""


def run_checks(subject: Subject, names: tuple[str, ...]) -> Iterator[tuple[str, Finding]]:
    """Each check's name and finding; what fails before the checks ends them.

    An error of ours is a refusal, with its line; any other is a fault.
    """
    if "traced" in names:
        finding = _guarded(traced, subject)
        yield "traced", finding
    for name, act in (("quantize", Subject.quantize), ("export", Subject.export)):
        finding = _guarded(lambda given, act=act: act(given) or EXACT, subject)
        if finding.verdict is not Verdict.EXACT:
            yield name, finding
            return
    if not np.isfinite(subject.expected).all():
        yield "quantize", _without_answer(subject)
        return
    for name in names:
        if name != "traced":
            yield name, _guarded(CHECKS[name], subject)


def _without_answer(subject: Subject) -> Finding:
    """Why outputs are not finite: no fault where the network divides by what is rounded to zero."""
    with torch.no_grad():
        right = bool(torch.isfinite(subject.network(subject.images)).all())
    name = pole(subject.quantized.simulated.module, subject.images)
    if right and name is not None:
        return Finding(Verdict.FLOAT, reason=f"no answer: {name} of what is rounded to zero")
    return Finding(Verdict.FAULT, reason="the simulation's outputs are not finite")


def _simulate(subject: Subject, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return subject.quantized(torch.from_numpy(images)).numpy()


def _of_ties(apart: Finding, subject: Subject, step: float, *found: NDArray[np.float32]) -> Finding:
    """A difference from the simulation, and whether roundings of float32 explain all of it."""
    if apart.verdict is not Verdict.STEPS:
        return apart
    if subject.spread is None:
        subject.spread = ties.Spread(subject.quantized, subject.images)
    explained = all(subject.spread.explains(one, 0.05 * step) for one in found)
    return replace(apart, explained=explained)


def _step(session: Any, subject: Subject) -> float:
    return next(iter(session.steps.values()), subject.step)


def _with_reason(finding: Finding, reason: str) -> Finding:
    return replace(finding, reason=finding.reason or reason)


def _guarded(check: Check, subject: Subject) -> Finding:
    try:
        return check(subject)
    except BitladderError as error:
        return Finding(Verdict.REFUSED, reason=one_line(error))
    except TimeoutError:
        raise
    except Exception as error:
        return Finding(Verdict.FAULT, reason=f"{type(error).__name__}: {one_line(error)}")
