"""The blocks of a traced network: parts that hand one tensor on, such as residual units.

A block ends where a single tensor is all that the rest of the network reads. Straight runs of
layers that belong to one module, such as an inverted residual without a shortcut, are one block;
what has no such end for long, such as a U-Net, is cut where few tensors are read behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

_STRAIGHT = 3  # layers that a block of a straight run has at most
_LONGEST = 8  # layers of a block that is not cut further


@dataclass(frozen=True)
class Block:
    """A part of a network.

    Attributes:
        nodes: of its operations, in order.
        reads: tensors of earlier blocks, or the network's inputs.
        makes: tensors that later blocks read, or the network's outputs.
    """

    nodes: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]
    makes: tuple[fx.Node, ...]


def find_blocks(
    graph: fx.Graph, values: dict[fx.Node, Any], count: int, has_weight: Callable[[fx.Node], bool]
) -> list[Block]:
    """Cut a network into blocks, first to last; those without a layer are joined to the next.

    Args:
        graph: of the network.
        values: what each node made of some images.
        count: of those images.
        has_weight: whether a node is a layer whose weight is to be learned.
    """
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    if not nodes:
        return []
    open_after = _open_after(graph, nodes)
    cuts = [
        place
        for place, live in enumerate(open_after)
        if all(_is_of_images(values[node], count) for node in live)
    ]
    cuts = sorted({*cuts, len(nodes) - 1})
    single = [place for place in cuts if len(open_after[place]) <= 1 or place == len(nodes) - 1]
    parts = _parts(nodes, single)
    shorter: list[list[fx.Node]] = []
    start = 0
    for part in parts:
        inside = [place - start for place in cuts if start <= place < start + len(part)]
        shorter += _shortened(part, inside, [len(live) for live in open_after[start:]], has_weight)
        start += len(part)
    return _blocks(_joined(shorter, has_weight), open_after, nodes)


def _open_after(graph: fx.Graph, nodes: Sequence[fx.Node]) -> list[list[fx.Node]]:
    """For each node, the values that later nodes read, those of the graph's own inputs too."""
    place = {node: index for index, node in enumerate(nodes)}
    last = {}
    for node in graph.nodes:
        readers = [place.get(user, len(nodes)) for user in node.users]
        last[node] = max(readers, default=-1)
    made = [node for node in graph.nodes if node.op != "output"]
    return [
        [one for one in made if place.get(one, -1) <= index < last[one]]
        for index in range(len(nodes))
    ]


def _is_of_images(value: Any, count: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == count


def _parts(nodes: Sequence[fx.Node], ends: Sequence[int]) -> list[list[fx.Node]]:
    starts = [0, *(end + 1 for end in ends)]
    return [list(nodes[start : end + 1]) for start, end in zip(starts, ends, strict=False)]


def _shortened(
    part: list[fx.Node],
    cuts: Sequence[int],
    live: Sequence[int],
    has_weight: Callable[[fx.Node], bool],
) -> list[list[fx.Node]]:
    """A part with many layers, cut where the fewest tensors are live; others as they are."""
    layers = [index for index, node in enumerate(part) if has_weight(node)]
    possible = [c for c in cuts if layers and layers[0] <= c < layers[-1] and c < len(part) - 1]
    if len(layers) <= _LONGEST or not possible:
        return [part]
    half = layers[len(layers) // 2]
    best = min(possible, key=lambda cut: (live[cut], abs(cut - half)))
    first, second = part[: best + 1], part[best + 1 :]
    return [
        *_shortened(first, [c for c in cuts if c <= best], live, has_weight),
        *_shortened(second, [c - best - 1 for c in cuts if c > best], live[best + 1 :], has_weight),
    ]


def _joined(
    parts: list[list[fx.Node]], has_weight: Callable[[fx.Node], bool]
) -> list[list[fx.Node]]:
    """Parts without a layer join the one before; straight runs of one module become one part."""
    found: list[list[fx.Node]] = []
    for part in parts:
        layers = [node for node in part if has_weight(node)]
        before = [node for node in found[-1] if has_weight(node)] if found else []
        straight = (
            len(layers) == 1
            and 0 < len(before) < _STRAIGHT
            and _is_straight(found[-1], before)
            and _home(layers[0]) != ""
            and len({_home(node) for node in (*before, *layers)}) == 1
        )
        if found and (not layers or not before or straight):
            found[-1].extend(part)
        else:
            found.append(list(part))
    return found


def _is_straight(part: Sequence[fx.Node], layers: Sequence[fx.Node]) -> bool:
    """Whether a part is a chain: nothing in it is read twice inside of it."""
    inside = set(part)
    return len(layers) > 0 and all(sum(user in inside for user in node.users) <= 1 for node in part)


def _home(layer: fx.Node) -> str:
    """The unit that a layer belongs to: its path up to the last number that has a name before it.

    ``features.3.conv.0.0`` is of ``features.3``, ``layer1.0.conv2`` of ``layer1.0``.
    """
    path = str(layer.target).split(".")
    for place in range(len(path) - 1, 0, -1):
        if path[place - 1].isdigit() and not path[place].isdigit():
            return ".".join(path[:place])
    return ""


def _blocks(
    parts: Sequence[Sequence[fx.Node]],
    open_after: Sequence[Sequence[fx.Node]],
    nodes: Sequence[fx.Node],
) -> list[Block]:
    place = {node: index for index, node in enumerate(nodes)}
    blocks = []
    for part in parts:
        inside = set(part)
        reads = dict.fromkeys(
            node for one in part for node in one.all_input_nodes if node not in inside
        )
        live = open_after[place[part[-1]]]
        makes = [node for node in part if node in live] or [
            node for node in part if any(user.op == "output" for user in node.users)
        ]
        blocks.append(Block(tuple(part), tuple(reads), tuple(makes)))
    return blocks


def layer_of(module: nn.Module, node: fx.Node) -> Any:
    """The module that a node calls, or None."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None
