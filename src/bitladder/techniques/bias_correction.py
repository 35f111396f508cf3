"""Take the mean error of quantized weights out of the biases (Nagel et al. 2019, section 4.2).

With ``W~ = W + eps``, quantized weights shift a channel's output by ``E[eps x] = eps E[x]``
(equation 16), which a bias can take back. The mean comes from images, layer after layer so that
each one sees corrected inputs (empirical, appendix D), or from the folded batch norm before the
layer: its output is normal with known mean and deviation, and clipping it by ReLU has the mean of
equation 19 (analytic, appendix C). arXiv 1906.04721.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.options import BiasCorrection
from bitladder.simulation import SimulatedModel, WeightedLayer, device_of
from bitladder.simulation.aimet import output_quantizers, weight_quantizer
from bitladder.simulation.signature import input_nodes
from bitladder.structures import Inputs, count, fitting, moved, split
from bitladder.techniques.pairs import Statistics, expected_output, statistics
from bitladder.techniques.registry import Context, calibration_inputs, register

_BATCH = 250  # images a forward; results do not depend on it but for rounding


@register(BiasCorrection)
@torch.no_grad()
def bias_correction(options: BiasCorrection, model: nn.Module, context: Context) -> SimulatedModel:
    """Correct the biases of a calibrated simulated network in place.

    Layers without a bias of their own are left as they are.

    Raises:
        QuantizationError: the method needs images and there are none.
    """
    assert isinstance(model, SimulatedModel)
    model.eval()
    analytic = {} if options.method == "empirical" else dict(_analytic(model))
    for name, error in analytic.items():
        _take_out(model, name, error)
    if options.method == "analytic":
        context.notes.append(f"{len(analytic)} biases corrected from batch norms")
        return model
    inputs = calibration_inputs(options, context)
    corrected = _empirical(model, inputs, skip=set(analytic))
    context.notes.append(
        f"biases of {len(analytic)} layers corrected from batch norms, of {corrected} from "
        f"{count(inputs)} images"
    )
    return model


def clipped_normal_mean(mean: Tensor, deviation: Tensor, high: float = math.inf) -> Tensor:
    """Mean of a normal variable clipped to 0 and ``high`` (Nagel 2019, equations 19 and 34)."""
    deviation = deviation.clamp(min=torch.finfo(deviation.dtype).tiny)

    def above(threshold: float) -> Tensor:
        """Mean of what lies above a threshold, ``E[max(0, x - threshold)]``."""
        z = (mean - threshold) / deviation
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        passed: Tensor = torch.special.ndtr(z)
        return deviation * density + (mean - threshold) * passed

    return above(0.0) if math.isinf(high) else above(0.0) - above(high)


def _analytic(model: SimulatedModel) -> Iterator[tuple[str, Tensor]]:
    """Layers whose input's mean is known, with the mean error of their outputs."""
    module = model.module
    assert isinstance(module, fx.GraphModule)
    known = statistics(module)
    modules = dict(module.named_modules())
    for node in module.graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, WeightedLayer) or layer.bias is None:
            continue
        means = _input_means(node.args[0], modules, known)
        if means is None:
            continue
        weight = layer.weight
        quantizer = weight_quantizer(layer)
        quantized = weight if quantizer is None else quantizer(weight)
        yield str(node.target), expected_output(layer, quantized - weight, means)


def _input_means(
    source: Any, modules: dict[str, nn.Module], known: dict[str, Statistics]
) -> Tensor | None:
    """Channel means of a tensor that a known layer made, perhaps through an activation."""
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return None
    if str(source.target) in known:
        return known[str(source.target)].mean
    before = source.args[0] if source.args else None
    if not isinstance(before, fx.Node) or str(before.target) not in known:
        return None
    made = known[str(before.target)]
    activation = modules[str(source.target)]
    if isinstance(activation, nn.ReLU6):
        return clipped_normal_mean(made.mean, made.deviation, 6.0)
    if isinstance(activation, nn.ReLU):
        return clipped_normal_mean(made.mean, made.deviation)
    return None


def _empirical(model: SimulatedModel, inputs: Inputs, *, skip: set[str]) -> int:
    """Run float and simulated network in step, node by node, and correct each layer as it comes."""
    simulated = model.module
    reference = model.float_network()
    assert isinstance(simulated, fx.GraphModule)
    device = device_of(simulated)
    batches = [moved(batch, device) for batch in split(inputs, fitting(inputs, _BATCH))]
    runs = [_Lockstep(network, batches) for network in (reference, simulated)]
    modules = dict(simulated.named_modules())
    corrected = 0
    for node in simulated.graph.nodes:
        twin, own = runs
        twin.step(node)
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        correctable = isinstance(layer, WeightedLayer) and layer.bias is not None
        if correctable and str(node.target) not in skip:
            assert layer is not None
            with _unrounded(layer):
                own.step(node, last=False)
            axis = -1 if isinstance(layer, nn.Linear) else 1
            error = own.channel_means(node, axis) - twin.channel_means(node, axis)
            _take_out(model, str(node.target), error)
            corrected += 1
        own.step(node)
    return corrected


class _Lockstep:
    """A traced network run one node at a time, each on all batches, old values let go."""

    def __init__(self, module: fx.GraphModule, batches: list[Inputs]) -> None:
        self.interpreter = fx.Interpreter(module)
        self.nodes = {node.name: node for node in module.graph.nodes}
        self.places = {node: place for place, node in enumerate(input_nodes(module.graph))}
        self.batches = batches
        self.values: list[dict[fx.Node, Any]] = [{} for _ in batches]

    def step(self, like: fx.Node, *, last: bool = True) -> None:
        """Run the node of that name; ``last`` lets go what no later node reads."""
        node = self.nodes[like.name]
        for batch, values in zip(self.batches, self.values, strict=True):
            if node in self.places:
                values[node] = batch[self.places[node]]
                continue
            self.interpreter.env = values
            values[node] = self.interpreter.run_node(node)
        for read in self.interpreter.user_to_last_uses.get(node, []) if last else []:
            for values in self.values:
                del values[read]

    def channel_means(self, like: fx.Node, axis: int) -> Tensor:
        """Mean of a node's output over images and positions, (channels,).

        Args:
            like: the node.
            axis: of the channels.
        """
        outputs = [values[self.nodes[like.name]] for values in self.values]
        channels = torch.cat([output.movedim(axis, 0).flatten(1).double() for output in outputs], 1)
        return channels.mean(1)


@contextmanager
def _unrounded(layer: nn.Module) -> Iterator[None]:
    """Take a layer's output quantizer off, so that the error of its weights alone is seen."""
    places = output_quantizers(layer)
    before, places["0"] = places["0"], None
    try:
        yield
    finally:
        places["0"] = before


def _take_out(model: SimulatedModel, name: str, error: Tensor) -> None:
    layer = model.module.get_submodule(name)
    assert isinstance(layer, WeightedLayer)
    assert layer.bias is not None
    layer.bias.sub_(error.to(layer.bias.dtype))
