"""The executor against AIMET's own modules: outputs, gradients and states, bit for bit."""

import copy
from unittest import mock

import pytest
import torch
from torch import nn

from bitladder import models
from bitladder.options import Calibrate, ModelOptions, Precision
from bitladder.simulation import SimulatedModel, prepare
from bitladder.simulation.isolate import only_quantizers
from small_network import only_output

SHAPE = (1, 32, 32)
NETWORKS = ["mobilenet_v2", "shufflenet_v2_x0_5"]


def _simulate(model, precision, shape, images):
    simulated = SimulatedModel(
        prepare(model),
        Precision.parse(precision),
        shapes=[shape],
        options=Calibrate(method="min_max"),
    )
    simulated.calibrate(images)
    return simulated


def _train(model, forward, images):
    """Gradients of one step in training mode, and the output in evaluation mode after it."""
    model.train()
    model.zero_grad()
    forward(images).square().mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.eval()
    with torch.no_grad():
        return gradients, forward(images)


def _assert_equal(first, second):
    gradients, output = first
    wanted, reference = second
    assert gradients.keys() == wanted.keys()
    assert all(torch.equal(gradients[name], wanted[name]) for name in wanted)
    assert torch.equal(output, reference)


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_step_as_aimets_modules_do(name):
    images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = models.build(ModelOptions(name=name), classes=10, shapes=[SHAPE], seed=0)
    steps = []
    for _ in range(2):
        simulated = _simulate(model, "w4a4", SHAPE, images)
        torch.manual_seed(0)  # dropout
        forward = simulated if not steps else simulated.module
        steps.append(_train(simulated, forward, images))
    _assert_equal(*steps)


class Odd(nn.Module):
    """Operations that only AIMET knows, shared modules, in-place ReLUs, an activation alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.group = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.gelu = nn.GELU()
        self.head = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        x = self.act(self.first(x))
        y = self.act(self.group(x) - 0.1)
        y = self.gelu(self.up(y * self.scale))
        z = torch.cat([x.mean((2, 3)), y.amax((2, 3))], dim=1)
        return self.head(torch.flatten(z, 1))


def _odd(images):
    torch.manual_seed(0)
    return _simulate(Odd(), "w4a4", (1, 12, 12), images)


def test_operations_it_does_not_know_run_as_aimets_modules():
    images = torch.randn(5, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    ours, theirs = _odd(images), _odd(images)
    _assert_equal(_train(ours, ours, images), _train(theirs, theirs.module, images))


def test_it_sees_quantizers_come_and_go_and_the_graph_change(network, images):
    model = _simulate(network, "w2a2", (1, 12, 12), images).eval()
    with torch.no_grad():
        whole = model(images)
        with only_quantizers(model.module, []):
            assert torch.allclose(model(images), network.eval()(images), atol=1e-5)
        assert torch.equal(model(images), whole)
        [*_, last] = [n for n in model.module.graph.nodes if n.op == "call_module"]
        last.replace_all_uses_with(last.args[0])
        model.module.graph.erase_node(last)
        model.module.recompile()
        assert model(images).shape[1:] != whole.shape[1:]


def test_hooks_see_what_they_would_see(network, images):
    model = _simulate(network, "w8a8", (1, 12, 12), images).eval()
    relu = next(m for m in model.module.modules() if isinstance(m, nn.ReLU6))
    seen = []
    for module in (relu, relu.output_quantizers[0]):
        module.register_forward_hook(lambda m, given, out: seen.append((given[0], out)))
    with torch.no_grad():
        model(images)
        ours = copy.copy(seen)
        seen.clear()
        model.module(images)
    assert len(ours) == len(seen) >= 2  # the concatenation shares the quantizer
    for pair, wanted in zip(ours, seen, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(pair, wanted, strict=True))
    assert (ours[0][0] >= 0).all()  # the quantizer's input has been rectified


def test_held_weights_are_quantized_once_and_forgotten(network, images):
    model = _simulate(network, "w3a8", (1, 12, 12), images).eval()
    layers = [m for m in model.module.modules() if getattr(m, "param_quantizers", {})]
    [first, *_] = [q for m in layers for q in m.param_quantizers.values() if q is not None]
    before = only_output(model, images)
    kind = type(first)
    spied = {"autospec": True, "side_effect": kind.clip_and_quantize}
    with (
        mock.patch.object(kind, "clip_and_quantize", **spied) as quantize,
        torch.no_grad(),
        model.weights_held(),
    ):
        assert torch.equal(model(images), before)
        assert torch.equal(model(images), before)
        assert [call.args[0] for call in quantize.call_args_list].count(first) == 1
    with model.weights_held():
        ours, _ = _train(model, model, images)  # gradients reach the weights all the same
    theirs, _ = _train(model, model.module, images)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any("held_parameters" in vars(layer) for layer in layers)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(only_output(model, images), before)
