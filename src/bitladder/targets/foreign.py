"""Post-training quantization of an ONNX file of any origin, by ONNX Runtime's own quantizer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bitladder.errors import TargetError
from bitladder.targets.htp import QnnInput

WEIGHT_BITS, ACTIVATION_BITS = (4, 8), (8, 16)
_WARNINGS, _ERRORS = 2, 3  # severities of ONNX Runtime; it begins with warnings


def graph_inputs(artifact: Path) -> tuple[QnnInput, ...]:
    """The inputs of an ONNX file.

    Raises:
        TargetError: it is not one.
    """
    graph = _load(artifact).graph
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for given in graph.input:
        if given.name in constants:
            continue
        tensor = given.type.tensor_type
        shape = tuple(size.dim_value or size.dim_param or "?" for size in tensor.shape.dim)
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        name = "float" if kind == "float32" else kind
        found.append(QnnInput(given.name, shape, f"tensor({name})"))
    return tuple(found)


def quantize_onnx(
    artifact: Path,
    path: Path,
    calibration: Iterable[list[NDArray[Any]]],
    *,
    weights: int = 8,
    activations: int = 8,
) -> None:
    """Quantize a float ONNX file from what its activations are on calibration inputs.

    Weights of convolutions get a scale a channel, all else one a tensor.

    Args:
        artifact: the float ONNX file.
        path: the QDQ ONNX file to write, for ``htp``.
        calibration: arrays in the order of the model's inputs, a list an inference.
        weights: bits, 4 or 8.
        activations: bits, 8 or 16.

    Raises:
        TargetError: no such bits, no calibration inputs, or the file cannot be quantized.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import (
        get_qnn_qdq_config,
        qnn_preprocess_model,
    )

    for kind, bits, able in (
        ("weights", weights, WEIGHT_BITS),
        ("activations", activations, ACTIVATION_BITS),
    ):
        if bits not in able:
            raise TargetError(f"{bits}-bit {kind}: the HTP has {able[0]} and {able[1]} bit")
    names = [given.name for given in graph_inputs(artifact)]
    if any(node.op_type == "DequantizeLinear" for node in _load(artifact).graph.node):
        raise TargetError(f"{artifact}: is quantized already; 'bitladder dlc convert' takes it")
    lines = iter(calibration)
    first = next(lines, None)
    if first is None:
        raise TargetError("there are no calibration inputs; give at least one")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The calibration inputs, one after the other."""

        def __init__(self) -> None:
            self.left = _chain(first, lines)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            line = next(self.left, None)
            return None if line is None else dict(zip(names, line, strict=True))

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        try:
            if not qnn_preprocess_model(str(artifact), str(prepared)):
                prepared = artifact
            config = get_qnn_qdq_config(
                str(prepared),
                Reader(),
                activation_type=QuantType.QUInt8 if activations == 8 else QuantType.QUInt16,
                weight_type=QuantType.QInt8,
                per_channel=True,
                init_overrides=_int4(prepared) if weights == 4 else None,
            )
            quantize(str(prepared), str(path), config)
        except OSError as error:
            raise TargetError(f"{path}: cannot write: {error.strerror or error}") from None
        except Exception as error:  # the quantizer raises what its parts raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise TargetError(f"{artifact}: cannot quantize it: {reason}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, and its sessions' warnings, off the standard error."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(_ERRORS)
    try:
        yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(_WARNINGS)


def _chain(
    first: list[NDArray[Any]] | None, others: Iterator[list[NDArray[Any]]]
) -> Iterator[list[NDArray[Any]]]:
    if first is not None:
        yield first
    yield from others


def _int4(artifact: Path) -> dict[str, list[dict[str, Any]]]:
    """Four bits for the weights of convolutions, a scale a channel; the HTP takes no others."""
    from onnxruntime.quantization import QuantType

    graph = _load(artifact).graph
    constants = {tensor.name for tensor in graph.initializer}
    return {
        node.input[1]: [{"quant_type": QuantType.QInt4, "axis": 0, "symmetric": True}]
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    }


def _load(artifact: Path) -> onnx.ModelProto:
    try:
        return onnx.load(artifact)
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None


def image_lines(images: NDArray[np.float32]) -> Iterator[list[NDArray[Any]]]:
    """Images (N, C, H, W) as inputs, one an inference."""
    for index in range(len(images)):
        yield [images[index : index + 1]]
