"""What a conformance case is: an operation in a small network, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FEATURES = 8  # channels that the convolution in front gives to the operation
IMAGES = 24  # calibration images of a case
Build = Callable[[], nn.Module]


class Body(nn.Module):
    """A function of the modules it is given and of the features, such as ``m.conv(x) + x``."""

    def __init__(self, compute: Callable[[Any, Tensor], Any], **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.compute = compute

    def forward(self, x: Tensor) -> Any:
        return self.compute(self, x)


class Network(nn.Module):
    """A convolution, the operation, a last convolution where there is one, one tensor (N, K).

    Args:
        body: the operation; it may return several tensors.
        front: what makes its input of the images.
        tail: layer behind the operation, or None.
    """

    def __init__(self, body: nn.Module, front: nn.Module | None, tail: nn.Module | None) -> None:
        super().__init__()
        self.front = front
        self.body = body
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        if self.front is not None:
            x = self.front(x)
        y = self.body(x)
        if self.tail is not None:
            y = self.tail(y)
        return flat(y)


def flat(y: Any) -> Tensor:
    """The outputs as one tensor (N, K): the one place where cases meet the form of a classifier."""
    if isinstance(y, dict):
        y = list(y.values())
    if isinstance(y, list | tuple):
        return torch.cat([value.flatten(1) for value in y], 1)
    return y.flatten(1)


@dataclass(frozen=True)
class Case:
    """One operation with one set of attributes.

    Attributes:
        name: unique, family first: ``convolution/dilated``.
        operations: what it tests, by the names that PyTorch gives: classes of modules, functions,
            methods.
        build: makes the body; called under a seed.
        shape: of an image, (channels, height, width).
        front: ``conv`` is a convolution to ``FEATURES`` channels, ``none`` gives the images.
        refused: a pattern of the message by which the network is refused, where that is right.
        places: ``end`` is the operation last, ``inside`` has a layer behind it.
        quick: whether the case is in the part that runs in every ``make test``.
        images: makes calibration images of their number and shape; by default normal.
    """

    name: str
    operations: tuple[str, ...]
    build: Build
    shape: tuple[int, int, int] = (3, 8, 8)
    front: str = "conv"
    refused: str | None = None
    places: tuple[str, ...] = ("end", "inside")
    quick: bool = False
    images: Callable[[int, tuple[int, int, int]], Tensor] | None = None

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]

    @property
    def folds(self) -> bool:
        """Whether there is a batch norm, which a recipe may fold."""
        return any("Norm" in type(module).__name__ for module in self.build().modules())

    def make_images(self, count: int = IMAGES) -> Tensor:
        """Images (N, C, H, W) of this case, the same in every process."""
        with torch.random.fork_rng():
            torch.manual_seed(7)
            make = self.images or (lambda n, shape: torch.randn(n, *shape))
            return make(count, self.shape)

    def make_network(self, place: str) -> nn.Module:
        """The network in evaluation mode, its batch norms with statistics, the same every time."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            front = (
                nn.Conv2d(self.shape[0], FEATURES, 3, padding=1) if self.front == "conv" else None
            )
            body = self.build()
            settle(body)
            tail = None
            if place == "inside":
                with torch.no_grad():
                    images = self.make_images(2)
                    features = images if front is None else front(images)
                    tail = _tail(body.eval()(features))
            return Network(body, front, tail).eval()


def _tail(y: Any) -> nn.Module:
    """A layer that reads what the operation gives."""
    if not isinstance(y, Tensor) or y.dim() < 2:
        return Body(lambda m, y: m.fc(flat(y)), fc=nn.Linear(flat(y).shape[1], 6))
    if y.dim() == 4:
        return nn.Conv2d(y.shape[1], 4, 1)
    return nn.Linear(y.shape[-1], 6)


def settle(module: nn.Module) -> None:
    """Give batch norms weights and statistics as training leaves them."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and not hasattr(norm, "settled"):
            with torch.no_grad():
                if norm.weight is not None:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.bias.uniform_(-0.5, 0.5)
                if norm.running_mean is not None:
                    norm.running_mean.uniform_(-0.5, 0.5)
                    norm.running_var.uniform_(0.5, 1.5)


class Family:
    """Cases of one family, in the order they are added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def add(
        self, name: str, operations: str | Iterable[str], build: Build, **attributes: Any
    ) -> None:
        """Add a case; ``operations`` are names with spaces between."""
        names = tuple(operations.split()) if isinstance(operations, str) else tuple(operations)
        self.cases.append(Case(f"{self.name}/{name}", names, build, **attributes))

    def apply(
        self, name: str, operations: str, compute: Callable[[Tensor], Any], **attributes: Any
    ) -> None:
        """Add a case of a function of the features."""
        self.add(name, operations, lambda: Body(lambda m, x: compute(x)), **attributes)

    def layer(self, name: str, operations: str, build: Build, **attributes: Any) -> None:
        """Add a case of one module, with the name of its class where no other is given."""
        self.add(name, operations, build, **attributes)
