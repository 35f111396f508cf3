"""What is constant in a file, computed once, and no more of it than the file's size allows."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from bitladder.models.onnx_file.builder import Call, CannotReadError, Value
from bitladder.models.onnx_file.reading import tensors

UNFOLDED = {"Loop", "Scan", "SequenceMap", "SequenceConstruct", "SplitToSequence", "SequenceAt",
            "SequenceEmpty", "SequenceInsert", "SequenceLength", "ConcatFromSequence",
            "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
            "Multinomial"}  # fmt: skip
"""Operators without an end that is known, with results of chance, or of lists of tensors."""
_FREE = 2**26
"""Values that constants may have together, besides ``_TIMES`` times those in the file."""
_TIMES = 4
_SLOW = {"Resize", "Upsample"}  # onnx computes these value by value
_SLOW_LARGEST = 2**20
_SHORT = 1024  # inputs of so many values may be sizes, which decide the result's


class Folding:
    """Computes nodes whose inputs are all known, within a budget for the whole file."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        stored = sum(math.prod(tensor.dims) for tensor in tensors(model.graph))
        self.left = _FREE + _TIMES * stored

    def results(self, call: Call) -> list[Value]:
        """What a node gives.

        Raises:
            CannotReadError: its results would be enormous, which a few numbers in a file can do.
        """
        proto = call.proto
        if proto.op_type == "Dropout":
            return [Value(proto.output[0], call.x.array)]
        whole = self._alone(call)
        self._spend(call, whole)
        feed = {n: v.array for n, v in zip(proto.input, call.inputs, strict=True) if v is not None}
        found = iter(ReferenceEvaluator(whole).run(None, feed))
        return [Value(n, np.asarray(next(found))) if n else Value("") for n in proto.output]

    def _alone(self, call: Call) -> onnx.ModelProto:
        """The node as a network of its own."""
        graph = onnx.GraphProto(name="constant")
        graph.node.append(call.proto)
        known = {n: v for n, v in zip(call.proto.input, call.inputs, strict=True) if v is not None}
        for name, value in known.items():
            assert value.array is not None
            kind = helper.np_dtype_to_tensor_dtype(value.array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, value.array.shape))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in call.proto.output if name)
        whole = onnx.ModelProto(ir_version=self.model.ir_version, graph=graph)
        whole.opset_import.extend(self.model.opset_import)
        return whole

    def _spend(self, call: Call, whole: onnx.ModelProto) -> None:
        """Take the results' sizes, inferred without computing them, from the budget."""
        sized = onnx.ModelProto()
        sized.CopyFrom(whole)
        for name, value in zip(call.proto.input, call.inputs, strict=True):
            if value is not None and value.array is not None and value.array.size <= _SHORT:
                sized.graph.initializer.append(numpy_helper.from_array(value.array, name))
        for info in shape_inference.infer_shapes(sized).graph.output:
            count = math.prod(size.dim_value for size in info.type.tensor_type.shape.dim)
            slow = call.proto.op_type in _SLOW and count > _SLOW_LARGEST
            if slow or count > self.left:
                raise CannotReadError(f"a constant of {count} values")
            self.left -= count


def size_of(call: Call) -> Value:
    """What Shape or Size give for a tensor that is computed from the inputs."""
    sizes = np.asarray(call.x.sizes, np.int64)
    if call.proto.op_type == "Size":
        return Value(call.proto.output[0], np.asarray(sizes.prod(), np.int64))
    start, end = call.attribute("start", 0), call.attribute("end")
    return Value(call.proto.output[0], sizes[start:end])
