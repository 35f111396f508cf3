"""From a simulated network to files: QDQ ONNX of any precision, float ONNX, encodings, sizes."""

from bitladder.deploy.encodings import Encoding, read_encodings
from bitladder.deploy.export import export_float, export_qdq
from bitladder.deploy.qdq import quantize_graph
from bitladder.deploy.sizes import Sizes, sizes

__all__ = [
    "Encoding",
    "Sizes",
    "export_float",
    "export_qdq",
    "quantize_graph",
    "read_encodings",
    "sizes",
]
