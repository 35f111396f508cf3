"""Learn roundings and ranges block by block, so that each block gives what it gives in float.

For each block (see ``blocks``), in order, ``|| B(x) - B~(x~) ||^2`` is minimized over the rounding
of every weight and the ranges of the activations in it, plus a term that drives every rounding to a
decision (Li et al. 2021, BRECQ, arXiv 2102.05426, equation 10, without its Fisher weights).
Activations are quantized at random while it learns, each value or not, and so are those that come
from earlier blocks, which makes what is found hold for other images (Wei et al. 2022, QDrop, arXiv
2203.05740, equation 8). What is learned of a block is kept if its error falls on held-out images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.options import Reconstruct
from bitladder.simulation import SimulatedModel, WeightedLayer, device_of
from bitladder.simulation.aimet import weight_quantizer
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.signature import input_nodes
from bitladder.structures import Inputs, count, first, moved
from bitladder.techniques.blocks import Block, find_blocks, layer_of
from bitladder.techniques.held_out import held_out
from bitladder.techniques.learned_grids import Part
from bitladder.techniques.registry import Context, calibration_inputs, register

_WARM_UP = 0.2  # of the iterations, before roundings are driven to decisions
_POWERS = (20.0, 2.0)  # of the term that does, first and last
_CHUNK = 64  # images that run at a time where nothing is learned

Values = dict[fx.Node, Tensor]


@register(Reconstruct)
def reconstruct(options: Reconstruct, model: nn.Module, context: Context) -> SimulatedModel:
    """Put the weights of a calibrated simulated network on their grids and move ranges, in place.

    Widths stay, and weights that layers share. In memory are the images' values between two
    blocks, in float and quantized.

    Raises:
        QuantizationError: there are no calibration images.
    """
    assert isinstance(model, SimulatedModel)
    inputs = calibration_inputs(options, context)
    model.eval()
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(context.seed)
        kept, blocks = _Reconstruction(options, model, inputs).run()
    context.notes.append(f"{kept} of {blocks} blocks learned; the others had no smaller error")
    return model


class _Reconstruction:
    """Goes through the blocks with what the images are between them."""

    def __init__(self, options: Reconstruct, model: SimulatedModel, inputs: Inputs) -> None:
        self.options, self.model = options, model
        self.device = device_of(model)
        self.count = count(inputs)
        given = dict(zip(input_nodes(model.module.graph), inputs, strict=True))
        self.real: Values = {node: values.to(self.device) for node, values in given.items()}
        self.quantized: Values = dict(self.real)
        self.blocks = find_blocks(
            model.module.graph, self._sample(inputs), 2, lambda node: self._layer(node) is not None
        )

    def run(self) -> tuple[int, int]:
        """Learn every block that has a layer.

        Returns:
            How many are better than they were, and how many there are.
        """
        kept = learned = 0
        for place, block in enumerate(self.blocks):
            with only_quantizers(self.model.module, []):
                wanted = self._through(block, self.real)
            if any(self._layer(node) is not None for node in block.nodes):
                learned += 1
                kept += self._learn(block, wanted)
            made = self._through(block, self.quantized)
            later = {node for after in self.blocks[place + 1 :] for node in after.reads}
            self.real = {n: v for n, v in {**self.real, **wanted}.items() if n in later}
            self.quantized = {n: v for n, v in {**self.quantized, **made}.items() if n in later}
        return kept, learned

    def _learn(self, block: Block, wanted: Values) -> bool:
        """Learn a block, and take it back where its error on held-out images does not fall."""
        called = [layer_of(self.model.module, node) for node in block.nodes]
        learned = [self._layer(node) for node in block.nodes]
        part = Part(self.model.module, called, learned)
        held = held_out(self.count).to(self.device)
        before = self._error(block, wanted, held)
        with part.learning(self.options.drop):
            self._optimize(block, wanted, part, torch.nonzero(~held).flatten())
        part.decide()
        if not bool(held.any()) or self._error(block, wanted, held) < before:
            return True
        part.undo()
        return False

    def _optimize(self, block: Block, wanted: Values, part: Part, images: Tensor) -> None:
        options = self.options
        optimizer = torch.optim.Adam(
            [
                {"params": [one.logits for one in part.roundings], "lr": options.lr},
                *(
                    {"params": [bound], "lr": options.range_lr * size}
                    for bound, size in part.bounds
                ),
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.iterations)
        for step in range(options.iterations):
            chosen = images[torch.randint(len(images), (options.batch_size,), device=self.device)]
            values: dict[fx.Node, Any] = {
                node: self._mixed(self.quantized[node][chosen], self.real[node][chosen])
                for node in block.reads
                if node in self.real
            }
            part.soften()
            self.model.run_part(block.nodes, values)
            loss = torch.zeros((), device=self.device)
            for node in block.makes:
                loss = loss + _distance(values[node], wanted[node][chosen])
            warm = options.iterations * _WARM_UP
            if step >= warm:
                passed = (step - warm) / max(1.0, options.iterations - warm)
                power = _POWERS[0] + (_POWERS[1] - _POWERS[0]) * passed
                for one in part.roundings:
                    loss = loss + options.regularization * one.undecided(power)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

    def _mixed(self, quantized: Tensor, real: Tensor) -> Tensor:
        if not real.is_floating_point():
            return real
        return torch.where(torch.rand_like(real) < self.options.drop, real, quantized)

    @torch.no_grad()
    def _through(self, block: Block, given: Values) -> Values:
        """What a block makes of all images."""
        parts: dict[fx.Node, list[Tensor]] = {node: [] for node in block.makes}
        for start in range(0, self.count, _CHUNK):
            values: dict[fx.Node, Any] = {
                node: given[node][start : start + _CHUNK] for node in block.reads if node in given
            }
            self.model.run_part(block.nodes, values)
            for node in block.makes:
                parts[node].append(values[node])
        return {node: torch.cat(made) for node, made in parts.items()}

    def _error(self, block: Block, wanted: Values, held: Tensor) -> float:
        """Squared error of a block on held-out images, as it is when the network runs."""
        reads = {node: values[held] for node, values in self.quantized.items()}
        total, amount = 0.0, int(held.sum())
        with torch.no_grad():
            for start in range(0, amount, _CHUNK):
                values: dict[fx.Node, Any] = {
                    node: reads[node][start : start + _CHUNK]
                    for node in block.reads
                    if node in reads
                }
                self.model.run_part(block.nodes, values)
                for node in block.makes:
                    right = wanted[node][held][start : start + _CHUNK]
                    total += float((values[node].double() - right.double()).square().sum())
        return total

    def _layer(self, node: fx.Node) -> Any:
        """The layer whose rounding is to be learned at a node, or None."""
        layer = layer_of(self.model.module, node)
        if not isinstance(layer, WeightedLayer):
            return None
        quantizer: Any = weight_quantizer(layer)
        return layer if quantizer is not None and quantizer.is_initialized() else None

    @torch.no_grad()
    def _sample(self, inputs: Inputs) -> dict[fx.Node, Any]:
        """What every node makes of two images."""
        graph = self.model.module.graph
        values: dict[fx.Node, Any] = dict(
            zip(input_nodes(graph), moved(first(inputs, 2), self.device), strict=True)
        )
        self.model.run_part([n for n in graph.nodes if n.op != "output"], values)
        return values


def _distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared error, summed over channels and averaged over images and places."""
    squared = (made - wanted).square()
    return squared.sum(1).mean() if squared.dim() > 1 else squared.mean()
