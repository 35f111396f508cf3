"""Every name in the operator table is one that can stand in a traced graph."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitladder.operators import conversions, operators
from bitladder.simulation.aimet import function_modules
from bitladder.simulation.conversions import RULES

# What torch.fx leaves of torchvision's own functions, and of PyTorch's names for them.
OWN_NAMES = {"stochastic_depth", "_threshold", "_pad", "log_sigmoid", "put",
             "linalg_vector_norm"}  # fmt: skip


@pytest.mark.parametrize("known", operators(), ids=lambda known: known.name)
def test_modules_exist_and_can_appear(known):
    for place, full in enumerate(known.modules):
        package, _, name = full.partition(".")
        assert package in ("nn", "aimet")
        assert isinstance(getattr(nn if package == "nn" else function_modules(), name), type)
        # torch.fx takes modules of torch.nn whole; AIMET's are there only if tracing makes them.
        made = (place == 0 and known.becomes) or known.name in RULES
        assert package == "nn" or made


@pytest.mark.parametrize("known", operators(), ids=lambda known: known.name)
def test_functions_exist(known):
    for name in (*known.functions, *known.becomes):
        homes = (torch, torch.Tensor, functional, operator, torch.linalg, torch.special)
        assert any(hasattr(home, name) for home in homes) or name in OWN_NAMES, name


def test_rules_are_of_operators_that_functions_become():
    assert set(RULES) <= {known.name for known in conversions().values()}
