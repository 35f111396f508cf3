"""What operators are written with: values of a graph, a call of an operator, and the writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph that is written.

    Attributes:
        name: of the tensor in the ONNX graph, before its grid is applied.
        sizes: its shape when the network was run on two images.
        free: for each dimension, whether it grows with the batch.
        constant: what it holds, where images and batch do not change it.
        floating: whether it holds real numbers.
    """

    name: str
    sizes: tuple[int, ...]
    free: tuple[bool, ...]
    constant: NDArray[Any] | None = None
    floating: bool = True

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.sizes)


Input = Value | str
"""A tensor to read, or the name of one that was just written."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operator called in the traced graph.

    Attributes:
        name: of the node.
        function: what it calls, if that is a function or method.
        module: what it calls, if that is a module.
        args: tensors as ``Value``, everything else as it was when two images ran.
        kwargs: likewise.
        results: shapes and kinds of its results, one unless it returns several.
    """

    name: str
    function: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: tuple[Value, ...]

    @property
    def x(self) -> Value:
        """The first tensor, also of a list."""
        value = self.args[0] if self.args else next(iter(self.kwargs.values()))
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if not isinstance(value, Value):
            raise CannotWriteError("its first argument is no tensor")
        return value

    @property
    def result(self) -> Value:
        """What it returns, if that is one tensor."""
        return self.results[0]

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """An argument that was given by its place or by its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


class Writer(Protocol):
    """Writes ONNX nodes; a value that is read is read on its grid.

    Attributes:
        whole: write an operator as the one node that ONNX has for it, for readers that know its
            kernel, such as the HTP; otherwise as the operations that PyTorch rounds one by one.
        htp: write what the HTP's kernels compute right, where they do not compute what ONNX says.
    """

    whole: bool
    htp: bool

    def node(
        self,
        kind: str,
        inputs: Sequence[Input | None],
        *,
        outputs: int = 1,
        name: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Write a node and return the names of its outputs."""

    def one(self, kind: str, inputs: Sequence[Input | None], **attributes: Any) -> str:
        """Write a node of one output and return its name."""

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Write a constant that no grid holds, and return its name."""

    def parameter(self, call: Call, name: str, shape: Sequence[int] | None = None) -> str | None:
        """A parameter of the call's module on its grid, or None where it has none."""

    def bias(self, call: Call) -> str | None:
        """The bias of the call's layer as integers of input times weight, if it is on integers."""

    def number(self, call: Call, value: float) -> str:
        """A Python number beside a tensor: exactly one step of a grid, or float."""

    def is_broadcast(self, call: Call) -> bool:
        """Whether all that reads a call's result repeats it by itself, beside a tensor as large."""

    def htp_bits(self, call: Call) -> int:
        """Bits of the integers of a call's result, for the HTP; 0 for all else."""

    def made_by(self, value: Value) -> str:
        """The ONNX operator that makes a value, or nothing where none does."""

    def batch(self) -> str:
        """The number of images as an int64 of shape (1,)."""

    def moved(self, call: Call, source: Value, name: str) -> str:
        """Put an intermediate value that only moved back on the grid of where it comes from."""

    def rounded(self, call: Call, name: str) -> str:
        """Put an intermediate value on the grid of the call's output, after which it only moves."""


class CannotWriteError(Exception):
    """No file can hold this operator with these attributes; the text says which."""


def along_dimension(w: Writer, made: Input, axis: int, count: int, matrix: NDArray[Any]) -> str:
    """Multiply a matrix to one of the ``count`` dimensions of images.

    Args:
        w: the writer.
        made: the images, (N, C, ...).
        axis: number of the dimension, from 0 behind the channels.
        count: of dimensions behind the channels.
        matrix: float32, (values of the result, values of the image).
    """
    if axis == count - 1:
        return w.one("MatMul", [made, w.constant(matrix.T.copy())])
    if axis == count - 2:
        return w.one("MatMul", [w.constant(matrix), made])
    order = [*range(2 + count)]
    order[2 + axis], order[-1] = order[-1], order[2 + axis]
    turned = w.one("Transpose", [made], perm=order)
    return w.one("Transpose", [w.one("MatMul", [turned, w.constant(matrix.T.copy())])], perm=order)
