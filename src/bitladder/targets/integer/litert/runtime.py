"""LiteRT's interpreter where the arithmetic asks it: which operators run where, and float ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bitladder.deploy.litert.schema import MISSING, schema
from bitladder.errors import TargetError
from bitladder.targets.integer.litert.operator import Array, File, Operator
from bitladder.targets.native_output import without_lines

Kernels = Literal["xnnpack", "builtin", "reference"]
_RESOLVERS = {
    "xnnpack": "BUILTIN",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
_OF_EVERY_FIRST = b"INFO: Created TensorFlow Lite XNNPACK delegate"
"""What the first interpreter of a process prints; nothing turns it off."""


def interpreter(content: bytes, kernels: Kernels, threads: int = 1) -> Any:
    """LiteRT's interpreter of a file, its tensors allocated.

    Raises:
        TargetError: LiteRT is not installed, or refuses the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        raise TargetError(MISSING) from None
    try:
        with without_lines(_OF_EVERY_FIRST):
            made: Any = Interpreter(
                model_content=content,
                experimental_op_resolver_type=getattr(OpResolverType, _RESOLVERS[kernels]),
                num_threads=threads or None,
            )
            made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise TargetError(f"LiteRT refuses it: {' '.join(str(error).split())}") from None
    return made


def delegated(content: bytes, file: File) -> set[int]:
    """Numbers of the operators that XNNPACK runs: those between its inputs and outputs."""
    steps = interpreter(content, "xnnpack")._get_ops_details()
    makers = {made.place: one for one in file.operators for made in one.outputs}
    found: set[int] = set()
    for step in steps:
        if step["op_name"] != "DELEGATE":
            continue
        entering, open_ = set(map(int, step["inputs"])), list(map(int, step["outputs"]))
        while open_:
            maker = makers.get(place := open_.pop())
            if place in entering or maker is None or maker.number in found:
                continue
            found.add(maker.number)
            open_ += [one.place for one in maker.inputs if one is not None]
    return found


class RuntimeOperator:
    """An operator that computes in float, in a file of its own, image by image.

    Args:
        file: that it is of.
        kernels: whose kernels run the file.

    Raises:
        TargetError: LiteRT does not take it by itself.
    """

    def __init__(self, file: File, op: Operator, kernels: Kernels) -> None:
        self._interpreter = interpreter(_alone(file, op), kernels)
        self._inputs = [one["index"] for one in self._interpreter.get_input_details()]
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]

    def __call__(self, op: Operator, given: Sequence[Any]) -> tuple[Array, ...]:
        """Its outputs; the leading dimension holds the images."""
        free = list(
            {
                one.place: values
                for one, values in zip(op.inputs, given, strict=True)
                if one is not None and one.values is None
            }.values()
        )
        made = []
        for row in zip(*free, strict=True):
            for place, values in zip(self._inputs, row, strict=True):
                self._interpreter.set_tensor(place, np.ascontiguousarray(values[None]))
            self._interpreter.invoke()
            made.append([self._interpreter.get_tensor(place) for place in self._outputs])
        return tuple(np.concatenate(one) for one in zip(*made, strict=True))


def _alone(file: File, op: Operator) -> bytes:
    """A file of one operator, with its constants."""
    import flatbuffers

    s, whole = schema(), file.model.subgraphs[0]
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.operatorCodes = file.model.version, file.model.operatorCodes
    model.buffers, model.subgraphs = file.model.buffers, [graph]
    graph.tensors, graph.operators = whole.tensors, [whole.operators[op.number]]
    free = [one.place for one in op.inputs if one is not None and one.values is None]
    graph.inputs, graph.outputs = list(dict.fromkeys(free)), [one.place for one in op.outputs]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
