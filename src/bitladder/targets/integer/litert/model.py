"""A .tflite, computed operator by operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bitladder.errors import TargetError
from bitladder.targets.integer.litert.elementwise import ELEMENTWISE, clamped
from bitladder.targets.integer.litert.layers import LAYERS
from bitladder.targets.integer.litert.movement import MOVEMENT
from bitladder.targets.integer.litert.operator import Array, Kernel, Operator, read_operators
from bitladder.targets.integer.litert.pooling import POOLING
from bitladder.targets.integer.litert.runtime import Kernels, RuntimeOperator, delegated

KERNELS: dict[str, Kernel] = LAYERS | ELEMENTWISE | POOLING | MOVEMENT
"""What computes each operator on integers."""
_EDGES = {"QUANTIZE", "DEQUANTIZE"}
_TABLES = {"HARD_SWISH", "LOGISTIC", "SOFTMAX", "TANH"}


class LitertModel:
    """A .tflite, computed as LiteRT's kernels do.

    Args:
        content: of the file.
        kernels: ``xnnpack``, where LiteRT's own run what XNNPACK does not take; ``builtin``,
            LiteRT's own; ``reference``, its plain ones.

    Attributes:
        names: of the outputs.

    Raises:
        TargetError: LiteRT refuses the file, or an operation on integers is none whose arithmetic
            is known.
    """

    def __init__(self, content: bytes, kernels: Kernels = "xnnpack") -> None:
        self.file = read_operators(content)
        taken = delegated(content, self.file) if kernels == "xnnpack" else set()
        self.names = self.file.names
        self.constants = {
            one.place: one.values for one in self.file.tensors if one.values is not None
        }
        own = "builtin" if kernels == "xnnpack" else kernels
        self.steps: list[tuple[Operator, Kernel]] = []
        for op in self.file.operators:
            op = replace(op, kernels="xnnpack" if op.number in taken else own)
            self.steps.append((op, self._kernel(op, kernels)))
        free = [one for one in self.file.tensors if one.place not in self.constants]
        self._whole = all(one.shape[:1] == (1,) for one in free)
        self._last_use = {
            one.place: op
            for op, _ in self.steps
            for one in op.inputs
            if one is not None and one.place not in self.file.outputs
        }

    @torch.no_grad()
    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name.

        Raises:
            TargetError: there are more or fewer arrays than inputs.
        """
        if len(inputs) != len(self.file.inputs):
            raise TargetError(f"the file takes {len(self.file.inputs)} inputs, not {len(inputs)}")
        if self._whole:
            made = self._run(list(inputs))
        else:
            rows = [self._run([one[None] for one in row]) for row in zip(*inputs, strict=True)]
            made = [np.concatenate(one) for one in zip(*rows, strict=True)]
        return dict(zip(self.names, made, strict=True))

    def _run(self, inputs: list[Array]) -> list[Array]:
        values = dict(zip(self.file.inputs, inputs, strict=True))
        for op, kernel in self.steps:
            values.update(self._made(op, kernel, values))
            for one in op.inputs:
                if one is not None and op is self._last_use.get(one.place):
                    values.pop(one.place, None)
        everything = {**self.constants, **values}
        return [np.ascontiguousarray(everything[place]) for place in self.file.outputs]

    def _made(self, op: Operator, kernel: Kernel, values: dict[int, Array]) -> dict[int, Array]:
        given = [None if one is None else values.get(one.place, one.values) for one in op.inputs]
        results = kernel(op, given)
        results = results if isinstance(results, tuple) else (results,)
        return {one.place: values for one, values in zip(op.outputs, results, strict=True)}

    def _kernel(self, op: Operator, kernels: Kernels) -> Kernel:
        if op.kind in MOVEMENT or op.kind in _EDGES:
            return KERNELS[op.kind]
        if op.on_integers and op.kind in KERNELS:
            if why := _unknown(op):
                raise op.refuse(why)
            kernel = clamped(op, KERNELS[op.kind])
            if kernel is None:
                raise op.refuse("the activation that is fused with it is no clamp")
            return kernel
        if op.y.dtype == np.float32 and not any(
            one.scale.size for one in op.inputs if one is not None
        ):
            return RuntimeOperator(self.file, op, kernels)
        raise op.refuse("it is not among those that were probed")


def _unknown(op: Operator) -> str:
    """What of an operator was not found out, in words, or nothing."""
    narrow, own = op.y.dtype == np.int8, op.kernels == "builtin"
    if op.kind in _TABLES and not narrow:
        return "its values have 16 bit"
    if op.kind == "SOFTMAX" and op.kernels == "reference":
        return "its exponentials are in fixed point"
    if op.kind == "TRANSPOSE_CONV" and (op.option("padding") == 0 or (narrow and own)):
        return "its padding is SAME, or XNNPACK does not run it"
    fast = op.kind == "MEAN" and narrow and op.kernels != "reference"
    if fast and (own or sorted(op.fixed(1).reshape(-1).tolist()) != [1, 2]):
        return "it is not over height and width, or XNNPACK does not run it"
    return ""
