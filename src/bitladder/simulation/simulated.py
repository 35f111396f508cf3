"""A simulated network: every weight and activation passes a quantizer, gradients pass through.

AIMET's QuantizationSimModel does the simulating; this type builds it at any precision, tells what
its quantizers are, and saves and restores it without pickle. Techniques make and change it, deploy
and targets read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from bitladder import structures
from bitladder.errors import QuantizationError
from bitladder.options import Calibrate, Precision
from bitladder.simulation import formats
from bitladder.simulation.aimet import (
    MIN_BITS,
    QuantizerInfo,
    accelerate,
    activation_quantizer,
    build_simulation,
    float_network,
    quantizers,
    quiet,
)
from bitladder.simulation.calibrate import find_ranges
from bitladder.simulation.config import quantsim_config
from bitladder.simulation.execute import Executor, held_weights
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.pixels import LEVELS, hold_pixels, image_axis, stands_in
from bitladder.simulation.placement import (
    edge_quantizers,
    outputs_of_quantizers,
    place,
    rectified_quantizers,
)
from bitladder.simulation.prepare import note_ranks
from bitladder.simulation.quality import device_of, outputs
from bitladder.simulation.ranges import set_analyzer, set_output_range
from bitladder.simulation.signature import flat_outputs, input_nodes
from bitladder.simulation.unknown import register_unknown
from bitladder.structures import Inputs, as_inputs
from bitladder.tasks.task import Task


class SimulatedModel(nn.Module):
    """A network that computes as if on integers, in float; trainable, ranges included.

    Args:
        model: a prepared network (see ``prepare``) in evaluation mode; it is copied.
        precision: bits of weights and activations.
        shapes: of one image or signal of each input, without the batch.
        dtypes: of each input; by default all are float32.
        options: the quantsim config, and how ranges are found when ``calibrate`` is called.
        pixels: its images are pixels in 0 to 1, made from bytes, whose grid their quantizers get at
            every precision. A network that normalizes them itself has it without being asked.

    Raises:
        QuantizationError: the config is unknown, or AIMET cannot simulate this network.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        *,
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[torch.dtype] | None = None,
        options: Calibrate | None = None,
        pixels: bool = False,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.shapes = tuple(map(tuple, shapes))
        self.dtypes = tuple(dtypes or (torch.float32,) * len(self.shapes))
        self.options = options or Calibrate()
        normalization = stands_in(model) if isinstance(model, fx.GraphModule) else None
        self.pixels = pixels or normalization is not None
        if isinstance(model, fx.GraphModule):
            note_ranks(model, self.example(2))
        self.sim = _build(model, precision, self.example(1), self.options)
        self.module: fx.GraphModule = self.sim.model
        if self.pixels:
            widest = max(precision.activations, self.options.edges or precision.edges or 0)
            hold_pixels(self.module, normalization, widest)
        self._execute = Executor(self.module)

    def forward(self, *inputs: Tensor) -> Any:
        """Map the network's inputs to what it returns, quantized."""
        return self._execute(*inputs)

    def run_part(self, nodes: Sequence[fx.Node], values: dict[fx.Node, Any]) -> None:
        """Run some nodes of ``module.graph``.

        Args:
            nodes: those to run.
            values: of all nodes that they read; gets what they make.
        """
        self._execute.run_part(nodes, values)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network calls its inputs."""
        return tuple(str(node.target) for node in input_nodes(self.module.graph))

    def example(self, count: int, seed: int = 0) -> Inputs:
        """Random inputs of the network, see ``structures.example``; images of pixels are such."""
        made = structures.example(count, self.shapes, self.dtypes, seed)
        return tuple(map(_as_pixels, made)) if self.pixels else made

    def weights_held(self) -> AbstractContextManager[None]:
        """Quantize every weight once for all that runs in a block, in which no weight may change.

        Where gradients are wanted, weights are quantized as ever.
        """
        return held_weights(self.module)

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedModel:
        raise TypeError("a SimulatedModel is not copied: the trained module must be this one")

    @torch.no_grad()
    def calibrate(self, inputs: Tensor | Inputs, task: Task | None = None) -> None:
        """Set every range from what the quantizers see.

        Args:
            inputs: one tensor an input.
            task: what the outputs mean, for the ranges of their quantizers.
        """
        inputs = as_inputs(inputs)
        with quiet():
            find_ranges(self.sim, self._execute, lambda: outputs(self, inputs))
        if self.options.outputs == "method" or task is None:
            return
        found = [
            (quantizer, names)
            for quantizer, names in outputs_of_quantizers(self.module)
            if quantizer.min.numel() == 1
            and quantizer.is_initialized()
            and quantizer.is_overwrite_allowed()
        ]
        last = {id(quantizer) for quantizer, _ in found}
        if found:
            others = [q for _, q in self.quantizers() if id(q) not in last]
            with only_quantizers(self.module, others):
                values = outputs(self, inputs)
            for quantizer, names in found:
                set_output_range(quantizer, values, names, task)

    def quantizers(self) -> Iterator[tuple[QuantizerInfo, nn.Module]]:
        """Every active quantizer in module order, with what it is."""
        return quantizers(self.module)

    def float_network(self) -> fx.GraphModule:
        """A copy of the network in float, with the weights that it has now."""
        return float_network(self.module)

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write weights, ranges and the quantizers' widths as one safetensors file.

        Args:
            path: the file.
            metadata: text to write with them.
        """
        tensors = {
            name: value.detach().cpu().contiguous().clone()  # quantizers may be shared
            for name, value in self.module.state_dict().items()
            if isinstance(value, Tensor)
        }
        widths = {info.name: asdict(info) for info, _ in self.quantizers()}
        described = {
            **(metadata or {}),
            "quantizers": json.dumps(widths, sort_keys=True),
            "strides": json.dumps(_strides(self.module)),
        }
        save_file(tensors, path, metadata=described)

    def restore(self, path: Path) -> None:
        """Load what ``save`` wrote; outputs are then bit-identical to the saved network's.

        Raises:
            QuantizationError: the file is of another network or recipe.
        """
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            widths = json.loads(described.get("quantizers", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        own = {info.name: quantizer for info, quantizer in self.quantizers()}
        if own.keys() != widths.keys():
            odd = sorted(own.keys() ^ widths.keys())[0]
            raise QuantizationError(
                f"{path}: its quantizers are not this network's (first: '{odd}'); "
                "load it into the network and recipe that it was saved from"
            )
        for name, quantizer in own.items():
            _set_bits(quantizer, widths[name]["bits"])
        missing, unexpected = self.module.load_state_dict(tensors, strict=False)
        odd_keys = [key for key in missing if not key.endswith("._extra_state")] + unexpected
        if odd_keys:
            raise QuantizationError(
                f"{path}: does not fit this network (first: '{odd_keys[0]}'); "
                "load it into the network and recipe that it was saved from"
            )

        strides = json.loads(described.get("strides", "{}"))
        for name, weight in self.module.named_parameters():
            if name in strides:
                laid_out = torch.empty_strided(
                    weight.shape, strides[name], dtype=weight.dtype, device=weight.device
                )
                weight.data = laid_out.copy_(weight.data)


def _as_pixels(values: Tensor) -> Tensor:
    """Values of an image as pixels in 0 to 1; what is no image stays."""
    if not values.is_floating_point() or image_axis(values.shape[1:]) is None:
        return values
    return (values.sigmoid() * LEVELS).round() / LEVELS


def _strides(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """How weights lie in memory where it is another way than usual, such as channels last.

    A convolution adds up in another order there, and float sums differ by their last bit.
    """
    return {
        name: weight.stride()
        for name, weight in module.named_parameters()
        if weight.stride() != torch.empty(weight.shape, device="meta").stride()
    }


def _build(model: Any, precision: Precision, example: Inputs, options: Calibrate) -> Any:
    if not any(node.op == "call_module" for node in model.graph.nodes):
        raise QuantizationError(
            "the network computes nothing: it has no operation that could be quantized"
        )
    device = device_of(model)
    register_unknown(model)
    try:
        with quantsim_config(options) as config, flat_outputs(model):
            sim = build_simulation(
                model,
                tuple(torch.zeros_like(one, device=device) for one in example),
                weights=max(precision.weights, MIN_BITS),
                activations=max(precision.activations, MIN_BITS),
                config=config,
            )
    except Exception as error:  # AIMET traces the network, which can raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise QuantizationError(
            f"cannot simulate at {precision} with quantsim config '{options.config}': {reason}"
        ) from error
    _restore_structure(sim.model, model)
    for node, one in zip(input_nodes(sim.model.graph), example, strict=True):
        node.meta["floating"] = one.is_floating_point()
        node.meta["image"] = one.is_floating_point() and image_axis(one.shape[1:]) is not None
    place(sim.model, _maker(sim, max(precision.activations, MIN_BITS)))
    for info, quantizer in quantizers(sim.model):
        set_analyzer(quantizer, options, weight=info.kind == "weight")
        accelerate(quantizer)
    _apply_bits(sim, precision, options.edges or precision.edges)
    formats.fit(sim.model, options.targets or ())
    for quantizer in rectified_quantizers(sim.model):
        if not quantizer.symmetric:
            quantizer.min.requires_grad_(False)  # training would move zero off the grid's end
    return sim


def _restore_structure(module: fx.GraphModule, original: fx.GraphModule) -> None:
    """Have a copy whose outputs were flattened return what the original returns."""
    nodes = {node.name: node for node in module.graph.nodes}
    [output], [wanted] = (g.graph.find_nodes(op="output") for g in (module, original))
    output.args = fx.node.map_arg(wanted.args, lambda node: nodes[node.name])
    module.recompile()


def _maker(sim: Any, bits: int) -> Callable[[], nn.Module]:
    """Makes activation quantizers like those that AIMET made, as its config says."""
    like = next((q for info, q in quantizers(sim.model) if info.kind != "weight"), None)
    symmetric = like is not None and like.symmetric

    def make() -> nn.Module:
        made: nn.Module = activation_quantizer(
            bits, symmetric=symmetric, device=device_of(sim.model)
        )
        return made

    return make


def _apply_bits(sim: Any, precision: Precision, edges: int | None) -> None:
    """Set the widths that AIMET's constructor cannot: below 4 bit, and the edges."""
    for info, quantizer in quantizers(sim.model):
        wanted = precision.weights if info.kind == "weight" else precision.activations
        if wanted < MIN_BITS and quantizer.bitwidth == MIN_BITS:
            _set_bits(quantizer, wanted)
    if edges is not None:
        for quantizer in edge_quantizers(sim.model):
            _set_bits(quantizer, edges)


def _set_bits(quantizer: Any, bits: int) -> None:
    if quantizer.bitwidth != bits:
        quantizer.bitwidth = bits
