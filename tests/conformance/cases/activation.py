"""Activations: modules, functions, methods, odd bounds, behind everything that has a grid."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("activation")
C = 8
QUICK = ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "Sigmoid", "Hardswish", "SiLU", "GELU")
_MODULES = {
    "ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "LeakyReLU": nn.LeakyReLU, "PReLU": nn.PReLU,
    "ELU": nn.ELU, "SELU": nn.SELU, "CELU": nn.CELU, "GELU": nn.GELU, "SiLU": nn.SiLU,
    "Mish": nn.Mish, "Hardswish": nn.Hardswish, "Hardsigmoid": nn.Hardsigmoid,
    "Hardtanh": nn.Hardtanh, "Hardshrink": nn.Hardshrink, "Softplus": nn.Softplus,
    "Softshrink": nn.Softshrink, "Softsign": nn.Softsign, "Tanh": nn.Tanh,
    "Tanhshrink": nn.Tanhshrink, "Sigmoid": nn.Sigmoid, "LogSigmoid": nn.LogSigmoid,
    "RReLU": nn.RReLU,
}  # fmt: skip
for _name, _kind in _MODULES.items():
    family.layer(_name.lower(), _name, _kind, quick=_name in QUICK)

for _name, _operation, _build in (
    ("relu_in_place", "ReLU", lambda: nn.ReLU(inplace=True)),
    ("leaky_relu_slope", "LeakyReLU", lambda: nn.LeakyReLU(0.2)),
    ("leaky_relu_negative_slope", "LeakyReLU", lambda: nn.LeakyReLU(-0.5)),
    ("prelu_channels", "PReLU", lambda: nn.PReLU(C)),
    ("elu_alpha", "ELU", lambda: nn.ELU(0.5)),
    ("celu_alpha", "CELU", lambda: nn.CELU(0.5)),
    ("gelu_tanh", "GELU", lambda: nn.GELU("tanh")),
    ("softplus_beta", "Softplus", lambda: nn.Softplus(2, 5)),
    ("threshold", "Threshold", lambda: nn.Threshold(0.1, -0.5)),
    ("threshold_zero", "Threshold", lambda: nn.Threshold(0.0, 0.0)),
    ("hardtanh_off_zero", "Hardtanh", lambda: nn.Hardtanh(0.1, 1)),
    ("hardtanh_below_zero", "Hardtanh", lambda: nn.Hardtanh(-1, -0.1)),
    ("hardtanh_odd", "Hardtanh", lambda: nn.Hardtanh(-0.37, 0.91)),
    ("hardtanh_wide", "Hardtanh", lambda: nn.Hardtanh(-100, 100)),
    ("hardtanh_0_1", "Hardtanh", lambda: nn.Hardtanh(0, 1)),
    ("softmax_channels", "Softmax", lambda: nn.Softmax(1)),
    ("softmax_width", "Softmax", lambda: nn.Softmax(-1)),
    ("log_softmax", "LogSoftmax", lambda: nn.LogSoftmax(1)),
    ("softmax2d", "Softmax2d", nn.Softmax2d),
    ("softmin", "Softmin", lambda: nn.Softmin(1)),
    ("glu", "GLU", lambda: nn.GLU(1)),
    ("dropout", "Dropout", lambda: nn.Dropout(0.3)),
    ("dropout2d", "Dropout2d", lambda: nn.Dropout2d(0.3)),
    ("alpha_dropout", "AlphaDropout", lambda: nn.AlphaDropout(0.3)),
    ("identity", "Identity", nn.Identity),
    ("channel_shuffle", "ChannelShuffle", lambda: nn.ChannelShuffle(2)),
):
    family.layer(_name, _operation, _build)

for _name, _operation, _compute in (
    ("functional_relu", "relu", F.relu),
    ("functional_relu_in_place", "relu", lambda x: F.relu(x, inplace=True)),
    ("torch_relu", "relu", torch.relu),
    ("method_relu", "relu", lambda x: x.relu()),
    ("method_relu_", "relu_", lambda x: x.relu_()),
    ("functional_relu6", "relu6", F.relu6),
    ("functional_leaky_relu", "leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    ("functional_elu", "elu", F.elu),
    ("functional_gelu", "gelu", lambda x: F.gelu(x, approximate="tanh")),
    ("functional_silu", "silu", F.silu),
    ("functional_mish", "mish", F.mish),
    ("functional_hardswish", "hardswish", F.hardswish),
    ("functional_hardsigmoid", "hardsigmoid", F.hardsigmoid),
    ("functional_hardtanh", "hardtanh", lambda x: F.hardtanh(x, -0.5, 1.5)),
    ("functional_softplus", "softplus", F.softplus),
    ("functional_sigmoid", "sigmoid", F.sigmoid),
    ("torch_sigmoid", "sigmoid", torch.sigmoid),
    ("method_sigmoid", "sigmoid", lambda x: x.sigmoid()),
    ("method_tanh", "tanh", lambda x: x.tanh()),
    ("torch_tanh", "tanh", torch.tanh),
    ("functional_logsigmoid", "logsigmoid", F.logsigmoid),
    ("functional_threshold", "threshold", lambda x: F.threshold(x, 0.1, 0.0)),
    ("functional_softmax", "softmax", lambda x: F.softmax(x, dim=1)),
    ("method_softmax", "softmax", lambda x: x.softmax(-1)),
    ("functional_log_softmax", "log_softmax", lambda x: F.log_softmax(x, 1)),
    ("functional_dropout", "dropout", lambda x: F.dropout(x, 0.5, training=False)),
    ("functional_dropout2d", "dropout2d", lambda x: F.dropout2d(x, 0.5, False)),
    ("functional_glu", "glu", lambda x: F.glu(x, 1)),
    ("functional_celu", "celu", F.celu),
    ("functional_selu", "selu", F.selu),
    ("functional_softsign", "softsign", F.softsign),
    ("functional_normalize", "normalize", lambda x: F.normalize(x, dim=1)),
    ("clamp", "clamp", lambda x: x.clamp(-0.5, 1)),
    ("clamp_off_zero", "clamp", lambda x: torch.clamp(x, 0.1, 5)),
    ("clamp_below_zero", "clamp", lambda x: x.clamp(-5, -0.1)),
    ("clamp_min", "clamp", lambda x: x.clamp(min=0.2)),
    ("clamp_min_zero", "clamp", lambda x: x.clamp(min=0)),
    ("clamp_max", "clamp", lambda x: x.clamp(max=0.4)),
    ("clamp_min_method", "clamp_min", lambda x: x.clamp_min(0.0)),
    ("clamp_max_method", "clamp_max", lambda x: x.clamp_max(-0.1)),
    ("clamp_keywords", "clamp", lambda x: torch.clamp(x, min=-1.0, max=0.5)),
    ("clip", "clip", lambda x: x.clip(0, 6)),
    ("clamp_tensors", "clamp", lambda x: torch.clamp(x, torch.tensor(-0.3), torch.tensor(0.8))),
    ("hard_sigmoid_by_hand", "add ReLU6 div", lambda x: F.relu6(x + 3) / 6),
    ("hard_swish_by_hand", "add ReLU6 mul div", lambda x: x * F.relu6(x + 3.0) / 6.0),
    ("swish_by_hand", "sigmoid mul", lambda x: x * torch.sigmoid(x)),
    ("mish_by_hand", "softplus tanh mul", lambda x: x * torch.tanh(F.softplus(x))),
    ("crelu", "cat neg relu", lambda x: F.relu(torch.cat([x, -x], 1))),
    ("relu_of_relu", "ReLU", lambda x: F.relu(F.relu(x))),
    ("relu6_of_relu", "ReLU ReLU6", lambda x: F.relu6(F.relu(x))),
    ("hardtanh_of_relu6", "ReLU6 Hardtanh", lambda x: F.hardtanh(F.relu6(x), -1, 0.7)),
    ("relu_of_sigmoid", "Sigmoid ReLU", lambda x: F.relu(torch.sigmoid(x) - 0.5)),
    ("relu_squared", "ReLU pow", lambda x: F.relu(x) ** 2),
    ("one_minus_sigmoid", "sigmoid rsub", lambda x: 1 - torch.sigmoid(x)),
    ("relu_of_a_view", "ReLU view", lambda x: F.relu(x.view(x.size(0), -1))),
    ("relu6_of_dropout", "dropout ReLU6", lambda x: F.relu6(F.dropout(x, 0.1, False))),
    ("relu6_of_cat", "cat ReLU6", lambda x: F.relu6(torch.cat([x, 2 * x], 1))),
    ("relu6_of_slice", "getitem ReLU6", lambda x: F.relu6(x[:, 2:6])),
    (
        "relu6_of_interpolate",
        "interpolate ReLU6",
        lambda x: F.relu6(F.interpolate(x, scale_factor=2, mode="nearest")),
    ),
    ("tanh_scaled", "tanh mul", lambda x: torch.tanh(x) * 3),
):
    family.apply(
        _name,
        _operation,
        _compute,
        quick=_name in ("clamp_off_zero", "clamp_below_zero", "hard_swish_by_hand"),
    )

family.add(
    "relu6_of_lone_batch_norm",
    "BatchNorm2d ReLU6",
    lambda: Body(lambda m, x: F.relu6(m.norm(F.max_pool2d(x, 2))), norm=nn.BatchNorm2d(C)),
)
family.add(
    "relu6_of_dropout_module", "Dropout ReLU6", lambda: nn.Sequential(nn.Dropout(0.2), nn.ReLU6())
)
family.add(
    "conv_dropout_relu6",
    "Conv2d Dropout2d ReLU6",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.Dropout2d(0.2), nn.ReLU6(), nn.Conv2d(6, 6, 1)),
)
family.add(
    "hardtanh_of_conv",
    "Conv2d Hardtanh",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.Hardtanh(0.1, 0.6)),
)
family.add(
    "prelu_shared",
    "PReLU",
    lambda: Body(lambda m, x: m.act(m.conv(m.act(x))), act=nn.PReLU(C), conv=nn.Conv2d(C, C, 1)),
)
family.add(
    "relu_shared",
    "ReLU",
    lambda: Body(lambda m, x: m.act(m.conv(m.act(x))), act=nn.ReLU(), conv=nn.Conv2d(C, C, 1)),
)
family.add("relu6_of_images", "ReLU6", nn.ReLU6, front="none")
family.add("clamp_of_images", "clamp", lambda: Body(lambda m, x: x.clamp(0, 1)), front="none")
family.add(
    "learned_clamp",
    "minimum relu",
    lambda: Body(lambda m, x: torch.minimum(F.relu(x), m.top), top=nn.Parameter(torch.tensor(0.8))),
)
