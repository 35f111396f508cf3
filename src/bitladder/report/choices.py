"""What the page says to ship at every position of its slider, worked out before it is written.

The page's script looks answers up and computes none, so that it cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bitladder.answer import Answer, Place
from bitladder.report.quality import Scale, Slider

READINGS = {"loss": "Within", "sure": "Surely within"}
"""How the loss may be read, and how the summary begins: as measured, or its upper end."""
_NOTHING = "none of the precisions"


@dataclass(frozen=True)
class Shown:
    """One answer of one target, a row of the page.

    Attributes:
        number: of the row.
        place: the network and the target.
        answer: what to ship.
    """

    number: int
    place: Place
    answer: Answer


@dataclass(frozen=True)
class Choices:
    """All answers of a run.

    Attributes:
        shown: the different answers of each place, in the order of the places.
        first: numbers of the rows that are to be seen first.
        steps: by reading, for each position of the slider the summary and the rows to be seen.
        sure: whether any loss has an interval.
    """

    shown: tuple[tuple[Shown, ...], ...]
    first: frozenset[int]
    steps: dict[str, list[tuple[str, list[int]]]]
    sure: bool

    def of(self, place: Place) -> tuple[Shown, ...]:
        """The different answers of a place."""
        return next(rows for rows in self.shown if rows[0].place is place)


def read_choices(places: Sequence[Place], scale: Scale, slider: Slider) -> Choices:
    """Every answer that the slider can ask for."""
    rows: list[list[Shown]] = [[] for _ in places]
    steps: dict[str, list[tuple[str, list[int]]]] = {reading: [] for reading in READINGS}
    count = 0
    for reading in READINGS:
        for allowed in slider.positions:
            seen = []
            found = [place.answer(allowed, surely=reading == "sure") for place in places]
            for place, answer, mine in zip(places, found, rows, strict=True):
                row = next((one for one in mine if one.answer == answer), None)
                if row is None:
                    row = Shown(count, place, answer)
                    mine.append(row)
                    count += 1
                seen.append(row.number)
            told = f"{slider.told(allowed)} {scale.loss_unit}".strip()
            begins = f"{READINGS[reading]} {told}"
            steps[reading].append((f"{begins}: {summary(places, found)}.", seen))
    first = steps["loss"][slider.positions.index(slider.allowed)][1]
    sure = any(one.high is not None for place in places for one in place.candidates)
    return Choices(tuple(map(tuple, rows)), frozenset(first), steps, sure)


def summary(places: Sequence[Place], answers: Sequence[Answer]) -> str:
    """What to ship on each target, in words; targets that say the same are told together."""
    by_title: dict[str, list[str]] = {}
    for place, answer in zip(places, answers, strict=True):
        name = answer.chosen.name if answer.chosen is not None else _NOTHING
        by_title.setdefault(place.title, []).append(name)
    told: dict[str, list[str]] = {}
    for title, names in by_title.items():
        told.setdefault(_counted(names), []).append(title)
    if len(told) == 1:
        [(same, titles)] = told.items()
        return same if len(titles) == 1 or same == _NOTHING else f"{same}, on every target"
    return "; ".join(f"{', '.join(titles)}: {same}" for same, titles in told.items())


def _counted(names: Sequence[str]) -> str:
    """``w8a8``, ``w8a8 for all 4 networks`` or ``w8a8 for 3, none of the precisions for 1``."""
    counts = Counter(names)
    if len(counts) == 1:
        [(name, count)] = counts.items()
        if count == 1 or name == _NOTHING:
            return name
        return f"{name} for {'both' if count == 2 else f'all {count}'} networks"
    order = sorted(counts.items(), key=lambda one: (one[0] == _NOTHING, -one[1]))
    return ", ".join(f"{name} for {count}" for name, count in order)
