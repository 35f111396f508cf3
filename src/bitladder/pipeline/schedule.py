"""In which order stages run and how long a study will take, from the times of earlier stages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

from bitladder.pipeline.planning import Stage
from bitladder.store import Made


def estimate(stages: Iterable[Stage], made: Iterable[Made]) -> dict[str, float]:
    """Seconds each stage will take, by key.

    The median of the stages of the same kind on the same data set and network; of the same kind;
    or the kind's own guess.
    """
    like: dict[tuple[str, str], list[float]] = {}
    for one in made:
        like.setdefault((one.kind, one.network), []).append(one.seconds)
        like.setdefault((one.kind, ""), []).append(one.seconds)

    def seconds(stage: Stage) -> float:
        known = like.get((stage.kind.name, stage.network)) or like.get((stage.kind.name, ""))
        return median(known) if known else stage.kind.seconds

    return {stage.key: seconds(stage) for stage in stages}


class Queue:
    """Stages that wait for their inputs or for their turn: the longest way to the end goes first.

    Args:
        stages: every stage that is to run, inputs before what needs them.
        seconds: by key, how long each is expected to take.
    """

    def __init__(self, stages: Sequence[Stage], seconds: Mapping[str, float]) -> None:
        self._seconds = seconds
        self.to_the_end = longest_paths(stages, seconds)
        self._waiting: dict[str, Stage] = {}
        self._open: set[str] | None = None
        self._put(stages)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, done: Mapping[str, object]) -> Stage | None:
        """Take out the ready stage with the longest way to the end, or None if none is ready.

        Args:
            done: keys of the stages that have ended.
        """
        for stage in self._waiting.values():
            if self._open is not None and stage.key not in self._open:
                continue
            if not any(key in self._waiting or key not in done for key in stage.inputs.values()):
                return self._waiting.pop(stage.key)
        return None

    def hold(self, wanted: Collection[str]) -> None:
        """Let only these stages run, by key, until it is said anew."""
        self._open = set(wanted)

    @property
    def open(self) -> list[Stage]:
        """The stages that wait and may run."""
        return [
            stage
            for stage in self._waiting.values()
            if self._open is None or stage.key in self._open
        ]

    def clear(self) -> None:
        """Have nothing wait any more."""
        self._waiting = {}

    def put_back(self, stage: Stage) -> None:
        """Let a stage run again."""
        self._put([*self._waiting.values(), stage])

    def _put(self, stages: Iterable[Stage]) -> None:
        """Have these wait, the longest way first."""
        ordered = sorted(stages, key=lambda stage: -self.to_the_end[stage.key])
        self._waiting = {stage.key: stage for stage in ordered}

    def seconds_left(self, running: Mapping[str, float], workers: int) -> float:
        """Seconds until the last stage ends, if times are as expected.

        Args:
            running: by key, seconds that the stages that run now still take.
            workers: how many stages run at once.
        """
        waiting = [stage.key for stage in self.open]
        longest = max((self.to_the_end[key] for key in waiting), default=0.0)
        for key, left in running.items():
            longest = max(longest, left + self.to_the_end[key] - self._seconds[key])
        work = sum(self._seconds[key] for key in waiting) + sum(running.values())
        return max(longest, work / max(1, workers))


def longest_paths(stages: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, float]:
    """By key, seconds from the beginning of a stage to the end of the last one that needs it."""
    paths = {stage.key: seconds[stage.key] for stage in stages}
    for stage in reversed(stages):  # what needs a stage comes after it
        for key in stage.inputs.values():
            if key in paths:
                paths[key] = max(paths[key], seconds[key] + paths[stage.key])
    return paths
