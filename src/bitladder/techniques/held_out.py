"""A technique's work is kept if the outputs of images that it did not see come nearer to float."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitladder.simulation import SimulatedModel
from bitladder.simulation.quality import outputs, relative_noise
from bitladder.structures import Inputs, count

_EVERY = 8  # one image of so many is held out, the last of each
FEWEST = 16
"""Images of which some are held out; of fewer none are, and nothing is undone."""


def held_out(images: int) -> Tensor:
    """Which of some images are held out: (N,) truth values."""
    held = torch.arange(images) % _EVERY == _EVERY - 1
    return held if images >= FEWEST else torch.zeros_like(held)


def parted(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """The images that a technique may see, and those that are held out."""
    held = held_out(count(inputs))
    return tuple(one[~held] for one in inputs), tuple(one[held] for one in inputs)


@contextmanager
def kept_if_better(
    name: str, model: SimulatedModel, reference: nn.Module, unseen: Inputs, notes: list[str]
) -> Iterator[None]:
    """Undo what is done to a network in a block unless its error on held-out images falls.

    The error is the noise of the outputs over the float network's signal.

    Args:
        name: of the technique.
        model: a calibrated simulated network; weights, biases and ranges are put back.
        reference: the float network.
        unseen: the images; of none nothing is undone.
        notes: gets a line where it is undone.
    """
    if not count(unseen):
        yield
        return
    model.eval()
    right = outputs(reference.eval(), unseen)
    before, state = relative_noise(right, outputs(model, unseen)), _state(model)
    yield
    model.eval()
    after = relative_noise(right, outputs(model, unseen))
    if after <= before:
        return
    with torch.no_grad():
        for key, value in model.module.state_dict(keep_vars=True).items():
            if key in state:
                value.copy_(state[key])
    notes.append(
        f"{name} is undone: on {count(unseen)} held-out images the error of the outputs rose from "
        f"{before:.3g} to {after:.3g} of their signal"
    )


def _state(model: SimulatedModel) -> dict[str, Tensor]:
    return {
        key: value.detach().clone()
        for key, value in model.module.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor)
    }
