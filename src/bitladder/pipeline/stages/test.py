"""Measure the float and the quantized network on the official test split."""

from __future__ import annotations

from bitladder import training
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import TestRecord
from bitladder.pipeline.stages.common import (
    EVALUATION_BATCH,
    Workspace,
    float_network,
    pixels_of,
    simulated_network,
    task_of,
)


def test(stage: Stage, space: Workspace) -> TestRecord:
    """Measure both; there are no files."""
    images, task = pixels_of(stage, space), task_of(stage)
    assert images.test is not None
    batches = images.test.batches(EVALUATION_BATCH)
    return TestRecord(
        float_network=training.evaluate(float_network(stage, space), batches, task),
        quantized=training.evaluate(simulated_network(stage, space), batches, task),
    )
