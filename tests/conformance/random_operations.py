"""The operations that random networks are composed of, each with random attributes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conformance.case import Body

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of operation.

    Attributes:
        make: the module of random attributes for values of these shapes; raises where none fits.
        often: how often it is drawn.
        values: how many it reads.
    """

    make: Callable[..., nn.Module]
    often: float = 1.0
    values: int = 1


OPERATIONS: dict[str, Kind] = {}


def _operation(name: str, often: float = 1.0, values: int = 1) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        OPERATIONS[name] = Kind(make, often, values)
        return make

    return register


class Pair(nn.Module):
    """A function of two values, the second brought to the shape of the first."""

    def __init__(
        self, compute: Callable[[Tensor, Tensor], Tensor], label: str, fit: nn.Module
    ) -> None:
        super().__init__()
        self.compute, self.label, self.fit = compute, label, fit

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.compute(x, self.fit(y))

    def extra_repr(self) -> str:
        return self.label


class Function(nn.Module):
    """A function of one value."""

    def __init__(self, compute: Callable[[Tensor], Tensor], label: str) -> None:
        super().__init__()
        self.compute, self.label = compute, label

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)

    def extra_repr(self) -> str:
        return self.label


def _fit(draw: random.Random, x: Shape, y: Shape) -> nn.Module:
    """What brings a value of shape y to shape x."""
    if x == y:
        return nn.Identity()
    layers: list[nn.Module] = []
    if x[1] != y[1]:
        layers.append(nn.Conv2d(y[1], x[1], 1))
    if x[2:] != y[2:]:
        mode = draw.choice(("nearest", "bilinear"))
        layers.append(draw.choice((nn.Upsample(size=x[2:], mode=mode), nn.AdaptiveAvgPool2d(1))))
    return nn.Sequential(*layers)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky": lambda: nn.LeakyReLU(0.1), "prelu": nn.PReLU,
    "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softplus": nn.Softplus,
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.8), "off_zero": lambda: nn.Hardtanh(0.1, 2),
    "selu": nn.SELU, "celu": nn.CELU, "softsign": nn.Softsign, "logsigmoid": nn.LogSigmoid,
    "threshold": lambda: nn.Threshold(0.1, 0.0), "dropout": lambda: nn.Dropout(0.2),
    "identity": nn.Identity,
}  # fmt: skip


def _activation(draw: random.Random) -> nn.Module:
    if draw.random() < 0.5:
        return draw.choice((nn.ReLU, nn.ReLU6))()
    return draw.choice(list(_ACTIVATIONS.values()))()


def _convolution(draw: random.Random, channels: int, out: int | None = None) -> nn.Module:
    kernel = draw.choice((1, 1, 3, 3, 3, 5, 2, (1, 3), (3, 1)))
    groups = draw.choice([1, 1, 1, *(g for g in (2, 4, channels) if channels % g == 0)])
    out = out or draw.choice(
        [c for c in (1, 3, 4, 6, 8, 12, channels) if c % groups == 0] or [groups]
    )
    how: dict[str, Any] = {"bias": draw.random() < 0.75, "groups": groups}
    if draw.random() < 0.15:
        how["padding"] = "same"
    else:
        how["stride"] = draw.choice((1, 1, 1, 2, (1, 2)))
        how["padding"] = draw.choice((0, 1, 1, (1, 0)))
        how["dilation"] = draw.choice((1, 1, 1, 2))
        if draw.random() < 0.15:
            how["padding_mode"] = draw.choice(("reflect", "replicate", "circular"))
    return nn.Conv2d(channels, out, kernel, **how)


@_operation("conv", 4)
def _conv(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    return _convolution(draw, x[1])


@_operation("conv_block", 5)
def _conv_block(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    conv = _convolution(draw, x[1])
    layers = [conv]
    if draw.random() < 0.1:
        layers.append(nn.Dropout2d(0.1))
    if draw.random() < 0.6:
        layers.append(nn.BatchNorm2d(conv.out_channels, affine=draw.random() < 0.9))
    return nn.Sequential(*layers, _activation(draw))


@_operation("transposed", 1)
def _transposed(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    groups = draw.choice([1, 1, *(g for g in (2, x[1]) if x[1] % g == 0)])
    stride = draw.choice((1, 2))
    layer = nn.ConvTranspose2d(
        x[1], groups * draw.choice((1, 2, 4)), draw.choice((2, 3)), stride=stride, groups=groups,
        padding=draw.choice((0, 1)), output_padding=draw.choice((0, stride - 1)),
        bias=draw.random() < 0.7)  # fmt: skip
    return nn.Sequential(layer, _activation(draw)) if draw.random() < 0.5 else layer


@_operation("linear_over_channels", 0.7)
def _linear(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    layer = nn.Linear(x[1], draw.choice((4, 6, 8)), bias=draw.random() < 0.7)
    return Body(lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), fc=layer)


@_operation("activation", 3)
def _act(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    return draw.choice(list(_ACTIVATIONS.values()))()


@_operation("clamp", 0.7)
def _clamp(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    low, high = draw.choice(((0.1, 5), (-1, -0.1), (-0.3, 0.4), (None, 0.2), (0.05, None), (0, 1)))
    return Function(lambda x: x.clamp(low, high), f"clamp {low} {high}")


@_operation("max_pool", 1.2)
def _max_pool(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    kernel = draw.choice((2, 3, (1, 2)))
    padding = 0 if kernel == (1, 2) else draw.choice((0, 0, 1))
    stride = draw.choice((1, 2, None))
    return nn.MaxPool2d(kernel, stride, padding, ceil_mode=draw.random() < 0.3)


@_operation("average_pool", 1.2)
def _average_pool(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    kernel = draw.choice((2, 3, (2, 1)))
    return nn.AvgPool2d(
        kernel, draw.choice((1, 2, None)), 0 if kernel == (2, 1) else draw.choice((0, 0, 1)),
        ceil_mode=draw.random() < 0.3, count_include_pad=draw.random() < 0.5)  # fmt: skip


@_operation("adaptive_pool", 0.7)
def _adaptive_pool(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    kind = draw.choice((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d))
    return kind(draw.choice((1, 2, (1, None), (3, 2))))


@_operation("resize", 1)
def _resize(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    mode = draw.choice(("nearest", "bilinear"))
    corners = draw.choice((True, False)) if mode == "bilinear" else None
    if draw.random() < 0.5:
        size = (draw.randint(2, 14), draw.randint(2, 14))
        return nn.Upsample(size=size, mode=mode, align_corners=corners)
    return nn.Upsample(scale_factor=draw.choice((2, 0.5, 1.5)), mode=mode, align_corners=corners)


@_operation("pad", 0.8)
def _pad(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    sides = tuple(draw.choice((0, 1, 2)) for _ in range(4))
    mode = draw.choice(("constant", "constant", "reflect", "replicate", "circular"))
    value = draw.choice((0.0, 0.0, 1.5, -3.0)) if mode == "constant" else None
    return Function(
        lambda x: F.pad(x, sides, mode=mode, value=value), f"pad {sides} {mode} {value}"
    )


@_operation("batch_norm", 0.8)
def _batch_norm(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    return nn.BatchNorm2d(x[1], affine=draw.random() < 0.9)


@_operation("norm", 0.6)
def _norm(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    kind = draw.choice(("group", "instance", "layer"))
    if kind == "group":
        return nn.GroupNorm(draw.choice([g for g in (1, 2, x[1]) if x[1] % g == 0]), x[1])
    if kind == "instance":
        return nn.InstanceNorm2d(x[1], affine=draw.random() < 0.5)
    return Body(
        lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(x[1])
    )


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "x + 1": lambda x: x + 1,
    "1 - x": lambda x: 1 - x,
    "x * 0.5": lambda x: x * 0.5,
    "x / 3": lambda x: x / 3,
    "-x": lambda x: -x,
    "abs": torch.abs,
    "x * sigmoid": lambda x: x * torch.sigmoid(x),
    "hard swish": lambda x: x * F.relu6(x + 3) / 6,
    "x * x": lambda x: x * x,
    "sqrt(abs + 0.1)": lambda x: (x.abs() + 0.1).sqrt(),
    "softmax 1": lambda x: x.softmax(1),
    "slice channels": lambda x: x[:, ::2],
    "slice rows": lambda x: x[:, :, 1:-1],
    "negative slice": lambda x: x[..., -3:],
    "flip": lambda x: x.flip(3),
    "roll": lambda x: torch.roll(x, 1, 2),
    "permute": lambda x: x.permute(0, 1, 3, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "mean keep": lambda x: x.mean((2, 3), keepdim=True),
    "amax": lambda x: x.amax(1, keepdim=True),
    "sum": lambda x: x.sum(1, keepdim=True),
    "minus mean": lambda x: x - x.mean((2, 3), keepdim=True),
    "split, swapped": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split, one rectified": lambda x: torch.cat([F.relu(x.chunk(2, 1)[0]), x.chunk(2, 1)[1]], 1),
    "crelu": lambda x: F.relu(torch.cat([x, -x], 1)),
    "shuffle": lambda x: x.view(
        x.shape[0], 2, x.shape[1] // 2, x.shape[2], x.shape[3]).transpose(1, 2).reshape(x.shape),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "expand": lambda x: x[:, :1].expand(x.shape[0], 4, -1, -1),
    "batch times groups": lambda x: F.relu(
        x.reshape(x.shape[0] * 2, x.shape[1] // 2, x.shape[2], x.shape[3])).reshape(x.shape),
    "stack": lambda x: torch.stack([x, 2 * x], 2).flatten(1, 2),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
}  # fmt: skip


@_operation("function", 4)
def _function(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    name = draw.choice(list(_FUNCTIONS))
    return Function(_FUNCTIONS[name], name)


_PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "add relu": lambda a, b: F.relu(a + b),
    "add relu6": lambda a, b: F.relu6(a + b),
    "sub": torch.sub,
    "mul": torch.mul,
    "mul sigmoid": lambda a, b: a * torch.sigmoid(b),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "div": lambda a, b: a / (b.abs() + 1),
}


@_operation("pair", 4, 2)
def _pair(draw: random.Random, x: Shape, y: Shape, **_: Any) -> nn.Module:
    name = draw.choice(list(_PAIRS))
    return Pair(_PAIRS[name], name, _fit(draw, x, y))


@_operation("cat", 2, 2)
def _cat(draw: random.Random, x: Shape, y: Shape, **_: Any) -> nn.Module:
    target = (x[0], y[1], *x[2:])
    fit = _fit(draw, target, y)
    if target[2:] != y[2:]:
        fit = nn.Upsample(size=x[2:])
    return Pair(lambda a, b: torch.cat([a, b], 1), "cat", fit)


@_operation("gate", 1)
def _gate(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    narrow, wide = nn.Conv2d(x[1], 2, 1), nn.Conv2d(2, x[1], 1)
    last = draw.choice((nn.Sigmoid, nn.Hardsigmoid))()
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), narrow, _activation(draw), wide, last)
    return Body(lambda m, x: x * m.gate(x), gate=gate)


@_operation("residual", 1.5)
def _residual(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    first = nn.Conv2d(x[1], 4, 3, padding=1)
    body = nn.Sequential(first, nn.BatchNorm2d(4), _activation(draw), nn.Conv2d(4, x[1], 1))
    return Body(lambda m, x: x + m.body(x), body=body)


@_operation("twice", 0.7)
def _twice(draw: random.Random, x: Shape, **_: Any) -> nn.Module:
    conv = nn.Conv2d(x[1], x[1], 3, padding=1, bias=draw.random() < 0.7)
    return Body(lambda m, x: m.conv(m.act(m.conv(x))), conv=conv, act=_activation(draw))


@_operation("again", 0.7)
def _again(draw: random.Random, x: Shape, *, earlier: list[nn.Module]) -> nn.Module:
    """A layer that is there already."""
    return draw.choice([layer for layer in earlier if not isinstance(layer, Pair)])
