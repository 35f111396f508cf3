"""Interpolation and upsampling."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("resize")
C = 8

for _mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
    _corners = (False, True) if _mode in ("bilinear", "bicubic") else (None,)
    for _corner in _corners:
        _label = _mode.replace("-", "_") + ("_corners" if _corner else "")
        for _how, _given in (
            ("size", {"size": (12, 16)}),
            ("size_int", {"size": 5}),
            ("scale", {"scale_factor": 2}),
            ("scale_down", {"scale_factor": 0.5}),
            ("scale_fraction", {"scale_factor": 1.5}),
        ):
            family.apply(
                f"{_label}_{_how}",
                "interpolate",
                lambda x, mode=_mode, given=_given, corner=_corner: F.interpolate(
                    x, **given, mode=mode, align_corners=corner
                ),
                quick=(_label, _how) in (("nearest", "size"), ("bilinear", "scale")),
            )
family.apply("scales_differ", "interpolate", lambda x: F.interpolate(x, scale_factor=(2, 3)))
family.apply(
    "recompute_scale",
    "interpolate",
    lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
)
family.apply(
    "antialias",
    "interpolate",
    lambda x: F.interpolate(x, size=(4, 4), mode="bilinear", antialias=True),
)
family.apply(
    "size_of_other",
    "interpolate",
    lambda x: (
        x
        + F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:], mode="bilinear", align_corners=False)
    ),
)
family.apply(
    "size_of_other_nearest",
    "interpolate",
    lambda x: x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:]),
)
family.apply(
    "half_by_arithmetic",
    "interpolate",
    lambda x: F.interpolate(x, size=(x.shape[2] // 2, x.shape[3] * 2)),
)
family.apply(
    "back_to_size",
    "interpolate",
    lambda x: F.interpolate(
        F.interpolate(x, scale_factor=2), size=(8, 8), mode="bilinear", align_corners=True
    ),
)
family.apply(
    "odd", "interpolate", lambda x: F.interpolate(x, size=(7, 11), mode="bilinear"), shape=(3, 5, 9)
)
family.apply("upsample_functional", "upsample", lambda x: F.upsample(x, scale_factor=2))
family.apply("same_size", "interpolate", lambda x: F.interpolate(x, size=(8, 8), mode="bilinear"))
family.apply("of_rank_3", "interpolate", lambda x: F.interpolate(x.flatten(2), scale_factor=2))
family.apply(
    "of_rank_3_linear",
    "interpolate",
    lambda x: F.interpolate(x.flatten(2), size=100, mode="linear"),
)
family.apply(
    "of_one_pixel",
    "interpolate",
    lambda x: F.interpolate(
        F.adaptive_avg_pool2d(x, 1), size=(8, 8), mode="bilinear", align_corners=False
    ),
)
family.layer("upsample", "Upsample", lambda: nn.Upsample(scale_factor=2))
family.layer("upsample_size", "Upsample", lambda: nn.Upsample(size=(13, 9)), quick=True)
family.layer(
    "upsample_bilinear",
    "Upsample",
    lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
)
family.layer(
    "upsampling_nearest", "UpsamplingNearest2d", lambda: nn.UpsamplingNearest2d(scale_factor=2)
)
family.layer(
    "upsampling_bilinear", "UpsamplingBilinear2d", lambda: nn.UpsamplingBilinear2d(size=12)
)
family.add(
    "between_convolutions",
    "Upsample Conv2d",
    lambda: nn.Sequential(
        nn.Conv2d(C, 6, 3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(6, 4, 3), nn.ReLU()
    ),
)
family.add(
    "grid_sample",
    "grid_sample affine_grid",
    lambda: Body(
        lambda m, x: F.grid_sample(x, m.grid.expand(x.shape[0], -1, -1, -1), align_corners=False),
        grid=nn.Parameter(
            F.affine_grid(torch.eye(2, 3)[None] * 0.7, (1, 1, 6, 6), align_corners=False)
        ),
    ),
)
