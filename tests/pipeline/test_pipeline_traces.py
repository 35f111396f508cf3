"""What tracing leaves behind is freed, and nothing else is."""

import torch
from torch import nn

from bitladder.pipeline.traces import Traces


def _trace():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    traced = torch.jit.trace(network, torch.zeros(1, 2))
    return traced, str(traced._c._type())


def _is_known(name):
    return torch.jit._state._python_cu.get_class(name) is not None


@torch.jit.script
def _twice(x: torch.Tensor):
    return 2 * x


def test_what_is_in_use_is_kept_and_what_is_not_is_freed():
    traces = Traces(grown=-(2**40))
    traced, name = _trace()
    assert _is_known(name)
    assert not traces.forget()
    assert _is_known(name)
    assert traced(torch.ones(1, 2)).shape == (1, 3)
    del traced
    assert traces.forget()
    assert not _is_known(name)
    again, _ = _trace()
    assert again(torch.ones(1, 2)).shape == (1, 3)
    assert torch.equal(_twice(torch.ones(2)), 2 * torch.ones(2))  # no module, so it has no type


def test_nothing_is_done_until_the_process_has_grown():
    traces = Traces(grown=2**40)
    _, name = _trace()
    assert not traces.forget()
    assert _is_known(name)
