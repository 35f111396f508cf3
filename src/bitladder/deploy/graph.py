"""Make a traced ONNX graph plain: constants folded, any batch size, nothing left that is unread."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from onnx import numpy_helper
from onnxscript import optimizer

TRACED_BATCH = 5
"""Images a network is traced with: a number that is unlikely to be anything but the batch."""


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with constants folded and its batch size free.

    Shapes that tracing wrote out (``x.view(batch, groups, ...)``) are folded at ``TRACED_BATCH``
    images; a Reshape to that batch then copies its input's instead (ONNX: a 0 in the shape). The
    names of all tensors that stay are kept, since encodings refer to them.
    """
    intermediate = onnx_ir.from_proto(model)
    optimizer.fold_constants(intermediate, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(intermediate)
    folded = onnx_ir.to_proto(intermediate)
    _constants_to_initializers(folded.graph)
    _free_batch(folded.graph)
    del folded.graph.value_info[:]
    return folded


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The graph's constants by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes, and identities of constants, into initializers of their names."""
    constants = initializers(graph)
    kept = []
    for node in graph.node:
        if node.op_type == "Constant":
            value = onnx.TensorProto()
            value.CopyFrom(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in constants:
            value = onnx.TensorProto()
            value.CopyFrom(constants[node.input[0]])
        else:
            kept.append(node)
            continue
        value.name = node.output[0]
        constants[value.name] = value
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in read)


def _free_batch(graph: onnx.GraphProto) -> None:
    constants = initializers(graph)
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if len(shape) and shape[0] == TRACED_BATCH:
            shape[0] = 0
            name = f"{node.output[0]}_shape"  # the constant may have other readers
            graph.initializer.append(numpy_helper.from_array(shape.astype(np.int64), name))
            node.input[1] = name
            del node.attribute[:]  # allowzero would read the 0 as a size
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
