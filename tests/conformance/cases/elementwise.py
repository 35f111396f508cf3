"""Arithmetic of tensors, with tensors, numbers and parameters; comparisons and masks."""

import math
import operator

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("elementwise")
C = 8


def _pair(name, operations, compute, **attributes):
    """A function of two convolutions of the features."""
    family.add(
        name,
        operations,
        lambda: Body(
            lambda m, x: compute(m.a(x), m.b(x)),
            a=nn.Conv2d(C, C, 3, padding=1),
            b=nn.Conv2d(C, C, 1),
        ),
        **attributes,
    )


_pair("add", "add", operator.add, quick=True)
_pair("add_method", "add", lambda a, b: a.add(b))
_pair("add_torch", "add", torch.add)
_pair("add_alpha", "add", lambda a, b: torch.add(a, b, alpha=0.5))
_pair("add_in_place", "add_", lambda a, b: a.add_(b))
_pair("iadd", "add", lambda a, b: operator.iadd(a, b))
_pair("sub", "sub", operator.sub)
_pair("sub_alpha", "sub", lambda a, b: torch.sub(a, b, alpha=2))
_pair("mul", "mul", operator.mul, quick=True)
_pair("mul_torch", "mul", torch.multiply)
_pair("div", "div", lambda a, b: a / (b.abs() + 1))
_pair("maximum", "maximum", torch.maximum)
_pair("minimum", "minimum", torch.minimum)
_pair("max_of_two", "max", torch.max)
_pair("where", "where", lambda a, b: torch.where(a > b, a, b * 0.5))
_pair("masked", "mul", lambda a, b: a * (b > 0))
_pair("masked_float", "mul to", lambda a, b: a * (b > 0).float())
_pair("addcdiv", "addcdiv", lambda a, b: torch.addcdiv(a, a, b.abs() + 1, value=0.5))
_pair("addcmul", "addcmul", lambda a, b: torch.addcmul(a, a, b, value=0.5))
_pair("lerp", "lerp", lambda a, b: torch.lerp(a, b, 0.25))
_pair("hypot", "hypot", torch.hypot)
_pair("add_relu", "add ReLU", lambda a, b: F.relu(a + b))
_pair("add_relu6", "add ReLU6", lambda a, b: F.relu6(a + b), quick=True)
_pair("add_hardtanh", "add Hardtanh", lambda a, b: F.hardtanh(a + b, -0.5, 0.5))
_pair("add_clamp_off_zero", "add clamp", lambda a, b: (a + b).clamp(0.1, 5))
_pair("mul_relu6", "mul ReLU6", lambda a, b: F.relu6(a * b))
_pair("mul_relu", "mul ReLU", lambda a, b: F.relu(a * b))
_pair("sub_relu", "sub ReLU", lambda a, b: F.relu(a - b))
_pair("div_relu6", "div ReLU6", lambda a, b: F.relu6(a / (b.abs() + 1)))
_pair("add_of_relus", "add ReLU", lambda a, b: F.relu(a) + F.relu(b))
_pair("three_sums", "add", lambda a, b: a + b + a)
_pair("sum_of_list", "add", lambda a, b: sum([a, b, a]))
_pair("average_of_two", "add mul", lambda a, b: (a + b) * 0.5)
_pair("glu_by_hand", "mul sigmoid", lambda a, b: a * torch.sigmoid(b))
_pair("broadcast_rows", "add", lambda a, b: a + b.mean((2, 3), keepdim=True))
_pair("broadcast_channel", "mul", lambda a, b: a * b[:, :1])
_pair("broadcast_ranks", "add", lambda a, b: a + b.mean((2, 3))[:, :, None, None] * 0 + 1)
_pair("add_of_three_ranks", "add", lambda a, b: a.flatten(2) + b.flatten(2)[:, :, :1])

family.apply("add_itself", "add", lambda x: x + x)
family.apply("mul_itself", "mul", lambda x: x * x)
family.apply("sub_itself", "sub", lambda x: x - x)
family.apply("sub_of_parts", "sub", lambda x: x[:, :, 1:] - x[:, :, :-1])
family.apply("add_number", "add", lambda x: x + 1, quick=True)
family.apply("radd_number", "add", lambda x: 1 + x)
family.apply("add_number_method", "add", lambda x: x.add(0.5))
family.apply("add_three", "add", lambda x: x + 3)
family.apply("sub_number", "sub", lambda x: x - 0.5)
family.apply("rsub", "rsub sub", lambda x: 1 - x)
family.apply("rsub_torch", "rsub", lambda x: torch.rsub(x, 1))
family.apply("mul_number", "mul", lambda x: x * 0.5)
family.apply("mul_negative", "mul", lambda x: -2 * x)
family.apply("mul_zero", "mul", lambda x: x * 0)
family.apply("mul_in_place", "mul_", lambda x: (x + 0).mul_(0.5))
family.apply("div_number", "div", lambda x: x / 3)
family.apply("rdiv", "div", lambda x: 1 / (x.abs() + 0.5))
family.apply("reciprocal", "reciprocal", lambda x: (x.abs() + 0.5).reciprocal())
family.apply("floor_divide", "floor_divide", lambda x: (4 * x) // 1)
family.apply("remainder", "remainder", lambda x: x % 1)
family.apply("neg", "neg", lambda x: -x)
family.apply("neg_torch", "neg", torch.neg)
family.apply("abs", "abs", torch.abs, quick=True)
family.apply("abs_method", "abs", lambda x: x.abs())
family.apply("sqrt", "sqrt", lambda x: torch.sqrt(x.abs() + 0.1))
family.apply("rsqrt", "rsqrt", lambda x: torch.rsqrt(x.abs() + 0.1))
family.apply("exp", "exp", torch.exp, quick=True)
family.apply("expm1", "expm1", torch.expm1)
family.apply("log", "log", lambda x: torch.log(x.abs() + 0.1))
family.apply("log10", "log10", lambda x: torch.log10(x.abs() + 0.1))
family.apply("log1p", "log1p", lambda x: torch.log1p(x.abs()))
family.apply("log2", "log2", lambda x: torch.log2(x.abs() + 0.1))
family.apply("pow_2", "pow", lambda x: x**2)
family.apply("pow_3", "pow", lambda x: x.pow(3))
family.apply("pow_half", "pow", lambda x: (x.abs() + 0.1) ** 0.5)
family.apply("pow_negative", "pow", lambda x: (x.abs() + 0.5) ** -1)
family.apply("rpow", "pow", lambda x: 2**x)
family.apply("square", "square", torch.square)
family.apply("sin", "sin", torch.sin)
family.apply("cos", "cos", lambda x: x.cos())
family.apply("atan", "atan", torch.atan)
family.apply("erf", "erf", torch.erf)
family.apply("floor", "floor", lambda x: torch.floor(2 * x))
family.apply("ceil", "ceil", lambda x: torch.ceil(2 * x))
family.apply("round", "round", lambda x: torch.round(2 * x))
family.apply("sign", "sign", torch.sign)
family.apply("where_number", "where", lambda x: torch.where(x > 0, x, 0.1 * x))
family.apply("masked_fill", "masked_fill", lambda x: x.masked_fill(x < 0, 0.25))
family.apply("asin", "asin", lambda x: torch.asin(x.clamp(-0.9, 0.9)))
family.apply("fmod", "fmod", lambda x: torch.fmod(x, 0.7))
family.apply("sign_method", "ElementwiseUnarySign sign", lambda x: x.sign() * x)
family.apply("compare_ge_le", "ge le mul", lambda x: x * (x >= -0.5) * (x <= 0.5))
family.apply("compare_lt", "lt where", lambda x: torch.where(x < 0.1, -x, x))
family.apply("compare_eq_ne", "eq ne to", lambda x: (F.relu(x) == 0).float() + (x != x).float())
family.apply(
    "logical", "logical_and logical_or logical_not",
    lambda x: torch.where(((x > 0) & (x < 1)) | ~(x > -1), x, 0.5 * x),
)  # fmt: skip
family.apply("compare", "gt to", lambda x: (x > 0.1).float())
family.apply("float_to", "to", lambda x: x.to(torch.float32) + 1)
family.apply("type_as", "type_as", lambda x: x.type_as(x) + 1)
family.apply(
    "contiguous_clone_detach", "contiguous clone detach", lambda x: x.contiguous().clone().detach()
)
family.apply("nan_to_num", "nan_to_num", torch.nan_to_num)
family.apply("sum_with_ones", "ones_like add", lambda x: x + torch.ones_like(x))
family.apply("of_zeros", "zeros_like maximum", lambda x: torch.maximum(x, torch.zeros_like(x)))
family.apply("new_zeros", "new_zeros add", lambda x: x + x.new_zeros(1, 8, 1, 1))
family.apply(
    "ones_of_size",
    "ones add",
    lambda x: x + torch.ones(x.shape[0], 1, 1, 1),
)
family.add(
    "add_parameter",
    "add",
    lambda: Body(lambda m, x: x + m.p, p=nn.Parameter(torch.randn(1, C, 1, 1))),
    quick=True,
)
family.add(
    "mul_parameter", "mul", lambda: Body(lambda m, x: m.p * x, p=nn.Parameter(torch.randn(C, 1, 1)))
)
family.add(
    "mul_scalar_parameter",
    "mul",
    lambda: Body(lambda m, x: x * m.p, p=nn.Parameter(torch.tensor(0.7))),
)
family.add(
    "sub_parameter",
    "sub",
    lambda: Body(lambda m, x: m.p - x, p=nn.Parameter(torch.randn(1, C, 1, 1))),
)
family.add(
    "div_parameter",
    "div",
    lambda: Body(lambda m, x: x / m.p, p=nn.Parameter(torch.rand(1, C, 1, 1) + 0.5)),
)
family.add(
    "add_positions",
    "add",
    lambda: Body(lambda m, x: x + m.p, p=nn.Parameter(torch.randn(1, C, 8, 8))),
)
family.add(
    "affine_parameters",
    "mul add",
    lambda: Body(
        lambda m, x: x * m.scale + m.shift,
        scale=nn.Parameter(torch.rand(1, C, 1, 1) + 0.5),
        shift=nn.Parameter(torch.randn(1, C, 1, 1)),
    ),
)
family.add(
    "layer_scale",
    "mul add",
    lambda: Body(
        lambda m, x: x + m.gamma * m.conv(x),
        gamma=nn.Parameter(1e-3 * torch.ones(C, 1, 1)),
        conv=nn.Conv2d(C, C, 1),
    ),
)
family.add(
    "parameter_called_twice",
    "add mul",
    lambda: Body(lambda m, x: (x + m.p) * m.p, p=nn.Parameter(torch.randn(1, C, 1, 1))),
)


def _normalize():
    body = Body(lambda m, x: m.conv((x - m.mean) / m.std), conv=nn.Conv2d(3, 6, 3))
    body.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
    body.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))
    return body


family.add(
    "images_normalized",
    "sub div",
    _normalize,
    front="none",
    images=lambda n, shape: torch.rand(n, *shape),
)
family.add(
    "images_scaled",
    "mul sub",
    lambda: Body(lambda m, x: m.conv(x * 2 - 1), conv=nn.Conv2d(3, 6, 3)),
    front="none",
    images=lambda n, shape: torch.rand(n, *shape),
)
family.add(
    "images_of_bytes",
    "div",
    lambda: Body(lambda m, x: m.conv(x / 255), conv=nn.Conv2d(3, 6, 3)),
    front="none",
    images=lambda n, shape: torch.randint(0, 256, (n, *shape)).float(),
)
family.add(
    "residual_of_images",
    "add",
    lambda: Body(lambda m, x: x + m.conv(x), conv=nn.Conv2d(3, 3, 3, padding=1)),
    front="none",
)
family.apply("scale_by_math", "mul", lambda x: x * math.sqrt(0.5) / math.pi)
family.apply("far_apart_scales", "add", lambda x: 100 * x[:, :4] + 0.01 * x[:, 4:])
