"""What a file of any origin says of its inputs."""

from __future__ import annotations

from pathlib import Path

import onnx

from bitladder.errors import TargetError
from bitladder.outside import read_onnx
from bitladder.targets.htp import QnnInput


def graph_inputs(artifact: Path) -> tuple[QnnInput, ...]:
    """The inputs of an ONNX file.

    Raises:
        TargetError: it is not one.
    """
    graph = read_onnx(artifact, external=False, refusal=TargetError).graph
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for given in graph.input:
        if given.name in constants:
            continue
        tensor = given.type.tensor_type
        shape = tuple(
            size.dim_value if size.dim_value > 0 else size.dim_param or "?"
            for size in tensor.shape.dim
        )
        try:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        except KeyError:
            raise TargetError(
                f"{artifact}: input '{given.name}' has a type that is not a number"
            ) from None
        name = "float" if kind == "float32" else kind
        found.append(QnnInput(given.name, shape, f"tensor({name})"))
    return tuple(found)


def takes_bytes(artifact: Path) -> tuple[bool, ...]:
    """Whether each input of a file is of bytes.

    Raises:
        TargetError: it cannot be read.
    """
    if artifact.suffix == ".tflite":
        from bitladder.deploy.litert import read_tflite

        described = read_tflite(artifact)
        return tuple(described.tensors[place].dtype == "UINT8" for place in described.inputs)
    return tuple(given.type == "tensor(uint8)" for given in graph_inputs(artifact))
