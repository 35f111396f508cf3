"""The Hexagon HTP of Qualcomm's chips, as its emulator computes."""

from typing import Literal, get_args

from bitladder.target_specs.record import Dialect, TargetSpec

HtpVersion = Literal["v68", "v69", "v73", "v75", "v79", "v81"]

TARGET = TargetSpec(
    name="htp",
    title="HTP emulator",
    open="bitladder.targets.htp:open_session",
    packages=("onnxruntime-qnn",),
    extra="qnn",
    dialect=Dialect("model.htp.onnx", int4=True, one_sign=True, weights=("int8",)),
    versions=get_args(HtpVersion),
    containers=(8, 16),
    images=500,
    cost="up to half a second an image",
)
