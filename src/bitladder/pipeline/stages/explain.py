"""Measure what every quantizer costs alone, before any training."""

from __future__ import annotations

from bitladder import simulation
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import ExplainRecord, QuantizerCost
from bitladder.pipeline.stages.common import (
    EVALUATION_BATCH,
    Workspace,
    first_of,
    pixels_of,
    simulated_network,
    task_of,
)
from bitladder.simulation import WeightedLayer
from bitladder.techniques.pairs import rows


def explain(stage: Stage, space: Workspace) -> ExplainRecord:
    """Measure on the first validation images; there are no files."""
    simulated, task = simulated_network(stage, space), task_of(stage)
    batches = pixels_of(stage, space).validation.batches(EVALUATION_BATCH)
    inputs, target = first_of(batches, stage.spec["images"], task)
    own = {(row.name, row.kind): row for row in simulation.layers(simulated, inputs)}
    found = []
    for row in simulation.sensitivity(simulated, inputs, target, task):
        assert row.quality is not None
        quantizer = own[row.name, row.kind]
        lowest, highest = _channel_ranges(simulated, row)
        found.append(
            QuantizerCost(
                layer=row.name,
                kind=row.kind,
                bits=row.bits,
                sqnr=row.sqnr,
                agreement=row.agreement,
                quality=row.quality,
                own_sqnr=quantizer.sqnr,
                lowest=quantizer.lowest,
                highest=quantizer.highest,
                channel_lowest=lowest,
                channel_highest=highest,
            )
        )
    return ExplainRecord(tuple(found))


def _channel_ranges(
    simulated: simulation.SimulatedModel, row: simulation.Sensitivity
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Smallest and largest weight of each output channel, whatever the quantizer's ranges."""
    if row.kind != "weight":
        return (), ()
    layer = simulated.module.get_submodule(row.name)
    assert isinstance(layer, WeightedLayer)
    weights = rows(layer).detach().flatten(1)
    return tuple(weights.amin(1).tolist()), tuple(weights.amax(1).tolist())
