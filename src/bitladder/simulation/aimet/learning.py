"""AIMET's algorithms on a simulated network: AdaRound, sequential MSE, batch norms' statistics."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from bitladder.simulation.aimet.names import aimet, quiet
from bitladder.structures import Inputs


def learned_rounding(
    module: nn.Module,
    reference: nn.Module,
    batches: list[Inputs],
    *,
    iterations: int,
    regularization: float,
) -> dict[str, Tensor]:
    """State of a float network whose weights AdaRound has put on the grids of a simulated one.

    Args:
        module: simulated, with quantizers of weights alone; its ranges are kept, where AIMET's
            public entry would find its own.
        reference: the same network in float.
        batches: one tensor an input each.
        iterations: optimizer steps a layer.
        regularization: weight of the loss that drives every rounding to a decision.
    """
    names = aimet()
    parameters = names.AdaroundParameters(
        batches,
        num_batches=len(batches),
        default_num_iterations=iterations,
        default_reg_param=regularization,
        forward_fn=_run,
    )
    with tempfile.TemporaryDirectory() as folder, _silence():
        rounded = names.Adaround._apply_adaround(
            SimpleNamespace(model=module), reference, batches[0], parameters, folder, "adaround"
        )
    state: dict[str, Tensor] = rounded.state_dict()
    return state


def set_weight_ranges_in_sequence(simulation: Any, batches: list[Inputs], candidates: int) -> None:
    """Set and freeze the weights' ranges of a simulation by sequential MSE.

    Args:
        simulation: as ``build_simulation`` gives it.
        batches: one tensor an input each.
        candidates: ranges tried for each weight.
    """
    with _silence():
        aimet().apply_seq_mse(simulation, batches, num_candidates=candidates)


def measure_batch_norms(module: nn.Module, batches: list[Inputs]) -> None:
    """Set the statistics of every batch norm to their mean over batches of inputs."""
    with _silence():
        aimet().reestimate_bn_stats(module, batches, len(batches), _run)


def _run(network: nn.Module, inputs: Inputs) -> Any:
    return network(*inputs)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep warnings and progress bars from the user."""
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield
