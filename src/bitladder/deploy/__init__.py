"""From a simulated network to files: QDQ ONNX of any precision, float ONNX, encodings, sizes."""

from bitladder.deploy.encodings import Encoding, read_encodings
from bitladder.deploy.export import INTEGER_BIASES, Traced
from bitladder.deploy.saturation import can_saturate, saturating_layers
from bitladder.deploy.sizes import Sizes, sizes

__all__ = [
    "INTEGER_BIASES",
    "Encoding",
    "Sizes",
    "Traced",
    "can_saturate",
    "read_encodings",
    "saturating_layers",
    "sizes",
]
