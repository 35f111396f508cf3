"""ONNX Runtime on the CPU, the reference target."""

from bitladder.target_specs.record import TargetSpec

TARGET = TargetSpec(
    name="onnxruntime",
    title="ONNX Runtime",
    open="bitladder.targets.onnxruntime_cpu:open_session",
    open_precise="bitladder.targets.onnxruntime_cpu:open_precise",
    open_integer="bitladder.targets.onnxruntime_cpu:IntegerSession",
    packages=("onnx", "onnxruntime"),
    timed=True,
)
