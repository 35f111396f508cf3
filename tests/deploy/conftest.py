"""Simulated networks to export."""

import pytest

from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel
from bitladder.techniques.fold_batch_norm import fold_batch_norm


@pytest.fixture
def simulate(network, images):
    """Make a calibrated simulation of the small network, or of another one, at a precision."""

    def make(precision, model=None, calibration=None):
        calibration = images if calibration is None else calibration
        folded, _ = fold_batch_norm(network if model is None else model)
        simulated = SimulatedModel(
            folded,
            Precision.parse(precision),
            shapes=[tuple(calibration.shape[1:])],
            options=Calibrate(method="min_max"),
        )
        simulated.calibrate(calibration)
        return simulated.eval()

    return make
