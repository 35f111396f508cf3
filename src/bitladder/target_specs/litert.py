"""LiteRT, Android's own runtime, on the CPU with XNNPACK's kernels."""

from bitladder.target_specs.record import TargetSpec

TARGET = TargetSpec(
    name="litert",
    title="LiteRT",
    open="bitladder.targets.litert:open_session",
    open_integer="bitladder.targets.litert:open_integer",
    packages=("ai-edge-litert",),
    extra="litert",
    containers=(8, 16),
    file_title=".tflite file",
    file_size="bitladder.targets.litert:file_size",
)
