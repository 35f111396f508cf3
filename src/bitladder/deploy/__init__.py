"""From a simulated network to files: QDQ ONNX of any precision, float ONNX, encodings, sizes."""

from bitladder.deploy.byte_inputs import as_bytes
from bitladder.deploy.description import Description, parse_description, read_description
from bitladder.deploy.encoded import encoded, write_encoded
from bitladder.deploy.encodings import Encoding
from bitladder.deploy.encodings_file import read_encodings
from bitladder.deploy.export import INTEGER_BIASES, Traced
from bitladder.deploy.saturation import can_saturate, saturating_layers
from bitladder.deploy.sizes import Sizes, sizes

__all__ = [
    "INTEGER_BIASES",
    "Description",
    "Encoding",
    "Sizes",
    "Traced",
    "as_bytes",
    "can_saturate",
    "encoded",
    "parse_description",
    "read_description",
    "read_encodings",
    "saturating_layers",
    "sizes",
    "write_encoded",
]
