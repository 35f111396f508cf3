"""Random networks: operations with random attributes, composed, from a seed; and made smaller."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from conformance.case import flat, settle
from conformance.random_operations import OPERATIONS

_LARGEST = 24  # height, width and channels that no value exceeds
_PRECISIONS = (
    "w8a8", "w8a8", "w4a4", "w4a8", "w8a16", "w6a6", "w8a4", "w5a7", "w3a8", "w4a16", "w2a6",
)  # fmt: skip
_RECIPES = (("fold_batch_norm", "calibrate"),) * 3 + (("calibrate", "reestimate_batch_norm"),)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One operation of a network.

    Attributes:
        operation: a key of ``OPERATIONS``.
        seed: of its attributes.
        inputs: which earlier values it reads, 0 for the images.
    """

    operation: str
    seed: int
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A random network, as data.

    Attributes:
        seed: of its weights and of the images.
        shape: of an image, (channels, height, width).
        images: how they are distributed.
        precision: such as ``w4a8``.
        recipe: techniques.
        steps: operations in their order.
        outputs: values that the network returns.
        head: what is behind the first of them.
    """

    seed: int
    shape: tuple[int, int, int]
    images: str
    precision: str
    recipe: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    head: str


class Composed(nn.Module):
    """The network of a plan."""

    def __init__(
        self, layers: Sequence[nn.Module], inputs: Sequence[tuple[int, ...]],
        outputs: Sequence[int], head: nn.Module | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer, read in zip(self.layers, self.inputs, strict=True):
            values.append(layer(*(values[place] for place in read)))
        first, *others = (values[place] for place in self.outputs)
        if self.head is not None:
            first = self.head(first)
        return flat([first, *others]) if others else flat(first)


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    draw = random.Random(seed)
    steps = [Step("conv", draw.getrandbits(32), (0,))]
    for index in range(1, draw.randint(2, 9)):
        name = draw.choices(list(OPERATIONS), [kind.often for kind in OPERATIONS.values()])[0]
        latest = index if draw.random() < 0.75 else draw.randint(1, index)
        read = (latest,) if OPERATIONS[name].values == 1 else (latest, draw.randint(0, index))
        steps.append(Step(name, draw.getrandbits(32), read))
    outputs = [len(steps)]
    if draw.random() < 0.2:
        outputs.append(draw.randint(1, len(steps)))
    return Plan(
        seed=seed,
        shape=(draw.choice((1, 3, 3, 4)), draw.randint(5, 16), draw.randint(5, 16)),
        images=draw.choice(("normal", "normal", "unit", "bytes", "offset", "small")),
        precision=draw.choice(_PRECISIONS),
        recipe=draw.choice(_RECIPES),
        steps=tuple(steps),
        outputs=tuple(outputs),
        head=draw.choice(("flatten", "flatten", "linear", "pooled", "pooled")),
    )


def images(made: Plan, count: int = 24) -> Tensor:
    """Images (N, C, H, W) of a plan."""
    generator = torch.Generator().manual_seed(made.seed)
    unit = torch.rand(count, *made.shape, generator=generator)
    return {
        "normal": lambda: torch.randn(count, *made.shape, generator=generator),
        "unit": lambda: unit,
        "bytes": lambda: (unit * 255).floor(),
        "offset": lambda: 1 + unit,
        "small": lambda: unit * 1e-3,
    }[made.images]()


@torch.no_grad()
def build(made: Plan) -> nn.Module:
    """The network of a plan, in evaluation mode; an operation that does not fit does nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(made.seed)
        values = [torch.zeros(2, *made.shape)]
        layers: list[nn.Module] = []
        for step in made.steps:
            layer = _fitting(step, [values[place] for place in step.inputs], layers)
            settle(layer)
            _disturb(layer, random.Random(step.seed ^ 1))
            layers.append(layer.eval())
            values.append(layer(*(values[place] for place in step.inputs)))
        head = _head(made.head, values[made.outputs[0]])
        return Composed(layers, [step.inputs for step in made.steps], made.outputs, head).eval()


def smaller(made: Plan, still_fails: Callable[[Plan], bool], tries: int = 30) -> Plan:
    """A plan with as few steps as can be found that fails as the given one does."""
    changed = True
    while changed and tries > 0:
        changed = False
        candidates = [without(made, index) for index in reversed(range(1, len(made.steps)))]
        candidates += [replace(made, outputs=made.outputs[:1])] if made.outputs[1:] else []
        candidates += [replace(made, head="flatten")] if made.head != "flatten" else []
        for candidate in candidates:
            tries -= 1
            if still_fails(candidate):
                made, changed = candidate, True
                break
            if tries <= 0:
                break
    return made


def without(made: Plan, index: int) -> Plan:
    """A plan without a step; who read its value reads what it read."""
    gone, instead = index + 1, made.steps[index].inputs[0]

    def moved(place: int) -> int:
        place = instead if place == gone else place
        return place - 1 if place > gone else place

    steps = tuple(
        replace(step, inputs=tuple(moved(place) for place in step.inputs))
        for number, step in enumerate(made.steps)
        if number != index
    )
    return replace(made, steps=steps, outputs=tuple(moved(place) for place in made.outputs))


def describe(made: Plan) -> str:
    """A network in one line."""
    network = build(made)
    layers = []
    for step, layer in zip(made.steps, network.layers, strict=True):
        text = " ".join(repr(layer).split())
        layers.append(f"{step.operation}{list(step.inputs)} = {text}")
    return f"{made.shape} {made.images} | {' | '.join(layers)} | {list(made.outputs)} {made.head}"


def _fitting(step: Step, given: list[Tensor], earlier: list[nn.Module]) -> nn.Module:
    """The module of a step, or an identity where it cannot read these values."""
    draw = random.Random(step.seed)
    shapes = [tuple(value.shape) for value in given]
    try:
        layer = OPERATIONS[step.operation].make(draw, *shapes, earlier=earlier)
        result = layer.eval()(*given)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return _First()
    fits = result.dim() == 4 and min(result.shape) > 0 and max(result.shape[1:]) <= _LARGEST
    return layer if fits else _First()


class _First(nn.Module):
    """Gives on the first of its values."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x


def _disturb(layer: nn.Module, draw: random.Random) -> None:
    """Make channels dead, huge or tiny, as training and pruning do."""
    for module in layer.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            continue
        if draw.random() > 0.25:
            continue
        axis = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        channel = draw.randrange(module.weight.shape[axis])
        module.weight.select(axis, channel).mul_(draw.choice((0.0, 0.0, 1e-6, 50.0)))
        if module.bias is not None:
            module.bias[channel % len(module.bias)] = draw.choice((2.5, -2.5, 0.0, 20.0))


def _head(kind: str, value: Tensor) -> nn.Module | None:
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(value[0].numel(), 5))
    if kind == "pooled":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(value.shape[1], 5))
    return None
