"""Grids as the formats of targets demand them, before their ranges are found.

What a file cannot hold as it was simulated would have to be quantized once more as it is written,
and another network than the measured one would ship. So symmetric grids, grids that operators
share, and grids that an operator always has are given to the simulation itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import fx, nn

from bitladder import target_specs
from bitladder.operators import Operator, of_node
from bitladder.simulation.aimet import (
    fix_range,
    input_quantizers,
    is_quantized,
    make_symmetric,
    output_quantizer,
    output_quantizers,
    quantizers,
)
from bitladder.simulation.placement import quantizer_of

_FIXED_BITS = 8


def fit(module: fx.GraphModule, targets: Iterable[str]) -> None:
    """Have the grids of activations fit the formats of some targets; ranges are not found yet.

    Grids of other widths than a format fixes or joins keep what they have.

    Args:
        module: a simulated network whose quantizers stand and have their widths.
        targets: names of targets.

    Raises:
        StudyError: a target is unknown.
    """
    for name in targets:
        rules = target_specs.find(name).grids
        if rules.symmetric_above is not None:
            for info, quantizer in quantizers(module):
                if info.kind != "weight" and info.bits > rules.symmetric_above:
                    make_symmetric(quantizer)
        for node, called, operator in _calls(module):
            if operator.name in rules.fixed:
                _fix(output_quantizer(called), rules.fixed[operator.name])
            elif operator.within and rules.joined:
                _join(module, node, called)


def _calls(module: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module, Operator]]:
    """The nodes that call operators with quantizers, in the order of the graph."""
    modules = dict(module.named_modules())
    for node in module.graph.find_nodes(op="call_module"):
        called = modules[str(node.target)]
        operator = of_node(node, called)
        if operator is not None and is_quantized(called):
            yield node, called, operator


def _fix(quantizer: Any, bounds: tuple[float, float]) -> None:
    """Give an output the range that it always has, which neither calibration nor training moves."""
    if quantizer is None or quantizer.bitwidth != _FIXED_BITS:
        return
    fix_range(quantizer, _FIXED_BITS, False, *bounds)


def _join(module: fx.GraphModule, node: fx.Node, called: nn.Module) -> None:
    """Put what an operator reads on the grid of its output: one quantizer for all."""
    modules, own = dict(module.named_modules()), output_quantizer(called)
    if own is None:  # a clamp behind it is rounded in its place
        return
    sources = [source for source in node.args if isinstance(source, fx.Node)]
    read = [quantizer_of(source, modules) for source in sources]  # inputs keep theirs: of pixels
    joined = {
        id(one)
        for one in read
        if one is not None and one.bitwidth == own.bitwidth and one.is_overwrite_allowed()
    }
    for layer in module.modules():
        for places in (input_quantizers(layer), output_quantizers(layer)):
            for place, quantizer in places.items():
                if id(quantizer) in joined:
                    places[place] = own
