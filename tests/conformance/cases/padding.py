"""Padding in every mode, with values, negative, asymmetric."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("padding")
C = 8

for _name, _operation, _build in (
    ("zero", "ZeroPad2d", lambda: nn.ZeroPad2d(1)),
    ("zero_asymmetric", "ZeroPad2d", lambda: nn.ZeroPad2d((0, 1, 2, 0))),
    ("constant", "ConstantPad2d", lambda: nn.ConstantPad2d(1, 1.5)),
    ("constant_negative_value", "ConstantPad2d", lambda: nn.ConstantPad2d((1, 0, 1, 0), -4.0)),
    ("constant_small", "ConstantPad2d", lambda: nn.ConstantPad2d(1, 0.123)),
    ("reflection", "ReflectionPad2d", lambda: nn.ReflectionPad2d(2)),
    ("replication", "ReplicationPad2d", lambda: nn.ReplicationPad2d((1, 2, 0, 1))),
    ("circular", "CircularPad2d", lambda: nn.CircularPad2d(1)),
    ("cropping", "ZeroPad2d", lambda: nn.ZeroPad2d(-1)),
):
    family.layer(_name, _operation, _build, quick=_name in ("constant", "reflection"))

for _name, _operation, _compute in (
    ("functional", "pad", lambda x: F.pad(x, (1, 1, 1, 1))),
    ("functional_asymmetric", "pad", lambda x: F.pad(x, (0, 1, 0, 1))),
    ("functional_value", "pad", lambda x: F.pad(x, (1, 1, 1, 1), value=1.5)),
    ("functional_value_positional", "pad", lambda x: F.pad(x, (1, 1), "constant", 10.0)),
    ("functional_reflect", "pad", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    ("functional_replicate", "pad", lambda x: F.pad(x, [2, 0, 1, 1], "replicate")),
    ("functional_circular", "pad", lambda x: F.pad(x, (1, 1, 1, 1), mode="circular")),
    ("channels", "pad", lambda x: F.pad(x, (0, 0, 0, 0, 2, 2))),
    (
        "channels_by_half",
        "pad",
        lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0),
    ),
    ("negative", "pad", lambda x: F.pad(x, (-1, 1, 0, -2))),
    ("value_of_positive", "pad relu", lambda x: F.pad(F.relu(x), (1, 1, 1, 1), value=-1.0)),
    ("value_of_positive_zero", "pad relu", lambda x: F.pad(F.relu(x), (1, 1, 1, 1))),
    (
        "minus_infinity_pool",
        "pad max_pool2d",
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=float("-inf")), 2),
    ),
    ("by_size", "pad", lambda x: F.pad(x, (0, 10 - x.shape[3], 0, 10 - x.shape[2]))),
    ("to_same_size", "pad cat", lambda x: torch_cat(x)),
):
    family.apply(_name, _operation, _compute, quick=_name == "functional_value")


def torch_cat(x):
    small = x[:, :, 1:, 1:]
    up = F.pad(small, [(x.size(3) - small.size(3)) // 2, 1, 1, (x.size(2) - small.size(2)) // 2])
    return torch.cat([x, up], 1)


family.add(
    "then_conv",
    "pad Conv2d",
    lambda: Body(lambda m, x: m.conv(F.pad(x, (0, 1, 0, 1))), conv=nn.Conv2d(C, 6, 3, stride=2)),
)
family.add(
    "then_depthwise",
    "ZeroPad2d Conv2d",
    lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(C, C, 3, stride=2, groups=C), nn.ReLU6()
    ),
)
family.add(
    "reflect_then_conv",
    "ReflectionPad2d Conv2d",
    lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(C, 6, 3), nn.ReLU()),
)
family.add(
    "value_then_conv",
    "ConstantPad2d Conv2d",
    lambda: nn.Sequential(nn.ConstantPad2d(1, 2.0), nn.Conv2d(C, 6, 3), nn.ReLU()),
)
family.add(
    "value_then_relu6",
    "ConstantPad2d ReLU6",
    lambda: nn.Sequential(nn.ConstantPad2d(1, 8.0), nn.ReLU6()),
)
family.add(
    "then_average",
    "pad avg_pool2d",
    lambda: Body(lambda m, x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3)),
)
family.add(
    "then_max",
    "pad max_pool2d",
    lambda: Body(lambda m, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)),
)
family.add(
    "of_images",
    "pad",
    lambda: Body(lambda m, x: m.conv(F.pad(x, (1, 1, 1, 1))), conv=nn.Conv2d(3, 6, 3)),
    front="none",
)
family.add(
    "value_of_images",
    "pad",
    lambda: Body(lambda m, x: m.conv(F.pad(x, (1, 1, 1, 1), value=0.5)), conv=nn.Conv2d(3, 6, 3)),
    front="none",
)
