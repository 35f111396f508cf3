"""Pooling in windows, adaptive, global; borders that windows share."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("pooling")
C = 8


def _max(name, quick=False, shape=(3, 8, 8), **settings):
    family.layer(
        f"max_{name}", "MaxPool2d", lambda: nn.MaxPool2d(**settings), quick=quick, shape=shape
    )


def _average(name, quick=False, shape=(3, 8, 8), **settings):
    family.layer(
        f"average_{name}", "AvgPool2d", lambda: nn.AvgPool2d(**settings), quick=quick, shape=shape
    )


_max("2", kernel_size=2, quick=True)
_max("3_stride_2_padded", kernel_size=3, stride=2, padding=1)
_max("overlapping", kernel_size=3, stride=1)
_max("dilated", kernel_size=2, dilation=2, stride=1)
_max("asymmetric", kernel_size=(1, 3), stride=(1, 2), padding=(0, 1))
_max("ceil", kernel_size=3, stride=2, ceil_mode=True)
_max("ceil_padded", kernel_size=3, stride=2, padding=1, ceil_mode=True, shape=(3, 9, 7))
_max("ceil_dropped_window", kernel_size=2, stride=3, padding=1, ceil_mode=True, shape=(3, 10, 10))
_average("2", kernel_size=2, quick=True)
_average("3_padded", kernel_size=3, stride=2, padding=1)
_average("3_padded_not_counted", kernel_size=3, stride=2, padding=1, count_include_pad=False)
_average("3_same", kernel_size=3, stride=1, padding=1, count_include_pad=False)
_average("asymmetric", kernel_size=(2, 3), stride=(1, 2), padding=(1, 0))
_average("ceil", kernel_size=3, stride=2, ceil_mode=True, quick=True)
_average("ceil_padded", kernel_size=3, stride=2, padding=1, ceil_mode=True)
_average(
    "ceil_padded_not_counted",
    kernel_size=3,
    stride=2,
    padding=1,
    ceil_mode=True,
    count_include_pad=False,
)
_average(
    "ceil_dropped_window", kernel_size=2, stride=3, padding=1, ceil_mode=True, shape=(3, 10, 10)
)
_average("ceil_not_needed", kernel_size=2, stride=2, ceil_mode=True)
_average("divisor", kernel_size=2, divisor_override=3)
_average("whole_image", kernel_size=8)
_average("one", kernel_size=1, stride=2)
family.apply("max_functional", "max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1))
family.apply(
    "max_functional_keywords",
    "max_pool2d",
    lambda x: F.max_pool2d(x, kernel_size=2, stride=1, ceil_mode=True),
)
family.apply("average_functional", "avg_pool2d", lambda x: F.avg_pool2d(x, 3, 1, 1))
family.apply("average_functional_all", "avg_pool2d", lambda x: F.avg_pool2d(x, x.shape[2:]))
family.apply("max_torch", "max_pool2d", lambda x: torch.max_pool2d(x, 2))
for kind, name in ((nn.AdaptiveAvgPool2d, "average"), (nn.AdaptiveMaxPool2d, "max")):
    for label, size in (
        ("1", 1),
        ("2", 2),
        ("4_2", (4, 2)),
        ("odd", 3),
        ("none", (None, 1)),
        ("same", 8),
        ("larger", 10),
    ):
        family.add(
            f"adaptive_{name}_{label}",
            kind.__name__,
            lambda kind=kind, size=size: kind(size),
            quick=label == "1",
        )
family.apply(
    "adaptive_average_functional", "adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (1, 1))
)
family.apply(
    "adaptive_max_functional", "adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2)
)
family.add(
    "adaptive_1d",
    "AdaptiveAvgPool1d",
    lambda: Body(lambda m, x: m.pool(x.flatten(2)), pool=nn.AdaptiveAvgPool1d(4)),
)
family.add(
    "average_1d",
    "AvgPool1d",
    lambda: Body(lambda m, x: m.pool(x.flatten(2)), pool=nn.AvgPool1d(4, 2)),
)
family.add(
    "max_1d",
    "MaxPool1d",
    lambda: Body(lambda m, x: m.pool(x.flatten(2)), pool=nn.MaxPool1d(3, 2, 1)),
)
family.add(
    "max_3d",
    "MaxPool3d",
    lambda: Body(lambda m, x: m.pool(x.unflatten(1, (2, 4))), pool=nn.MaxPool3d(2)),
)
family.add(
    "average_3d",
    "AvgPool3d",
    lambda: Body(lambda m, x: m.pool(x.unflatten(1, (2, 4))), pool=nn.AvgPool3d(2)),
)
family.add(
    "adaptive_3d",
    "AdaptiveAvgPool3d",
    lambda: Body(lambda m, x: m.pool(x.unflatten(1, (2, 4))), pool=nn.AdaptiveAvgPool3d((2, 4, 1))),
)
family.add(
    "lp_1d",
    "LPPool1d",
    lambda: Body(lambda m, x: m.pool(x.flatten(2)), pool=nn.LPPool1d(2, 4)),
)
family.add(
    "lp_3d",
    "LPPool3d",
    lambda: Body(lambda m, x: m.pool(x.unflatten(1, (2, 4))), pool=nn.LPPool3d(2, 2)),
)
family.layer("lp", "LPPool2d", lambda: nn.LPPool2d(2, 2))
family.layer(
    "fractional",
    "FractionalMaxPool2d",
    lambda: nn.FractionalMaxPool2d(2, output_size=4),
    refused="(?i)fractional|random|computes something else",
)
family.add(
    "unpool",
    "MaxUnpool2d",
    lambda: Body(
        lambda m, x: m.unpool(*m.pool(x)),
        pool=nn.MaxPool2d(2, return_indices=True),
        unpool=nn.MaxUnpool2d(2),
    ),
    refused="cannot simulate",
)
family.add("relu6_average", "ReLU6 AvgPool2d", lambda: nn.Sequential(nn.ReLU6(), nn.AvgPool2d(2)))
family.add("average_relu6", "AvgPool2d ReLU6", lambda: nn.Sequential(nn.AvgPool2d(2), nn.ReLU6()))
family.add("max_relu", "MaxPool2d ReLU", lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU()))
family.add("max_relu6", "MaxPool2d ReLU6", lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU6()))
family.add(
    "max_hardtanh",
    "MaxPool2d Hardtanh",
    lambda: nn.Sequential(nn.MaxPool2d(2), nn.Hardtanh(-0.3, 0.6)),
)
family.add(
    "global_relu",
    "AdaptiveAvgPool2d ReLU",
    lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU()),
)
family.add(
    "two_of_one",
    "MaxPool2d AvgPool2d add",
    lambda: Body(lambda m, x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)),
)
family.add("max_of_images", "MaxPool2d", lambda: nn.MaxPool2d(2), front="none")
family.add("average_of_images", "AvgPool2d", lambda: nn.AvgPool2d(2), front="none")
family.add(
    "max_in_chain",
    "MaxPool2d",
    lambda: nn.Sequential(nn.MaxPool2d(5, 1, 2), nn.MaxPool2d(5, 1, 2), nn.MaxPool2d(3, 2)),
)
