"""AIMET's simulation of a whole network, and its modules: made, run, calibrated, taken off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.simulation.aimet.names import aimet, quiet
from bitladder.structures import Inputs

MIN_BITS = 4
"""AIMET refuses to build a simulation of fewer; a quantizer itself takes them."""


def config_file(name: str) -> Path:
    """The file of a quantsim config: one of AIMET's by its name, or a path as it is."""
    return Path(aimet()._get_config_file(name))


def build_simulation(
    model: nn.Module, example: Inputs, *, weights: int, activations: int, config: str
) -> Any:
    """AIMET's simulation of a copy of a network, whose ``model`` is the simulated module.

    Args:
        model: a network of which AIMET knows every module.
        example: one tensor an input, of one image or signal.
        weights: bits, at least ``MIN_BITS``.
        activations: bits, at least ``MIN_BITS``.
        config: path of the quantsim config.

    Raises:
        RuntimeError, ValueError, KeyError, OSError: as AIMET raises them.
    """
    with quiet():
        return aimet().QuantizationSimModel(
            model,
            tuple(example),
            default_param_bw=weights,
            default_output_bw=activations,
            config_file=config,
        )


def simulate_as_shipped(model: nn.Module, images: Tensor) -> Tensor:
    """What a network gives in AIMET's simulation at all of its defaults, ranges from ``images``."""
    with quiet():
        simulation = aimet().QuantizationSimModel(model, dummy_input=images)
        simulation.compute_encodings(lambda simulated: simulated(images))
        with torch.no_grad():
            output: Tensor = simulation.model(images)
    return output


def float_network(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a simulated module with the operations in float and no quantizers."""
    found: fx.GraphModule = aimet().QuantizationSimModel.get_original_model(module)
    return found


def evaluation_mode(module: nn.Module) -> AbstractContextManager[None]:
    """Have a network be in evaluation mode within a block."""
    mode: AbstractContextManager[None] = aimet().in_eval_mode(module)
    return mode


def quantized_layers(module: nn.Module) -> list[Any]:
    """The operations of a network that are AIMET's, with places for quantizers."""
    kind = aimet().BaseQuantizationMixin
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def has_quantized_class(kind: type[nn.Module]) -> bool:
    """Whether AIMET has a class for modules of this type, or it is one itself."""
    mixin = aimet().QuantizationMixin
    return kind in mixin.cls_to_qcls or issubclass(kind, mixin)


def add_quantized_class(kind: type[nn.Module], forward: Callable[..., Any]) -> None:
    """Have AIMET use a new class for modules of this type.

    Args:
        kind: a module without a class of AIMET's.
        forward: of the new class, which has the places for quantizers.
    """
    mixin = aimet().QuantizationMixin
    made = type(mixin)(f"Quantized{kind.__name__}", (mixin, kind), {"forward": forward})
    mixin.implements(kind)(made)


def float_class(kind: Any) -> type[nn.Module] | None:
    """The float operation that a class of AIMET's runs between its quantizers.

    Returns:
        None where the class has a kernel of its own, or is not one of those that take a torch
        function's place.
    """
    names = aimet()
    if not issubclass(kind, names._DispatchMixin) or kind._default_kernel is not None:
        return None
    found: type[nn.Module] | None = names.QuantizationMixin.qcls_to_cls.get(kind)
    return found


def runs_as_usual(kind: Any) -> bool:
    """Whether a class of AIMET's quantizes inputs, operation and output as all do."""
    usual = aimet()._DispatchMixin
    names = ("forward", "_is_dispatch_necessary", "_forward_no_dispatch")
    return all(getattr(kind, name) == getattr(usual, name) for name in names)


def is_kept_from_overflow(layer: nn.Module) -> bool:
    """Whether AIMET keeps the integers of a layer, a convolution or a linear one, from overflow."""
    guard = aimet()._compute_encodings_with_overflow_protection
    return getattr(type(layer), "compute_encodings", None) is guard


def is_calibrated_as_usual(layer: Any) -> bool:
    """Whether AIMET finds the ranges of an operation as it does those of all others."""
    mixin = aimet().QuantizationMixin
    return (
        isinstance(layer, mixin)
        and layer.get_kernel() is None
        and (
            is_kept_from_overflow(layer) or type(layer).compute_encodings is mixin.compute_encodings
        )
    )


def function_modules() -> Any:
    """AIMET's modules that stand for functions, such as ``Add``, as attributes."""
    return aimet().functions
