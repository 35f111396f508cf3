"""Options of the export: what is written beside the ONNX files."""

from __future__ import annotations

from typing import Literal

from bitladder.options.base import Options
from bitladder.options.data import InputType
from bitladder.target_specs.htp import HtpVersion

EncodingsVersion = Literal["0.6.1", "1.0.0", "2.0.0"]
"""Forms of AIMET's JSON."""
WeightType = Literal["int8", "uint8", "auto"]
"""How files for ONNX Runtime hold weights of up to 8 bit."""


class ExportOptions(Options):
    """Files of a cell beyond float ONNX, its encodings, and QDQ ONNX."""

    input: InputType = "float"
    """What files take of an image: ``float``, its pixels in 0 to 1; or ``uint8``, its bytes, and \
the grid of bytes (scale 1/255, zero point 0) at every precision: no loss at all."""
    encodings: EncodingsVersion = "2.0.0"
    """Version of AIMET's encodings file."""
    dlc: bool = False
    """Write the float and the quantized network as .dlc, and compare it with the QDQ ONNX."""
    context: HtpVersion | None = None
    """Compile the quantized network for this version of the Hexagon HTP."""
    weights: WeightType = "int8"
    """How model.onnx holds weights of up to 8 bit: ``int8``, ``uint8`` (the same plus 128), or
    ``auto``, which is uint8 where int8 could saturate on an x86 processor without VNNI."""
