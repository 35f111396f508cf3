"""Labels that are distributed differently in training and in validation."""

from __future__ import annotations

import math

from bitladder.data.findings.sample import Sample

_LEAST = 0.1  # of the images that would have to change their class
_SURE = 6.0  # deviations of the chi-squared statistic above what chance gives


def uneven_labels(train: Sample, validation: Sample) -> str | None:
    """How far the shares of the classes differ between the splits; None where chance explains it.

    The distance is the total variation, half the sum of the absolute differences; the test is
    Pearson's chi-squared of homogeneity, whose mean is its degrees of freedom.
    """
    if train.labels is None or validation.labels is None or not train.count or not validation.count:
        return None
    size = 1 + int(max(train.labels.max(), validation.labels.max()))
    first, last = (one.labels.bincount(minlength=size).double() for one in (train, validation))  # type: ignore[union-attr]
    shares = first / first.sum(), last / last.sum()
    distance = float((shares[0] - shares[1]).abs().sum() / 2)
    pooled = (first + last) / (first.sum() + last.sum())
    used = pooled > 0
    squares = sum(
        float(
            ((counts - counts.sum() * pooled)[used].square() / (counts.sum() * pooled)[used]).sum()
        )
        for counts in (first, last)
    )
    freedom = max(1, int(used.sum()) - 1)
    if distance < _LEAST or squares < freedom + _SURE * math.sqrt(2 * freedom):
        return None
    worst = int((shares[0] - shares[1]).abs().argmax())
    told = [f"{100 * float(one[worst]):.1f} %" for one in shares]
    return (
        f"labels differ between the splits by {100 * distance:.0f} % of the images; class {worst} "
        f"is {told[0]} of training and {told[1]} of validation: split both from one shuffled set"
    )
