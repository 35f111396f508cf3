"""The quantizers of a simulated network: where they are, what they are, and their ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet.names import aimet

QuantizerKind = Literal["weight", "input", "output"]
_KINDS: dict[str, QuantizerKind] = {
    "param_quantizers": "weight",
    "input_quantizers": "input",
    "output_quantizers": "output",
}


class Quantizer(Protocol):
    """What is used of AIMET's quantizers: fake quantization to integers, in ranges.

    Attributes:
        bitwidth: width of the integers.
        symmetric: whether the zero point is the middle of the grid.
        signed: whether the integers are.
        qmin: smallest integer.
        qmax: largest integer.
        min: smallest value of each range, of shape ``shape``.
        max: largest value of each range.
        shape: of the ranges; ``()`` is one range for the tensor.
    """

    bitwidth: int
    symmetric: bool
    signed: bool
    qmin: int
    qmax: int
    min: nn.Parameter
    max: nn.Parameter
    shape: tuple[int, ...]
    block_size: tuple[int, ...] | None
    zero_point_shift: float
    encoding_analyzer: Any

    def __call__(self, values: Tensor) -> Tensor:
        """Values on the grid; gradients pass straight through."""

    def is_initialized(self) -> bool:
        """Whether it has a range."""

    def is_overwrite_allowed(self, name: str | None = None) -> bool:
        """Whether calibration may set the range."""

    def allow_overwrite(self, mode: bool) -> None:
        """Say whether calibration may set the range."""

    def compute_encodings(self) -> AbstractContextManager[None]:
        """Set the range from what it sees in the block."""

    def get_encodings(self) -> Any:
        """Scale, offset and integers, or None without a range."""

    def get_min(self) -> Tensor:
        """Smallest value of the grid."""

    def get_max(self) -> Tensor:
        """Largest value of the grid."""

    def get_scale(self) -> Tensor:
        """Step of the grid."""

    def get_offset(self) -> Tensor:
        """The zero point with its sign turned."""

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the range."""

    def requires_grad_(self, mode: bool) -> Any:
        """Have training move the range, or not."""

    def register_forward_hook(self, hook: Any) -> Any:
        """Call a hook after each quantization."""


@dataclass(frozen=True)
class QuantizerInfo:
    """One quantizer: integers from ``integer_min`` to ``integer_max``.

    Attributes:
        name: dotted name in the simulated module; it is unique.
        layer: name of the operation that it stands at.
        parameter: which of the operation's parameters it quantizes, such as ``weight``, or None.
        kind: ``weight`` of a parameter, or the operation's ``input`` or ``output``.
        bits: width of the integers.
        symmetric: whether the zero point is the middle of the grid.
        integer_min: smallest integer of the grid.
        integer_max: largest integer of the grid.
        channels: number of ranges; 1 is per tensor.
        fixed: what it holds says which grid it is, so that no range is found and no width chosen.
    """

    name: str
    layer: str
    parameter: str | None
    kind: QuantizerKind
    bits: int
    symmetric: bool
    integer_min: int
    integer_max: int
    channels: int
    fixed: bool = False


def quantizers(module: nn.Module) -> Iterator[tuple[QuantizerInfo, Any]]:
    """Every active quantizer in module order, those that operations share once, by the first."""
    for name, found in module.named_modules():
        if not isinstance(found, aimet().QuantizerBase):
            continue
        layer, kind, key = _place(name)
        quantizer: Any = found
        yield (
            QuantizerInfo(
                name=name,
                layer=layer,
                parameter=key if kind == "weight" else None,
                kind=kind,
                bits=quantizer.bitwidth,
                symmetric=quantizer.symmetric,
                integer_min=quantizer.qmin,
                integer_max=quantizer.qmax,
                channels=quantizer.min.numel(),
                fixed=not quantizer.is_overwrite_allowed("min"),
            ),
            quantizer,
        )


def _place(name: str) -> tuple[str, QuantizerKind, str]:
    """Operation, kind and key of a quantizer; one that stands elsewhere rounds what is made."""
    for holder, kind in _KINDS.items():
        layer, found, key = f".{name}".rpartition(f".{holder}.")
        if found:
            return layer[1:], kind, key
    layer, _, key = name.rpartition(".")
    return layer, "output", key


def range_parameters(model: nn.Module) -> dict[str, str]:
    """Names of a network's parameters that are ends of ranges, with which end: ``min``, ``max``."""
    return {
        f"{prefix}.{end}": end
        for prefix, module in model.named_modules()
        if isinstance(module, aimet().QuantizerBase)
        for end, _ in module.named_parameters(recurse=False)
    }


def is_quantized(module: nn.Module | None) -> bool:
    """Whether a module is an operation with places for quantizers."""
    return module is not None and "output_quantizers" in module._modules


def parameter_quantizers(layer: nn.Module | None) -> dict[str, Any]:
    """An operation's quantizers of its parameters, by name; None where one has none.

    The dictionary is the operation's own: what is set in it counts.
    """
    return _held(layer, "param_quantizers")


def weight_quantizer(layer: nn.Module | None) -> Any:
    """The quantizer of an operation's weight, or None."""
    return parameter_quantizers(layer).get("weight")


def input_quantizers(layer: nn.Module | None) -> dict[str, Any]:
    """An operation's quantizers of its inputs by ``"0"``, ``"1"`` ..., as its own dictionary."""
    return _held(layer, "input_quantizers")


def output_quantizers(layer: nn.Module | None) -> dict[str, Any]:
    """An operation's quantizers of its outputs by ``"0"``, ``"1"`` ..., as its own dictionary."""
    return _held(layer, "output_quantizers")


def input_quantizer(layer: nn.Module | None) -> Any:
    """The quantizer of an operation's first input, or None."""
    return input_quantizers(layer).get("0")


def output_quantizer(layer: nn.Module | None) -> Any:
    """The quantizer of an operation's first output, or None."""
    return output_quantizers(layer).get("0")


def quantizer_places(layer: nn.Module) -> tuple[dict[str, Any], ...]:
    """All places of an operation for quantizers: its parameters', inputs' and outputs'."""
    return tuple(_held(layer, holder) for holder in _KINDS)


def activation_quantizer(bits: int, *, symmetric: bool, device: torch.device) -> Any:
    """A new quantizer with one range, not set yet, for what an operation reads or makes."""
    made = aimet().QuantizeDequantize(shape=(), bitwidth=bits, symmetric=symmetric)
    return made.to(device)


def fix_range(quantizer: Any, bits: int, symmetric: bool, low: float, high: float) -> None:
    """Give a quantizer of one range a grid that neither calibration nor training changes."""
    quantizer.symmetric, quantizer.bitwidth, quantizer.signed = symmetric, bits, symmetric
    like = quantizer.min
    quantizer.set_range(like.new_full(like.shape, low), like.new_full(like.shape, high))
    quantizer.allow_overwrite(False)
    quantizer.requires_grad_(False)


def make_symmetric(quantizer: Any) -> None:
    """Put the zero point of a quantizer without a range in the middle of its grid."""
    quantizer.symmetric = quantizer.signed = True


def forget_bias_quantizer(layer: Any) -> None:
    """Take the quantizer of a layer's bias off, which may be new to AIMET."""
    layer.param_quantizers["bias"] = layer._param_pre_quantizers["bias"] = None


def _held(layer: nn.Module | None, holder: str) -> dict[str, Any]:
    found: Any = None if layer is None else layer._modules.get(holder)
    held: dict[str, Any] = {} if found is None else found._modules
    return held
