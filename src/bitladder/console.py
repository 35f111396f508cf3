"""The console that everything of ours prints on: a terminal in its own width, all else as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_UNBOUNDED = 200  # columns; a file or a pipe has no width, and nothing is to be cut there


def console(*, stderr: bool = False) -> Console:
    """A console that shows texts as they are: no markup, no emoji, no colours of its own.

    Args:
        stderr: print on the standard error in place of the standard output.
    """
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = _UNBOUNDED
    return found
