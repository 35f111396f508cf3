"""How a run's quality is told: its name, unit and direction, and a number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitladder.answer import usual_loss
from bitladder.measurement import (
    Loss,
    Measurement,
    Unit,
    bare,
    difference_unit,
    scaled,
    value_unit,
)

NONE = "-"
_SLIDER = (0.1, 5.0)  # step and end of the slider, in losses that are allowed


@dataclass(frozen=True)
class Estimate:
    """A quality, a share or a loss with its 95 % interval, in its unit.

    Attributes:
        value: the number; shares are 0 to 1.
        low: lower end, or None where the run kept no interval.
        high: upper end.
        unit: ``share``, ``dB`` or nothing.
    """

    value: float
    low: float | None
    high: float | None
    unit: Unit = "share"

    @classmethod
    def of(cls, found: Measurement | Loss) -> Estimate:
        """What was measured, as it is told."""
        return cls(found.value, found.low, found.high, found.unit)

    @property
    def text(self) -> str:
        """The value without its unit; shares in percent, with two decimals."""
        return bare(self.value, self.unit)

    @property
    def interval(self) -> str:
        """The interval of a quality; shares with one decimal. Empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        if self.unit == "share":
            return f"{100 * self.low:.1f}\N{EN DASH}{100 * self.high:.1f}"
        return f"{bare(self.low, self.unit)}\N{EN DASH}{bare(self.high, self.unit)}"

    @property
    def told(self) -> str:
        """The value with its unit."""
        return f"{self.text} {value_unit(self.unit)}".strip()

    @property
    def ends(self) -> str:
        """The interval of a loss, whose ends may be below zero. Empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{bare(self.low, self.unit)} to {bare(self.high, self.unit)}"

    @property
    def loss(self) -> str:
        """The loss with its unit and interval, such as ``0.42 points (0.10 to 0.75)``."""
        told = f"{self.text} {difference_unit(self.unit)}".strip()
        return f"{told} ({self.ends})" if self.ends else told

    @property
    def drawn(self) -> dict[str, float]:
        """Value and interval for a chart; shares in percent."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return {
            "value": scaled(self.value, self.unit),
            "low": scaled(low, self.unit),
            "high": scaled(high, self.unit),
        }

    def __str__(self) -> str:
        return f"{self.text} ({self.interval})" if self.interval else self.text


@dataclass(frozen=True)
class Scale:
    """The quality of a run.

    Attributes:
        name: such as ``accuracy``.
        unit: ``share``, ``dB`` or nothing.
        higher_is_better: whether a larger value is the better one.
    """

    name: str = "quality"
    unit: Unit = ""
    higher_is_better: bool = True

    @classmethod
    def of(cls, found: Measurement) -> Scale:
        """That of a measurement."""
        return cls(found.name, found.unit, found.higher_is_better)

    @property
    def title(self) -> str:
        """The name as it begins a line; ``PSNR`` and ``mIoU`` stay as they are."""
        return self.name.capitalize() if self.name.islower() else self.name

    @property
    def heading(self) -> str:
        """Name and unit, of a column or an axis."""
        return f"{self.name} ({value_unit(self.unit)})" if self.unit else self.name

    @property
    def axis(self) -> str:
        """The heading, and the direction where less is better."""
        return self.heading if self.higher_is_better else f"{self.heading}, less is better"

    @property
    def unit_text(self) -> str:
        """The unit in words, empty where there is none."""
        return value_unit(self.unit)

    @property
    def loss_unit(self) -> str:
        """The unit of losses, empty where there is none."""
        return difference_unit(self.unit)

    @property
    def number_format(self) -> str:
        """How charts write a value."""
        return ".2f" if self.unit == "share" else ".4~g"

    @property
    def worsens(self) -> str:
        """What a loss does to the value."""
        return "fall" if self.higher_is_better else "rise"

    def lost(self, loss: float) -> str:
        """A loss in ``loss_unit``, without it."""
        return f"{loss:.4g}" if not self.unit else f"{loss + 0.0:.2f}"

    def better(self, one: float, other: float) -> bool:
        """Whether a value is better than another."""
        return one > other if self.higher_is_better else one < other


@dataclass(frozen=True)
class Slider:
    """The losses that a reader may allow, in ``Scale.loss_unit``.

    Attributes:
        allowed: the first one.
        step: of the slider.
        end: the largest.
        digits: decimals of every one.
    """

    allowed: float
    step: float
    end: float
    digits: int

    @classmethod
    def of(cls, scale: Scale, largest: float) -> Slider:
        """The slider of a quality.

        Args:
            scale: of the run.
            largest: size of the float networks' quality, which says what is little where the unit
                does not.
        """
        allowed = usual_loss(scale.unit, largest)
        step, end = (part * allowed for part in _SLIDER)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return cls(round(allowed, digits), round(step, digits), round(end, digits), digits)

    @property
    def positions(self) -> tuple[float, ...]:
        """Every loss that it can stand at, from none."""
        count = round(self.end / self.step)
        return tuple(round(place * self.step, self.digits) for place in range(count + 1))

    def told(self, loss: float) -> str:
        """A loss that is allowed."""
        return f"{loss:.{self.digits}f}"


def estimate(row: Mapping[Any, Any], name: str, unit: Unit = "share") -> Estimate | None:
    """The columns ``name``, ``name_low`` and ``name_high`` of a table's row, or None."""
    value, low, high = (number(row.get(f"{name}{end}")) for end in ("", "_low", "_high"))
    return None if value is None else Estimate(value, low, high, unit)


def text(found: Estimate | None) -> str:
    """A quality and its interval, or a dash."""
    return NONE if found is None else str(found)


def signed(difference: float, unit: Unit) -> str:
    """A difference with its sign, such as a gain; the unit is told elsewhere."""
    exact = difference + 0.0  # minus nothing is nothing
    return f"{'+' if exact >= 0 else ''}{bare(exact, unit)}"


def number(value: Any) -> float | None:
    """A value of a table, or None where there is none or where it is infinite."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
