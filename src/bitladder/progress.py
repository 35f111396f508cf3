"""How far work is, as it is told to whoever watches; free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far training is: qualities in the task's unit, ``seconds_left`` an estimate."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    train_quality: float | None
    val_quality: float | None
    seconds_left: float


@dataclass(frozen=True)
class Step:
    """How far a network has climbed its recipe, or how far a target is with its images.

    Attributes:
        technique: that is applied, or was; of a verification, the target.
        number: its place in the recipe, from 1, or among the targets.
        count: of techniques in the recipe, or of targets.
        seconds: it has taken so far, with what is measured after it.
        done: it has ended.
        training: how far its training is, where it trains.
        share: of its images that are through, 0 to 1, where they are counted.
    """

    technique: str
    number: int
    count: int
    seconds: float = 0.0
    done: bool = False
    training: Progress | None = None
    share: float | None = None

    @property
    def part(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.done:
            return 1.0
        if self.training is not None:
            return self.training.step / max(1, self.training.steps)
        return self.share or 0.0

    @property
    def described(self) -> str | None:
        """How far it is within itself, in words, or None where nothing tells."""
        if self.training is not None:
            return describe(self.training)
        return None if self.share is None else f"{self.share:.0%} of the images"


def describe(progress: Progress) -> str:
    """In words: the epoch, the speed, the qualities, and the time that is left."""
    qualities = (("training", progress.train_quality), ("validation", progress.val_quality))
    told = "".join(f", {name} {value:.4g}" for name, value in qualities if value is not None)
    return (
        f"epoch {progress.epoch}/{progress.epochs}, {progress.images_per_second:.0f} images/s"
        f"{told}, {duration(progress.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
