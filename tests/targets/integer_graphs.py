"""QDQ graphs written node by node, with random grids and weights, for tests of arithmetic."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bitladder.targets import integer_session, open_target
from bitladder.targets.onnxruntime_cpu import _open
from small_network import only

DOMAIN = "com.microsoft"


class Graph:
    """Nodes of a graph of one input ``image``; every method returns the name of what it adds.

    Attributes:
        random: of all grids, weights and choices.
        dtype: of the activations' integers.
        shape: of the input.
    """

    def __init__(self, shape, dtype, seed):
        self.random, self.dtype, self.shape = np.random.default_rng(seed), np.dtype(dtype), shape
        self.nodes, self.tensors, self.count = [], {}, 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def const(self, value):
        name = self.name()
        self.tensors[name] = np.asarray(value)
        return name

    def numbers(self, *shape):
        """Random real constants."""
        return self.const(self.random.normal(0, 1, shape).astype(np.float32))

    def op(self, kind, *inputs, outputs=1, **attributes):
        made = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, **attributes))
        return made[0] if outputs == 1 else made

    def grid(self, width, zero=None):
        """Scale and zero point: a range of a width; the zero point is random, or so far up."""
        info = np.iinfo(self.dtype)
        at = self.random.integers(10, 200) if zero is None else zero
        at = at * (info.max - info.min) // 255
        scale = np.float32(width / (info.max - info.min))
        return self.const(scale), self.const(np.asarray(info.min + at, self.dtype))

    def on(self, x, grid):
        """Values rounded to a grid."""
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def given(self, x="image", width=6.0):
        """An input on a grid of its own."""
        return self.on(x, self.grid(width * self.random.uniform(0.7, 1.1)))

    def output(self, x, width, zero=None):
        return self.on(x, self.grid(width, zero))

    def again(self, x):
        """Values on the grid that the last ones lay on."""
        return self.on(x, self.nodes[-2].input[1:])

    def weight(self, shape, axis=None, kind=None):
        """Random integers, int8 or uint8 around 128, with one scale or one for each along an axis.

        The biases of a layer behind an input have the same number of scales.
        """
        kinds = [np.int8, np.uint8] if self.dtype == np.uint8 else [np.int8]
        kind = np.dtype(kind or self.random.choice(kinds))
        info = np.iinfo(kind)
        values = self.random.integers(info.min, info.max + 1, shape).astype(kind)
        size = () if axis is None else (shape[axis],)
        scale = self.random.uniform(0.01, 0.02, size).astype(np.float32)
        inputs = [values, scale, np.full(size, info.min + 128, kind)]
        attributes = {} if axis is None else {"axis": axis}
        return self.op("DequantizeLinear", *map(self.const, inputs), **attributes)

    def bias(self, weight, count, largest):
        """An int32 at the scale of the first input times the weight's."""
        makers = {node.output[0]: node for node in self.nodes}
        given = next(node.input[1] for node in self.nodes if node.op_type == "QuantizeLinear")
        scale = self.tensors[given] * self.tensors[makers[weight].input[1]]
        values = self.random.integers(-largest, largest, count).astype(np.int32)
        inputs = [values, scale, np.zeros(scale.shape, np.int32)]
        attributes = {"axis": 0} if scale.ndim else {}
        return self.op("DequantizeLinear", *map(self.const, inputs), **attributes)

    def one_of(self, *choices):
        return choices[int(self.random.integers(len(choices)))]


def both(graph, output, path, images):
    """What ONNX Runtime computes, what the integer arithmetic does, and which nodes are run."""
    nodes = [*graph.nodes, helper.make_node("Identity", [output], ["logits"])]
    tensors = [numpy_helper.from_array(value, name) for name, value in graph.tensors.items()]
    free = ["n", *graph.shape[1:]]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        tensors,
    )
    opset = 20 if graph.dtype.itemsize == 1 else 21
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    onnx.save(helper.make_model(made, opset_imports=imports, ir_version=10), path)
    theirs = only(open_target("onnxruntime", path, threads=1).run(images))
    executed = {node.op_type for node in _open(path, 1)[1].node}
    return theirs, only(integer_session(path).run(images)), executed
