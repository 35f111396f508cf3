"""The results as Markdown, for a pull request: the answer, the table, what failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bitladder.report.cells import ALLOWED, Pair, ReportedCell, Share, megabytes_text
from bitladder.report.run_folder import RunFolder

_NONE = "-"


def results_markdown(run: RunFolder, cells: Sequence[ReportedCell], by_pair: Sequence[Pair]) -> str:
    """The text of results.md; names and errors are escaped."""
    return "\n".join([*_head(run, cells), *_answer(by_pair), *_table(cells), *_failed(cells)])


def _head(run: RunFolder, cells: Sequence[ReportedCell]) -> Iterator[str]:
    complete = sum(cell.status == "complete" for cell in cells)
    made = [
        f"{complete} of {len(cells)} cells complete",
        run.machine[0],
        f"bitladder {run.environment['versions'].get('bitladder', '?')}",
        run.date,
    ]
    yield f"# {_text(run.name)}\n"
    yield f"{_text(', '.join(filter(None, made)))}.\n"


def _answer(by_pair: Sequence[Pair]) -> Iterator[str]:
    yield f"Lowest precision that loses at most {ALLOWED:.1f} points:\n"
    for pair in by_pair:
        cell = pair.lowest(ALLOWED)
        place = f"- {_text(pair.dataset)}, {_text(pair.model)}:"
        if cell is None or cell.loss is None:
            yield f"{place} none of them. {pair.advice}"
            continue
        parts = [f"**{cell.precision}**", f"loss {cell.loss:+.2f} points"]
        if "packed" in cell.sizes:
            packed, file = (megabytes_text(cell.sizes[name]) for name in ("packed", "file"))
            parts.append(f"{packed} MB packed, {file} MB a file")
        parts += [f"{target.title} {target.verdict}" for target in cell.targets.values()]
        yield f"{place} {'; '.join(parts)}"
    yield ""


def _table(cells: Sequence[ReportedCell]) -> Iterator[str]:
    titles = {name: target.title for cell in cells for name, target in cell.targets.items()}
    headings = ["data set", "network", "precision", "float", "quantized", "loss"]
    for title in titles.values():
        headings += [title, "agrees"]
    headings += ["packed MB", "file MB"]
    yield f"Accuracies in % with their 95 % intervals, {_images(cells)}.\n"
    yield _row(headings)
    yield _row(["---"] * 3 + ["--:"] * (len(headings) - 3))
    for cell in cells:
        row = [_text(cell.dataset), _text(cell.model), cell.precision, _told(cell.trained)]
        row.append(_told(cell.final) if cell.status != "failed" else "failed")
        row.append(_NONE if cell.loss is None else f"{cell.loss:+.2f}")
        for name in titles:
            target = cell.targets.get(name)
            row.append(_told(target.accuracy if target else None))
            row.append(_told(target.agreement if target else None))
        row += [
            megabytes_text(cell.sizes[size]) if size in cell.sizes else _NONE
            for size in ("packed", "file")
        ]
        yield _row(row)
    yield ""


def _failed(cells: Sequence[ReportedCell]) -> Iterator[str]:
    for cell in cells:
        if cell.error:
            place = f"{_text(cell.dataset)} {_text(cell.model)} {cell.precision}"
            yield f"- failed: {place}: {_text(cell.error)}"
    for note in dict.fromkeys(cell.notes for cell in cells if cell.notes):
        these = ", ".join(_text(_name(cell)) for cell in cells if cell.notes == note)
        yield f"- {these}: {_text(note)}"


def _name(cell: ReportedCell) -> str:
    return f"{cell.dataset} {cell.model} {cell.precision}"


def _images(cells: Sequence[ReportedCell]) -> str:
    counts = sorted({cell.images for cell in cells if cell.images})
    return f"on {' or '.join(f'{count:,}' for count in counts) or 'no'} validation images"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _told(share: Share | None) -> str:
    return _NONE if share is None else str(share)


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"[\\`*{}\[\]<>#|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))
