"""Is a loss real: the images whose answer quantization changes, quality by class, and confusion.

All of it comes from the answers that the float and the quantized network gave to the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from bitladder.measurement import Measurement, loss, proportion
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.rows import interval, place

_PLACE = ("dataset", "model", "precision")
FLIP_COLUMNS = (*_PLACE, "image", "change", "truth", "float", "quantized", "lost")
CLASS_COLUMNS = (*_PLACE, "class", "images", "float", "quantized", "loss")
CONFUSION_COLUMNS = (*_PLACE, "truth", "answer", "float", "quantized", "added")


def flip_rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    """One row an image whose answer changes, those that were right first.

    Where images have no answers but scores, the images that get worse, the worst first; ``lost``
    is by how much.
    """
    pair = _pair(cell)
    if pair is None:
        return []
    before, after = pair
    found = _answers(before, after) or _scores(before, after)
    return [{**place(cell), **row} for row in found]


def class_rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    """One row a class: shares that are right before and after, and the paired loss."""
    pair = _pair(cell)
    if pair is None or pair[0].truth is None or pair[1].truth is None:
        return
    before, after = pair
    assert before.truth is not None
    assert before.scores is not None
    assert after.scores is not None
    for label in sorted(set(before.truth)):
        here = [image for image, truth in enumerate(before.truth) if truth == label]
        first, last = (
            proportion("accuracy", [bool(one.scores[image]) for image in here])  # type: ignore[index]
            for one in pair
        )
        yield {
            **place(cell),
            "class": label,
            "images": len(here),
            **interval("float", first),
            **interval("quantized", last),
            **interval("loss", loss(first, last)),
        }


def confusion_rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    """One row a mistake that is made more often than before: the class, the answer, how often."""
    pair = _pair(cell)
    if pair is None or any(one.answers is None or one.truth is None for one in pair):
        return
    before, after = (Counter(zip(one.truth or (), one.answers or (), strict=True)) for one in pair)
    added = {mistake: after[mistake] - before[mistake] for mistake in after}
    for mistake, more in sorted(added.items(), key=lambda one: (-one[1], one[0])):
        truth, answer = mistake
        if more > 0 and truth != answer:
            yield {
                **place(cell),
                "truth": truth,
                "answer": answer,
                "float": before[mistake],
                "quantized": after[mistake],
                "added": more,
            }


def _pair(cell: CellResult) -> tuple[Measurement, Measurement] | None:
    """The float network and the last rung, or None while one is not measured."""
    if cell.quantized is None or cell.quantized.quality is None or cell.rungs[0].quality is None:
        return None
    return cell.rungs[0].quality, cell.quantized.quality


def _answers(before: Measurement, after: Measurement) -> list[dict[str, Any]]:
    """Images whose class changes: right ones that are lost, then wrong to wrong, then gained."""
    if before.answers is None or after.answers is None or before.truth is None:
        return []
    found = []
    both = zip(before.truth, before.answers, after.answers, strict=True)
    for image, (truth, first, last) in enumerate(both):
        if first != last:
            change = "lost" if first == truth else "gained" if last == truth else "other"
            found.append(
                {
                    "image": image,
                    "change": change,
                    "truth": truth,
                    "float": first,
                    "quantized": last,
                    "lost": (first == truth) - (last == truth),
                }
            )
    return sorted(found, key=lambda row: -row["lost"])


def _scores(before: Measurement, after: Measurement) -> list[dict[str, Any]]:
    """Images whose score gets worse, the worst first."""
    if before.answers is not None or before.scores is None or after.scores is None:
        return []
    sign = 1 if before.higher_is_better else -1
    found = [
        {
            "image": image,
            "change": "worse",
            "truth": None,
            "float": round(first, 6),
            "quantized": round(last, 6),
            "lost": round(sign * (first - last), 6),
        }
        for image, (first, last) in enumerate(zip(before.scores, after.scores, strict=True))
        if sign * (first - last) > 0
    ]
    return sorted(found, key=lambda row: -row["lost"])
