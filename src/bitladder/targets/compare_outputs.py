"""Run an artifact and its simulation on the same images and measure where they part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from bitladder.errors import TargetError
from bitladder.measurement import Measurement, average, proportion
from bitladder.simulation.quality import decibels
from bitladder.structures import Inputs, Outputs, as_inputs, count, named
from bitladder.targets.comparison import Beside, Comparison
from bitladder.targets.session import Session, as_arrays
from bitladder.tasks.task import Meter, Task

_SHOWN = 4  # of the images whose answers differ


@torch.no_grad()
def compare(
    session: Session,
    simulation: Callable[..., Any],
    batches: Iterable[tuple[Tensor | Inputs, Any]],
    task: Task | None = None,
    integer: Session | None = None,
    precise: Session | None = None,
) -> Comparison:
    """Compare on every image of ``batches``.

    Args:
        session: the target.
        simulation: maps inputs to what the target should compute; a module is in evaluation mode.
        batches: inputs, a tensor or one a tensor an input, and their target, or None.
        task: what the outputs mean; without one, values alone are compared.
        integer: the integer arithmetic of what it runs, or None.
        precise: the target's session whose sums are exact, or None.

    Raises:
        TargetError: the target fails, its outputs are of other shapes, or there are no images.
    """
    here, intended = _Measured(task), _Measured(task)
    beside = {
        name: _Beside(one, task) for name, one in (("integer", integer), ("precise", precise))
    }
    values = _Values()
    seconds = 0.0
    for batch, target in batches:
        inputs = as_inputs(batch)
        wanted = {name: one.cpu() for name, one in named(simulation(*inputs)).items()}
        arrays, started = as_arrays(inputs), time.perf_counter()
        found = session.run(*arrays)
        seconds += time.perf_counter() - started
        steps = list(map(session.steps.get, found))
        made = _as_named(found, wanted)
        values.add(made, wanted, steps, count(inputs))
        here.add(made, wanted, target)
        intended.add(wanted, None, target)
        for other in beside.values():
            other.add(arrays, made, wanted, steps, target)
    if not values.equal:
        raise TargetError("there are no images to compare on; give at least one")
    shares = here.shares
    apart = [share < 1 for share in shares]
    if not any(apart):
        apart = [not equal for equal in values.equal]
    return Comparison(
        quality=here.quality(),
        simulation=intended.quality(),
        agreement=here.agreement(),
        equal=proportion("equal", values.equal),
        worst_lsb=values.worst,
        mean_lsb=values.summed / max(1, values.elements),
        sqnr={name: decibels(*sums) for name, sums in values.sums.items()},
        seconds=seconds,
        apart=tuple(place for place, differs in enumerate(apart) if differs)[:_SHOWN],
        integer=beside["integer"].result(),
        precise=beside["precise"].result(),
    )


def _as_named(found: dict[str, Any], wanted: Outputs) -> Outputs:
    """A session's outputs by the names that the network gives them, in whose order they are."""
    shapes = {name: tuple(values.shape) for name, values in wanted.items()}
    if len(found) != len(wanted):
        raise TargetError(
            f"the target gives {len(found)} outputs ({', '.join(found)}), the simulation "
            f"{len(wanted)} ({', '.join(wanted)})"
        )
    made = {}
    for (own, values), name in zip(found.items(), wanted, strict=True):
        if values.shape != shapes[name]:
            raise TargetError(
                f"the target's '{own}' is {values.shape}, the simulation's {shapes[name]}"
            )
        made[name] = torch.from_numpy(values)
    return made


class _Measured:
    """The quality of a network's outputs, and how far its answers are those of another one."""

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.meter: Meter | None = None
        self.shares: list[float] = []

    def add(self, made: Outputs, wanted: Outputs | None, target: Any) -> None:
        """Count a batch."""
        if self.task is None:
            return
        if target is not None:
            self.meter = self.meter or self.task.meter()
            self.meter.update(made, target)
        if wanted is not None and (shares := self.task.agreement(made, wanted)) is not None:
            self.shares += shares.double().tolist()

    def quality(self) -> Measurement | None:
        """None where nothing was measured."""
        return None if self.meter is None else self.meter.measurement()

    def agreement(self) -> Measurement | None:
        """None where the task cannot say."""
        if not self.shares:
            return None
        if set(self.shares) <= {0.0, 1.0}:
            return proportion("agreement", [bool(share) for share in self.shares])
        return average("agreement", self.shares, unit="share")


class _Values:
    """How far outputs are from others, in steps of their grids."""

    def __init__(self) -> None:
        self.equal: list[bool] = []
        self.worst = self.summed = 0.0
        self.elements = 0
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, made: Outputs, wanted: Outputs, steps: list[float | None], images: int) -> None:
        """Count a batch."""
        equal = torch.ones(images, dtype=torch.bool)
        for (name, values), step in zip(made.items(), steps, strict=True):
            same = values == wanted[name]
            by_image = same.dim() > 0 and len(same) == images
            equal &= same.reshape(images, -1).all(1) if by_image else bool(same.all())
            apart = (values.double() - wanted[name].double()).abs()
            if apart.numel():
                self.worst = max(self.worst, float(apart.max()) / (step or 1.0))
            self.summed += float((apart / (step or 1.0)).sum())
            self.elements += apart.numel()
            signal, noise = self.sums.get(name, (0.0, 0.0))
            signal += float(wanted[name].double().square().sum())
            self.sums[name] = signal, noise + float(apart.square().sum())
        self.equal += equal.tolist()


class _Beside:
    """What another session, if there is one, makes of the images."""

    def __init__(self, session: Session | None, task: Task | None) -> None:
        self.session = session
        self.measured, self.values = _Measured(task), _Values()

    def add(
        self,
        arrays: list[Any],
        target_made: Outputs,
        wanted: Outputs,
        steps: list[float | None],
        target: Any,
    ) -> None:
        """Run a batch and compare with what the target made of it."""
        if self.session is None:
            return
        made = _as_named(self.session.run(*arrays), wanted)
        self.measured.add(made, wanted, target)
        self.values.add(made, target_made, steps, len(arrays[0]))

    def result(self) -> Beside | None:
        """None where there is no session."""
        if self.session is None:
            return None
        return Beside(
            self.measured.quality(),
            self.measured.agreement(),
            proportion("equal", self.values.equal),
            self.values.worst,
        )
