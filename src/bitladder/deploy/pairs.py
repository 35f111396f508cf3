"""Pairs of QuantizeLinear and DequantizeLinear that put activations on a grid of any width.

Integers of a width that ONNX has no type for are stored in the next larger type, exactly: a narrow
activation passes two quantizers of one scale, of which the first saturates at the bottom of its
grid and the second, of the other signedness, at the top. ONNX Runtime merges two pairs of one type
in a row into a grid that is neither's, so a pair right behind another always has the other sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.deploy.encodings import Encoding
from bitladder.deploy.onnx_graph import Graph

TYPES: dict[tuple[int, bool], np.dtype[Any]] = {
    (8, False): np.dtype(np.uint8),
    (8, True): np.dtype(np.int8),
    (16, False): np.dtype(np.uint16),
    (16, True): np.dtype(np.int16),
}
"""Integer types by the width of the container and whether they are signed."""


class QuantizePairs:
    """Writes pairs into a graph, and tells what a reader of a value reads.

    Args:
        graph: that is being written.
        one_sign: give both quantizers of a narrow activation one type. The HTP refuses two, where
            ONNX Runtime on the CPU merges two pairs of one type into a grid that is neither's.
    """

    def __init__(self, graph: Graph, *, one_sign: bool = False) -> None:
        self.graph, self.one_sign = graph, one_sign
        self.owners: dict[str, str] = {}  # constants that are scales, by the grids they belong to
        self._grids: dict[str, Encoding] = {}
        self._reads: dict[str, str] = {}
        self._readers: dict[str, int] = {}  # so far, of values in a larger container
        self._signed: dict[str, bool] = {}  # values by the sign of their first pair's integers
        self._types: dict[str, np.dtype[Any]] = {}  # integers that tensors come right from

    def put(self, name: str, source: str, encoding: Encoding) -> None:
        """Put a tensor on a grid; for readers the result is the value ``name``."""
        self._grids[name] = encoding
        wide_on_htp = self.one_sign and encoding.container_bits > 8  # it has no signed ones
        dtype = TYPES[encoding.container_bits, encoding.signed and not wide_on_htp]
        if not self.one_sign and self._types.get(source) == dtype:
            dtype = TYPES[encoding.container_bits, not encoding.signed]
        self._signed[name] = dtype.kind == "i"
        if wide_on_htp and self._is_on_a_grid(source):
            source = self._times_one(name, source)
        zero_point = encoding.zero_point - encoding.integer_min + np.iinfo(dtype).min
        if encoding.narrow:
            self._reads[name] = f"{name}_bottom"
            self._readers[name] = 0
        else:
            self._reads[name] = f"{name}_dequantized"
        self._pair(source, self._reads[name], encoding, zero_point.astype(dtype))

    def hold(self, name: str, tensor: str) -> None:
        """Have readers of a value read a tensor that is on its grid already."""
        self._reads[name] = tensor

    def read(self, name: str) -> str | None:
        """What a reader of a value reads: of a narrow one a saturated copy of its own.

        ONNX Runtime turns int8 into the uint8 of its kernels only where there is one reader.

        Returns:
            A tensor, or None where the value is on no grid.
        """
        if name not in self._readers:
            return self._reads.get(name)
        self._readers[name] += 1
        result = f"{name}_dequantized_{self._readers[name]}"
        encoding = self._grids[name]
        dtype = TYPES[encoding.container_bits, self._signed[name] == self.one_sign]
        zero_point = encoding.zero_point + (np.iinfo(dtype).max - encoding.integer_max)
        self._pair(self._reads[name], result, encoding, zero_point.astype(dtype))
        return result

    def holder(self, name: str) -> str:
        """The tensor that holds a value after its grid."""
        return f"{name}_dequantized_1" if name in self._readers else self._reads.get(name, name)

    def _is_on_a_grid(self, tensor: str) -> bool:
        """Whether a tensor comes right from integers."""
        made = (node for node in reversed(self.graph.nodes) if tensor in node.output)
        return next((node.op_type == "DequantizeLinear" for node in made), False)

    def _times_one(self, name: str, source: str) -> str:
        """A tensor times one, so that a change of the grid is a product.

        The HTP joins a mere change of a 16-bit grid with the convolution that reads it, and gives
        something else.
        """
        scale = self.graph.tensor(f"{name}_one_scale", np.array(2.0**-15, np.float32))
        grid = [scale, self.graph.tensor(f"{name}_one_zero_point", np.array(0, np.uint16))]
        integers = self.graph.tensor(f"{name}_one_integer", np.full(1, 2**15, np.uint16))
        self.graph.add("DequantizeLinear", [integers, *grid], [f"{name}_one"])
        self.graph.add("Mul", [source, f"{name}_one"], [f"{name}_times_one"])
        return f"{name}_times_one"

    def _pair(
        self, source: str, result: str, encoding: Encoding, zero_point: NDArray[np.generic]
    ) -> None:
        grid = [
            self.graph.tensor(scale := f"{result}_scale", encoding.scale),
            self.graph.tensor(f"{result}_zero_point", zero_point),
        ]
        self.owners[scale] = encoding.name
        integers = f"{result}_integers"
        self.graph.add("QuantizeLinear", [source, *grid], [integers])
        self.graph.add("DequantizeLinear", [integers, *grid], [result])
        self.graph.names |= {integers, result}
        self._types[result] = zero_point.dtype
