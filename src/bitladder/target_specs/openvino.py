"""OpenVINO on the CPU, as laptops and servers of one vendor run networks."""

from typing import Literal, get_args

from bitladder.target_specs.record import TargetSpec

OpenvinoVersion = Literal["fast"]

TARGET = TargetSpec(
    name="openvino",
    title="OpenVINO",
    open="bitladder.targets.openvino:open_session",
    packages=("openvino",),
    extra="openvino",
    versions=get_args(OpenvinoVersion),
    timed=True,
)
