"""Parts of documents that scripts write: what stands between a script's two marks."""

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
END = "<!-- end -->\n"


def filled(page: Path, script: str, lines: Iterable[str]) -> str:
    """The page's text with ``lines`` between the marks of a script.

    Args:
        page: the document; it is not changed.
        script: the script's file name, as it stands in the first mark.
        lines: what the script writes.
    """
    return replaced(page.read_text(), script, lines)


def replaced(text: str, script: str, lines: Iterable[str]) -> str:
    """A page's text with ``lines`` between the marks of a script, as ``filled``.

    Args:
        text: the page's.
        script: as it stands in the first mark; where a script writes several parts of a page, its
            file name and what part.
        lines: what the script writes.
    """
    mark = f"<!-- written by scripts/{script} -->\n"
    before, rest = text.split(mark)
    _, after = rest.split(END, 1)
    return before + mark + "\n" + "\n".join(lines) + "\n" + END + after


def header(*columns: str) -> list[str]:
    """The two lines that begin a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def percent(value: float) -> str:
    """A fraction in percent, with two digits."""
    return f"{100 * value:.2f}"


def points(value: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * value:+.2f}"


def interval(low: float, high: float) -> str:
    """A 95 % interval in percent."""
    return f"{100 * low:.1f}-{100 * high:.1f}"
