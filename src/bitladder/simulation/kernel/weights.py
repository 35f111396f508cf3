"""A quick no to AIMET's question whether weights already lie on a grid, which costs it most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bitladder.simulation.aimet import aimet
from bitladder.simulation.kernel.build import KernelUnavailableError, library
from bitladder.simulation.kernel.layout import dense, rows_and_channels

_TINY = 1e-12  # AIMET takes smaller weights for zero
_MOST_LEVELS = 255  # above, all steps are more work than the few that AIMET tries


@contextmanager
def rejecting_floats() -> Iterator[None]:
    """While AIMET computes ranges, say at once where weights cannot lie on any grid.

    AIMET tries steps until the weights fit one, and takes a range by its analyzer where none does.
    All steps are tried here, and given up at the first weights that are off: only what may fit
    goes on to AIMET, so that its answer is the same.
    """
    try:
        library()
    except KernelUnavailableError:
        yield
        return
    module: Any = aimet("nn.base")
    utils = aimet("utils")
    own = module._decompose_prequantized_tensor

    def decompose(values: Tensor, qmin: int, qmax: int, **settings: Any) -> Any:
        if _cannot_fit(utils, values, max(abs(qmin), abs(qmax)), **settings):
            raise utils._DecompositionError("not on a grid")
        return own(values, qmin, qmax, **settings)

    module._decompose_prequantized_tensor = decompose
    try:
        yield
    finally:
        module._decompose_prequantized_tensor = own


@torch.no_grad()
def _cannot_fit(
    utils: Any,
    values: Tensor,
    levels: int,
    *,
    scale_shape: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    zero_point_shift: float,
) -> bool:
    plain = values.dtype == torch.float32 and values.device.type == "cpu" and values.numel()
    if not plain or block_size is not None or zero_point_shift or levels > _MOST_LEVELS:
        return False
    x = dense(values.detach())
    layout = rows_and_channels(x, scale_shape)
    if layout is None or layout[0] != layout[1]:  # a channel in several pieces
        return False
    channels = layout[1]
    fitting: int = library().count_on_grid(
        x.data_ptr(),
        channels,
        x.numel() // channels,
        levels,
        utils._ULP_SAFETY * utils._storage_ulp_rel(x),
        _TINY,
        utils._ABS_OFFGRID_CEIL,
    )
    return bool(fitting / channels < utils._MIN_MATCHED_FRAC)
