"""Normalizations: with statistics, without, over channels, groups, layers."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("normalization")
C = 8


def _channels_last(norm):
    return Body(lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=norm)


def _settled(norm):
    with torch.no_grad():
        if getattr(norm, "weight", None) is not None:
            norm.weight.uniform_(0.5, 1.5)
        if getattr(norm, "bias", None) is not None:
            norm.bias.uniform_(-0.5, 0.5)
    return norm


def _subclass():
    class FrozenBatchNorm(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in (
                ("weight", torch.rand(C) + 0.5),
                ("bias", torch.randn(C)),
                ("mean", torch.randn(C)),
                ("var", torch.rand(C) + 0.5),
            ):
                self.register_buffer(name, value)

        def forward(self, x):
            scale = self.weight.view(1, -1, 1, 1) * (self.var.view(1, -1, 1, 1) + 1e-5).rsqrt()
            return x * scale + (self.bias.view(1, -1, 1, 1) - self.mean.view(1, -1, 1, 1) * scale)

    return FrozenBatchNorm()


family.add(
    "batch_norm_alone",
    "BatchNorm2d",
    lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(C)),
    quick=True,
)
family.add(
    "batch_norm_after_relu", "BatchNorm2d", lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(C))
)
family.add(
    "batch_norm_alone_relu",
    "BatchNorm2d ReLU",
    lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(C), nn.ReLU()),
)
family.add(
    "batch_norm_of_sum",
    "add BatchNorm2d ReLU",
    lambda: Body(
        lambda m, x: F.relu(m.norm(x + m.conv(x))), norm=nn.BatchNorm2d(C), conv=nn.Conv2d(C, C, 1)
    ),
)
family.add(
    "batch_norm_of_cat",
    "cat BatchNorm2d ReLU",
    lambda: Body(lambda m, x: F.relu(m.norm(torch.cat([x, x * 2], 1))), norm=nn.BatchNorm2d(2 * C)),
)
family.add(
    "batch_norm_no_affine",
    "BatchNorm2d",
    lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(C, affine=False)),
)
family.add(
    "batch_norm_no_statistics",
    "BatchNorm2d",
    lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(C, track_running_stats=False)),
)
family.add(
    "batch_norm_conv_no_statistics",
    "Conv2d BatchNorm2d",
    lambda: nn.Sequential(
        nn.Conv2d(C, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU()
    ),
)
family.add(
    "batch_norm_eps",
    "Conv2d BatchNorm2d",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.BatchNorm2d(6, eps=0.1)),
)
family.add(
    "batch_norm_shared",
    "BatchNorm2d",
    lambda: Body(
        lambda m, x: m.norm(m.a(x)) + m.norm(m.b(x)),
        norm=nn.BatchNorm2d(6),
        a=nn.Conv2d(C, 6, 3),
        b=nn.Conv2d(C, 6, 3),
    ),
)
family.add(
    "batch_norm_functional",
    "batch_norm",
    lambda: Body(
        lambda m, x: F.batch_norm(
            x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias
        ),
        norm=nn.BatchNorm2d(C),
    ),
)
family.add("batch_norm_of_images", "BatchNorm2d", lambda: nn.BatchNorm2d(3), front="none")
family.add(
    "batch_norm_1d_flat",
    "BatchNorm1d",
    lambda: Body(lambda m, x: m.norm(x.mean((2, 3))), norm=nn.BatchNorm1d(C)),
)
family.add(
    "batch_norm_1d_tokens",
    "BatchNorm1d",
    lambda: Body(lambda m, x: m.norm(x.flatten(2)), norm=nn.BatchNorm1d(C)),
)
family.add(
    "batch_norm_3d",
    "BatchNorm3d",
    lambda: Body(lambda m, x: m.norm(x.unsqueeze(2)), norm=nn.BatchNorm3d(C)),
)
family.add(
    "sync_batch_norm",
    "SyncBatchNorm",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.SyncBatchNorm(6)),
)
family.add("frozen_batch_norm_by_hand", "rsqrt mul add", _subclass)
family.add("group_norm", "GroupNorm", lambda: _settled(nn.GroupNorm(2, C)), quick=True)
family.add(
    "group_norm_relu",
    "GroupNorm ReLU",
    lambda: nn.Sequential(nn.Conv2d(C, 12, 3), _settled(nn.GroupNorm(4, 12)), nn.ReLU()),
)
family.add("group_norm_one_group", "GroupNorm", lambda: _settled(nn.GroupNorm(1, C)))
family.add("group_norm_each", "GroupNorm", lambda: _settled(nn.GroupNorm(C, C)))
family.add("group_norm_no_affine", "GroupNorm", lambda: nn.GroupNorm(2, C, affine=False))
family.add("group_norm_functional", "group_norm", lambda: Body(lambda m, x: F.group_norm(x, 2)))
family.add("instance_norm", "InstanceNorm2d", lambda: nn.InstanceNorm2d(C))
family.add(
    "instance_norm_affine", "InstanceNorm2d", lambda: _settled(nn.InstanceNorm2d(C, affine=True))
)
family.add(
    "instance_norm_statistics",
    "InstanceNorm2d",
    lambda: nn.InstanceNorm2d(C, affine=True, track_running_stats=True),
)
family.add(
    "instance_norm_1d",
    "InstanceNorm1d",
    lambda: Body(lambda m, x: m.norm(x.flatten(2)), norm=nn.InstanceNorm1d(C)),
)
family.add(
    "instance_norm_functional", "instance_norm", lambda: Body(lambda m, x: F.instance_norm(x))
)
family.add("layer_norm_last", "LayerNorm", lambda: _settled(nn.LayerNorm(8)))
family.add("layer_norm_image", "LayerNorm", lambda: _settled(nn.LayerNorm([C, 8, 8])))
family.add(
    "layer_norm_channels_last",
    "LayerNorm",
    lambda: _channels_last(_settled(nn.LayerNorm(C))),
    quick=True,
)
family.add(
    "layer_norm_no_affine",
    "LayerNorm",
    lambda: _channels_last(nn.LayerNorm(C, elementwise_affine=False)),
)
family.add(
    "layer_norm_no_bias", "LayerNorm", lambda: _channels_last(_settled(nn.LayerNorm(C, bias=False)))
)
family.add(
    "layer_norm_functional",
    "layer_norm",
    lambda: Body(
        lambda m, x: F.layer_norm(x.permute(0, 2, 3, 1), (C,), m.w, m.b),
        w=nn.Parameter(torch.rand(C)),
        b=nn.Parameter(torch.randn(C)),
    ),
)
family.add(
    "layer_norm_2d_by_hand",
    "mean pow sqrt",
    lambda: Body(
        lambda m, x: (
            lambda u: (
                (x - u)
                / torch.sqrt((x - u).pow(2).mean(1, keepdim=True) + 1e-6)
                * m.w[:, None, None]
                + m.b[:, None, None]
            )
        )(x.mean(1, keepdim=True)),
        w=nn.Parameter(torch.rand(C) + 0.5),
        b=nn.Parameter(torch.randn(C)),
    ),
)
family.add("local_response_norm", "LocalResponseNorm", lambda: nn.LocalResponseNorm(3, alpha=0.5))
family.add("rms_norm", "RMSNorm", lambda: _channels_last(_settled(nn.RMSNorm(C))))
family.add(
    "rms_norm_no_affine", "RMSNorm", lambda: _channels_last(nn.RMSNorm(C, elementwise_affine=False))
)
family.add(
    "global_response_norm",
    "norm mean mul",
    lambda: Body(
        lambda m, x: (
            lambda g: m.gamma * (x * (g / (g.mean(1, keepdim=True) + 1e-6))) + m.beta + x
        )(torch.norm(x, p=2, dim=(2, 3), keepdim=True)),
        gamma=nn.Parameter(torch.randn(1, C, 1, 1)),
        beta=nn.Parameter(torch.randn(1, C, 1, 1)),
    ),
)
family.add("l2_normalize", "normalize", lambda: Body(lambda m, x: F.normalize(x, p=2, dim=1)))
