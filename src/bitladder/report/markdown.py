"""The results as Markdown, for a pull request: the answer, the table, what failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bitladder.answer import Answer, Place
from bitladder.report.cells import ReportedCell, megabytes_text
from bitladder.report.contents import Contents
from bitladder.report.quality import NONE, Estimate, text
from bitladder.report.run_folder import RunFolder


def results_markdown(found: Contents) -> str:
    """The text of results.md; names and errors are escaped."""
    return "\n".join(
        [
            *_head(found.run, found.cells),
            *_answer(found),
            *_table(found),
            *_runtimes(found),
            *_failed(found.cells),
        ]
    )


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


def _answer(found: Contents) -> Iterator[str]:
    slider, unit = found.slider, found.scale.loss_unit
    allowed = f"{slider.told(slider.allowed)} {unit}".strip()
    worsens = f"{_text(found.scale.name)} {found.scale.worsens}s"
    yield f"What to ship where {worsens} by at most {allowed}, as measured and surely:\n"
    headings = ["data set", "network", "target", "ship", "surely", "loss", "costs", "why"]
    yield _row(headings)
    yield _row(["---"] * len(headings))
    for pair in found.pairs:
        for place in pair.places:
            answer = place.answer(slider.allowed)
            surely = place.answer(slider.allowed, surely=True).chosen
            chosen = answer.chosen
            lost = NONE if chosen is None or chosen.loss is None else found.scale.lost(chosen.loss)
            if chosen is not None and chosen.high is not None:
                lost = f"{lost}, at most {found.scale.lost(chosen.high)}"
            yield _row(
                [
                    _text(pair.dataset),
                    _text(pair.model),
                    _text(place.title),
                    "none" if chosen is None else f"**{_text(chosen.name)}**",
                    "none" if surely is None else _text(surely.name),
                    lost,
                    NONE if chosen is None else _text(chosen.told),
                    _text("; ".join(_why(found.cells, place, answer))) if chosen else pair.advice,
                ]
            )
    yield ""


def _why(cells: Sequence[ReportedCell], place: Place, answer: Answer) -> Iterator[str]:
    """Whether the target agrees, and why narrower precisions are passed over."""
    if answer.chosen is not None:
        target = cells[answer.chosen.cells[0]].targets.get(place.target)
        if target is not None:
            yield target.verdict
    yield from answer.reasons


def _table(found: Contents) -> Iterator[str]:
    cells, scale = found.cells, found.scale
    titles = {name: target.title for cell in cells for name, target in cell.targets.items()}
    headings = ["data set", "network", "precision", "float", "quantized", "loss"]
    for title in titles.values():
        headings += [title, "agrees"]
    headings += ["packed MB", "file MB"]
    unit = f" in {scale.unit_text}" if scale.unit_text else ""
    less = "" if scale.higher_is_better else ", less is better"
    losses = f"losses in {scale.loss_unit}, " if scale.loss_unit else ""
    yield (
        f"{_text(scale.title)}{unit}{less}, {losses}with 95 % intervals, {_images(cells)}; "
        f"agreement in %.\n"
    )
    yield _row(headings)
    yield _row(["---"] * 3 + ["--:"] * (len(headings) - 3))
    for cell in cells:
        row = [_text(cell.dataset), _text(cell.model), cell.precision, text(cell.trained)]
        row.append(text(cell.quantized) if cell.status != "failed" else "failed")
        row.append(_loss(cell.loss))
        for name in titles:
            target = cell.targets.get(name)
            row.append(text(target.quality if target else None))
            row.append(text(target.agreement if target else None))
        row += [
            megabytes_text(cell.sizes[size]) if size in cell.sizes else NONE
            for size in ("packed", "file")
        ]
        yield _row(row)
    yield ""


def _runtimes(found: Contents) -> Iterator[str]:
    """A row a cell and target: how near the target is to the simulation, where not and why."""
    if not any(cell.targets for cell in found.cells):
        return
    yield (
        "Each target against the simulation on the same images; agreement and the share of images "
        "that are equal to the last bit in %, differences in steps of the output's grid.\n"
    )
    headings = ["network", "precision", "target", "images", _text(found.scale.name), "agrees"]
    headings += ["equal", "worst LSB", "MB", "ms an image", "first layer that differs, and why"]
    yield _row(headings)
    yield _row(["---"] * 3 + ["--:"] * 7 + ["---"])
    for cell in found.cells:
        for target in cell.targets.values():
            size, time = target.megabytes, target.latency_ms
            yield _row(
                [
                    _text(f"{cell.dataset}, {cell.model}"),
                    cell.precision,
                    _text(target.title),
                    f"{target.images:,}",
                    text(target.quality),
                    text(target.agreement),
                    text(target.equal),
                    f"{target.worst_lsb:.0f}",
                    NONE if size is None else megabytes_text(size),
                    NONE if time is None else f"{time:.2f}",
                    _text(target.difference) or NONE,
                ]
            )
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


def _loss(found: Estimate | None) -> str:
    """A loss without its unit, which the table's heading has."""
    if found is None:
        return NONE
    return f"{found.text} ({found.ends})" if found.ends else found.text


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"[\\`*{}\[\]<>#|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))
