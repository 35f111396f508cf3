"""LiteRT, Android's own runtime, on the CPU with XNNPACK's kernels.

The demands on grids are those of LiteRT's 8-bit quantization specification,
https://ai.google.dev/edge/litert/models/quantization_spec, and of its 16x8 form.
"""

from bitladder.target_specs.record import GridRules, TargetSpec

_POSITIVE = {8: (0.0, 255 / 256), 16: (-1.0, 32767 / 32768)}
_AROUND_ZERO = {8: (-1.0, 127 / 128), 16: (-1.0, 32767 / 32768)}

TARGET = TargetSpec(
    name="litert",
    title="LiteRT",
    open="bitladder.targets.litert:open_session",
    open_integer="bitladder.targets.litert:open_integer",
    packages=("ai-edge-litert",),
    extra="litert",
    grids=GridRules(
        symmetric_above=8,
        joined=True,
        fixed={"Sigmoid": _POSITIVE, "Softmax": _POSITIVE, "Tanh": _AROUND_ZERO},
    ),
    containers=(8, 16),
    file_title=".tflite file",
    file_size="bitladder.targets.litert:file_size",
)
