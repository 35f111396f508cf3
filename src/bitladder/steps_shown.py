"""What a person sees during long work on a network: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from bitladder.console import console
from bitladder.progress import Step, duration

if TYPE_CHECKING:
    from rich.console import Console

Tell: TypeAlias = Callable[[Step], None]
_LINE_EVERY = 10.0  # seconds between lines of one training


@contextmanager
def shown(progress: bool | Tell) -> Iterator[Tell]:
    """Somebody who is told of every step while a block lasts.

    Args:
        progress: True shows a bar in a terminal or a notebook and lines elsewhere, on the standard
            error; False shows nothing; a function is told in its place.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda step: None
    else:
        screen = console(stderr=True)
        if screen.is_terminal or screen.is_jupyter:
            yield from _bar(screen)
        else:
            yield _Lines()


class _Lines:
    """A line as a technique begins and ends, and every ten seconds of one that tells how far."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, step: Step) -> None:
        place = f"[{step.number}/{step.count}] {step.technique}"
        now = time.monotonic()
        if step.described is not None and not step.done:
            if now - self._told < _LINE_EVERY:
                return
            line = f"{place}: {step.described}"
        else:
            line = f"{place}: done in {duration(step.seconds)}" if step.done else place
        self._told = now
        print(line, file=sys.stderr, flush=True)


def _bar(screen: Console) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task("", total=1.0)

        def tell(step: Step) -> None:
            words = f"[{step.number}/{step.count}] {step.technique}"
            if step.described is not None and not step.done:
                words += f": {step.described}"
            completed = (step.number - 1 + step.part) / step.count
            bars.update(bar, description=words, completed=completed)

        yield tell
