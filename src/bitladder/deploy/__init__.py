"""From a simulated network to files: QDQ ONNX, float ONNX, encodings."""

from bitladder.deploy.onnx_export import (
    Sizes,
    export_encodings,
    export_float,
    export_qdq,
    sizes,
)

__all__ = ["Sizes", "export_encodings", "export_float", "export_qdq", "sizes"]
