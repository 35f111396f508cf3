"""LiteRT, Android's own runtime, on the CPU with XNNPACK's kernels.

The demands on grids are those of LiteRT's 8-bit quantization specification,
https://ai.google.dev/edge/litert/models/quantization_spec, and of its form with 16-bit activations.
There the fixed grids of functions are left out: their kernels interpolate in a table, while on any
other grid the function runs in float and rounds once.
"""

from bitladder.target_specs.record import GridRules, TargetSpec

_SHARE = (0.0, 255 / 256)

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
        fixed={"Sigmoid": _SHARE, "Softmax": _SHARE, "Tanh": (-1.0, 127 / 128)},
    ),
    containers=(8, 16),
    file_title=".tflite file",
    file_size="bitladder.targets.litert:file_size",
)
