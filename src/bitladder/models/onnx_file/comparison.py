"""Run an imported network beside ONNX Runtime, which reads the file without any optimisation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import fx

from bitladder.errors import ModelError
from bitladder.models.onnx_file.reading import all_nodes
from bitladder.user_code import one_line

if TYPE_CHECKING:
    from bitladder.models.onnx_file.importer import ImportedNetwork

TOLERANCE = 1e-4
"""Largest difference, of the range of an output."""
_LEAST_RANGE = 1e-2
"""Outputs that hardly vary are compared as if by this much, or by this much of their size: sigmoids
of two runtimes differ by 1e-7 wherever they are."""
_TIMES = 3  # so often as many images as the file fixes
# Two float32 runtimes may differ by so many times what rounding does to one of them, which sums in
# pairs where the other sums in a row, but never by more than this much of an output's range.
_ROUNDING, _MOST = 32, 0.05


def compare(path: Path, model: onnx.ModelProto, network: ImportedNetwork, batch: int) -> None:
    """Refuse a network whose outputs are not the file's, at its own batch and at three times that.

    Where float32 itself is that inexact, as float64 shows, such a difference is no reason.

    Raises:
        ModelError: ONNX Runtime cannot open or run the file, or an output differs; the worst is
            named.
    """
    session = _session(path, model, network.outputs)
    generator = np.random.default_rng(0)
    given = [
        _values(generator, (_TIMES * batch, *shape), kind.type)
        for shape, kind in zip(network.shapes, _inputs(session, network), strict=True)
    ]
    parts = []
    for start in range(0, _TIMES * batch, batch):
        feed = dict(zip(network.inputs, (v[start : start + batch] for v in given), strict=True))
        try:
            parts.append([np.asarray(v) for v in session.run(list(network.outputs), feed)])
        except Exception as error:  # of ONNX Runtime's own types
            raise ModelError(f"{path}: ONNX Runtime cannot run it: {one_line(error)}") from None
    _check(path, network, [v[:batch] for v in given], parts[:1])
    _check(path, network, given, parts)


def _check(path: Path, network: ImportedNetwork, given: Any, parts: Any) -> None:
    images = len(given[0])
    with torch.no_grad():
        try:
            made = network.module.forward(*(torch.from_numpy(v.copy()) for v in given))
        except Exception as error:
            raise ModelError(f"{path}: what was read does not run on {images} images: "
                             f"{one_line(error)}") from error  # fmt: skip
    worst, name = _worst(network, made, lambda place: [part[place] for part in parts])
    if worst <= TOLERANCE:
        return
    place = network.outputs.index(name)
    own_shape, shape = list(_outputs(network, made)[place].shape), list(parts[0][place].shape)
    if len(parts) == 1 and own_shape != shape:
        raise ModelError(
            f"{path}: output '{name}' is {shape} in ONNX Runtime and {own_shape} as read, where "
            "the images of a batch keep a dimension; export it so that they do"
        )
    # A variance as E[x*x] - E[x]*E[x] loses all digits of nearly constant values, in any runtime.
    precise = _in_float64(network, given)
    own = float("nan") if precise is None else _worst(
        network, made, lambda place: [_outputs(network, precise)[place].numpy()]
    )[0]  # fmt: skip
    if not worst <= min(_ROUNDING * own, _MOST):
        raise ModelError(
            f"{path}: output '{name}' is not ONNX Runtime's on {images} images, by {worst:.2g} of "
            f"its range; at most {TOLERANCE:g} is accepted"
        )


def _worst(
    network: ImportedNetwork, made: Any, wanted: Callable[[int], list[NDArray[Any]]]
) -> tuple[float, str]:
    """The largest difference of all outputs, and which output has it."""
    worst, name = 0.0, ""
    for place, values in enumerate(_outputs(network, made)):
        different = _difference(wanted(place), values.numpy())
        if different > worst:
            worst, name = different, network.outputs[place]
    return worst, name


def _outputs(network: ImportedNetwork, made: Any) -> list[torch.Tensor]:
    return [made[n] for n in network.outputs] if isinstance(made, dict) else [made]


def _in_float64(network: ImportedNetwork, given: list[NDArray[Any]]) -> Any:
    """What the network gives without rounding to float32, or None where a function refuses."""
    module = copy.deepcopy(network.module).double()
    inputs = (torch.from_numpy(v.astype(np.float64) if v.dtype == np.float32 else v) for v in given)
    try:
        with torch.no_grad():
            return _Float64(module).run(*inputs)
    except Exception:  # such as a function that has no float64
        return None


class _Float64(fx.Interpreter):
    """Runs a network with every float32 that it makes as float64."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        wide = isinstance(result, torch.Tensor) and result.dtype == torch.float32
        return result.double() if wide else result


def _difference(wanted: list[NDArray[Any]], own: NDArray[Any]) -> float:
    """The largest difference of an output, of its range; infinite where shapes differ."""
    joined = wanted[0]
    if len(wanted) > 1 and own.shape != joined.shape:
        axes = [
            a
            for a in range(own.ndim)
            if own.ndim == joined.ndim and own.shape[a] != joined.shape[a]
        ]
        if len(axes) != 1:
            return float("inf")
        joined = np.concatenate(wanted, axes[0])
    if own.shape != joined.shape:
        return float("inf")
    if not joined.size:
        return 0.0
    first, second = joined.astype(np.float64), own.astype(np.float64)
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return float("inf")
    if not finite.any():
        return 0.0
    first, second = first[finite], second[finite]
    size = max(float(np.ptp(first)), _LEAST_RANGE * max(float(np.abs(first).max()), 1.0))
    return float(np.abs(first - second).max()) / size


def _session(path: Path, model: onnx.ModelProto, outputs: Sequence[str]) -> Any:
    """The file in ONNX Runtime; where its end is left out, with what that reads as outputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    given: str | bytes = str(path)
    inner = set(outputs) - {info.name for info in model.graph.output}
    try:
        if inner:
            given = _ending_at(model, outputs).SerializeToString()
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path}: ONNX Runtime cannot open it: {one_line(error)}") from None


def _ending_at(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """A file without its end, which may not run on random images."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph, needed = whole.graph, set(outputs)
    for node in reversed(model.graph.node):  # they stand in the order of execution
        if needed.intersection(node.output):
            needed.update(name for inner in (node, *_within(node)) for name in inner.input)
    kept = [node for node in model.graph.node if needed.intersection(node.output)]
    known = {info.name: info for info in model.graph.output}
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    return whole


def _within(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes of the graphs in a node."""
    return [one for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH
            for one in all_nodes(attribute.g)]  # fmt: skip


def _inputs(session: Any, network: ImportedNetwork) -> list[Any]:
    known = {one.name: one for one in session.get_inputs()}
    return [known[name] for name in network.inputs]


def _values(generator: Any, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    types: dict[str, Any] = {"tensor(float)": np.float32, "tensor(double)": np.float64,
                             "tensor(int64)": np.int64, "tensor(int32)": np.int32,
                             "tensor(bool)": bool, "tensor(uint8)": np.uint8,
                             "tensor(int8)": np.int8}  # fmt: skip
    values = generator.random(shape) if "float" in kind or "double" in kind else (
        generator.integers(0, 2, shape)
    )  # fmt: skip
    found: NDArray[Any] = np.asarray(values).astype(types[kind])
    return found
