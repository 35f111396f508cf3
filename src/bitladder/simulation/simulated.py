"""A simulated network: every weight and activation passes a quantizer, gradients pass through.

AIMET's QuantizationSimModel does the simulating; this type builds it at any precision, tells what
its quantizers are, and saves and restores it without pickle. Techniques make and change it, deploy
and targets read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from bitladder import structures
from bitladder.errors import QuantizationError
from bitladder.options import Calibrate, Precision
from bitladder.simulation.aimet import aimet, quiet
from bitladder.simulation.calibrate import find_ranges
from bitladder.simulation.config import quantsim_config
from bitladder.simulation.execute import Executor, held_weights
from bitladder.simulation.isolate import only
from bitladder.simulation.kernel import accelerate
from bitladder.simulation.placement import (
    edge_quantizers,
    outputs_of_quantizers,
    place,
    rectified_quantizers,
)
from bitladder.simulation.quality import device_of, outputs
from bitladder.simulation.ranges import set_analyzer, set_output_range
from bitladder.simulation.signature import flat_outputs, input_nodes
from bitladder.simulation.unknown import register_unknown
from bitladder.structures import Inputs, as_inputs
from bitladder.tasks.task import Task

_AIMET_MIN_BITS = 4  # its constructor refuses fewer; a quantizer itself takes them


@dataclass(frozen=True)
class QuantizerInfo:
    """One quantizer: integers from ``integer_min`` to ``integer_max``.

    Attributes:
        name: dotted name in the simulated module.
        kind: ``weight``, ``input`` or ``output``.
        bits: width of the integers.
        symmetric: whether the zero point is the middle of the grid.
        integer_min: smallest integer of the grid.
        integer_max: largest integer of the grid.
        channels: number of ranges; 1 is per tensor.
    """

    name: str
    kind: Literal["weight", "input", "output"]
    bits: int
    symmetric: bool
    integer_min: int
    integer_max: int
    channels: int


class SimulatedModel(nn.Module):
    """A network that computes as if on integers, in float; trainable, ranges included.

    Args:
        model: a prepared network (see ``prepare``) in evaluation mode; it is copied.
        precision: bits of weights and activations.
        shapes: of one image or signal of each input, without the batch.
        dtypes: of each input; by default all are float32.
        options: the quantsim config, and how ranges are found when ``calibrate`` is called.

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
    ) -> None:
        super().__init__()
        self.precision = precision
        self.shapes = tuple(map(tuple, shapes))
        self.dtypes = tuple(dtypes or (torch.float32,) * len(self.shapes))
        self.options = options or Calibrate()
        self.sim = _build(model, precision, self.example(1), self.options)
        self.module: fx.GraphModule = self.sim.model
        self._execute = Executor(self.module)

    def forward(self, *inputs: Tensor) -> Any:
        """Map the network's inputs to what it returns, quantized."""
        return self._execute(*inputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network calls its inputs."""
        return tuple(str(node.target) for node in input_nodes(self.module.graph))

    def example(self, count: int, seed: int = 0) -> Inputs:
        """Random inputs of the network, see ``structures.example``."""
        return structures.example(count, self.shapes, self.dtypes, seed)

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
            if quantizer.min.numel() == 1 and quantizer.is_initialized()
        ]
        last = {id(quantizer) for quantizer, _ in found}
        if found:
            with only(self.module, [q for _, q in self.quantizers() if id(q) not in last]):
                values = outputs(self, inputs)
            for quantizer, names in found:
                set_output_range(quantizer, values, names, task)

    def quantizers(self) -> Iterator[tuple[QuantizerInfo, nn.Module]]:
        """Every active quantizer in module order, with what it is."""
        for name, quantizer in self.sim.named_quantizers():
            yield _info(name, quantizer), quantizer

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
        described = {**(metadata or {}), "quantizers": json.dumps(widths, sort_keys=True)}
        save_file(tensors, path, metadata=described)

    def restore(self, path: Path) -> None:
        """Load what ``save`` wrote; outputs are then bit-identical to the saved network's.

        Raises:
            QuantizationError: the file is of another network or recipe.
        """
        with safe_open(path, framework="pt") as file:
            widths = json.loads((file.metadata() or {}).get("quantizers", "{}"))
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


def _build(model: Any, precision: Precision, example: Inputs, options: Calibrate) -> Any:
    quantsim = aimet("quantsim")
    device = device_of(model)
    register_unknown(model)
    try:
        with quiet(), quantsim_config(options) as config, flat_outputs(model):
            sim = quantsim.QuantizationSimModel(
                model,
                tuple(torch.zeros_like(one, device=device) for one in example),
                default_param_bw=max(precision.weights, _AIMET_MIN_BITS),
                default_output_bw=max(precision.activations, _AIMET_MIN_BITS),
                config_file=config,
            )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise QuantizationError(
            f"cannot simulate at {precision} with quantsim config '{options.config}': {reason}"
        ) from error
    _restore_structure(sim.model, model)
    for node, one in zip(input_nodes(sim.model.graph), example, strict=True):
        node.meta["floating"] = one.is_floating_point()
    place(sim.model, _maker(sim, max(precision.activations, _AIMET_MIN_BITS)))
    for name, quantizer in sim.named_quantizers():
        set_analyzer(quantizer, options, weight=_kind(name) == "weight")
        accelerate(quantizer)
    for quantizer in rectified_quantizers(sim.model):
        if not quantizer.symmetric:
            quantizer.min.requires_grad_(False)  # training would move zero off the grid's end
    _apply_bits(sim, precision, options.edges or precision.edges)
    return sim


def _restore_structure(module: fx.GraphModule, original: fx.GraphModule) -> None:
    """Have a copy whose outputs were flattened return what the original returns."""
    nodes = {node.name: node for node in module.graph.nodes}
    [output], [wanted] = (g.graph.find_nodes(op="output") for g in (module, original))
    output.args = fx.node.map_arg(wanted.args, lambda node: nodes[node.name])
    module.recompile()


def _maker(sim: Any, bits: int) -> Callable[[], nn.Module]:
    """Makes activation quantizers like those that AIMET made, as its config says."""
    kind = aimet("quantization.affine.quantizer").QuantizeDequantize
    like = next((q for name, q in sim.named_quantizers() if _kind(name) != "weight"), None)
    symmetric = like is not None and like.symmetric

    def make() -> nn.Module:
        made: nn.Module = kind(shape=(), bitwidth=bits, symmetric=symmetric)
        return made.to(device_of(sim.model))

    return make


def _apply_bits(sim: Any, precision: Precision, edges: int | None) -> None:
    """Set the widths that AIMET's constructor cannot: below 4 bit, and the edges."""
    for name, quantizer in sim.named_quantizers():
        wanted = precision.weights if _kind(name) == "weight" else precision.activations
        if wanted < _AIMET_MIN_BITS and quantizer.bitwidth == _AIMET_MIN_BITS:
            _set_bits(quantizer, wanted)
    if edges is not None:
        for quantizer in edge_quantizers(sim.model):
            _set_bits(quantizer, edges)


def _set_bits(quantizer: Any, bits: int) -> None:
    if quantizer.bitwidth != bits:
        quantizer.bitwidth = bits


def _kind(name: str) -> Literal["weight", "input", "output"]:
    if ".param_quantizers." in name:
        return "weight"
    return "input" if ".input_quantizers." in name else "output"


def _info(name: str, quantizer: Any) -> QuantizerInfo:
    return QuantizerInfo(
        name=name,
        kind=_kind(name),
        bits=quantizer.bitwidth,
        symmetric=quantizer.symmetric,
        integer_min=quantizer.qmin,
        integer_max=quantizer.qmax,
        channels=quantizer.min.numel(),
    )
