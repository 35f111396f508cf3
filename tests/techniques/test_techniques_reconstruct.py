"""Blocks are found, reconstruction and distillation bring outputs nearer, and harm is undone."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bitladder import simulation, techniques
from bitladder.errors import StudyError
from bitladder.options import (
    BiasCorrection,
    Precision,
    parse_recipe,
)
from bitladder.options.techniques import Distill, Reconstruct
from bitladder.simulation import sqnr
from bitladder.tasks import find
from bitladder.techniques.blocks import find_blocks
from bitladder.techniques.held_out import FEWEST, held_out, parted
from bitladder.techniques.learned_grids import LearnedRounding
from small_network import only_output


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Chain(nn.Module):
    """Three layers without a shortcut, as an inverted residual that changes the size has them."""

    def __init__(self, channels):
        super().__init__()
        self.expand = nn.Conv2d(channels, 16, 1)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, stride=2, groups=16)
        self.project = nn.Conv2d(16, channels, 1)

    def forward(self, x):
        return self.project(F.relu6(self.depth(F.relu6(self.expand(x)))))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.features = nn.Sequential(Residual(8), Chain(8), Residual(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.features(torch.relu(self.stem(x))).mean([2, 3]))


class Unet(nn.Module):
    """One long skip: nothing but the whole of it hands a single tensor on."""

    def __init__(self, depth=12):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        kept = x = torch.relu(self.first(x))
        for layer in self.middle:
            x = torch.relu(layer(x))
        return self.last(torch.cat([x, kept], 1)).mean([2, 3])


def _images(seed):
    """Images of which each has a brightness and a contrast of its own."""
    generator = torch.Generator().manual_seed(seed)
    each = torch.randn(64, 3, 1, 1, generator=generator)
    return each * (1 + torch.randn(64, 3, 12, 12, generator=generator))


IMAGES, OTHERS = _images(3), _images(4)


def _calibrated(network, precision="w3a4", images=IMAGES, task=None):
    torch.manual_seed(0)
    network = network().eval()
    for layer in network.modules():
        if isinstance(layer, simulation.WeightedLayer):
            nn.init.kaiming_normal_(layer.weight)
    context = techniques.Context(Precision.parse(precision), (images,), network, task, seed=1)
    model = network
    for technique in parse_recipe(["fold_batch_norm", "calibrate"]):
        model = techniques.apply(technique, model, context)
    return network, model.eval(), context


def _blocks(model):
    graph = model.module.graph
    values = dict(
        zip([n for n in graph.nodes if n.op == "placeholder"], (IMAGES[:2],), strict=True)
    )
    with torch.no_grad():
        model.run_part([n for n in graph.nodes if n.op != "output"], values)

    def has_weight(node):
        called = model.module.get_submodule(node.target) if node.op == "call_module" else None
        return isinstance(called, simulation.WeightedLayer)

    found = find_blocks(graph, values, 2, has_weight)
    return found, [[n.target for n in block.nodes if has_weight(n)] for block in found]


def test_blocks_are_the_units_of_a_network():
    _, model, _ = _calibrated(Network)
    _, layers = _blocks(model)
    assert layers == [
        ["stem"],
        ["features.0.conv1", "features.0.conv2"],
        ["features.1.expand", "features.1.depth", "features.1.project"],
        ["features.2.conv1", "features.2.conv2"],
        ["head"],
    ]


def test_a_long_skip_is_cut_where_two_tensors_are_read():
    _, model, _ = _calibrated(Unet)
    found, layers = _blocks(model)
    assert max(map(len, layers)) <= 8
    assert len(found) > 1
    assert sorted(itertools.chain(*layers)) == sorted(
        ["first", "last", *(f"middle.{i}" for i in range(12))]
    )


@pytest.mark.parametrize("network", [Network, Unet])
def test_blocks_one_after_the_other_are_the_network(network):
    _, model, _ = _calibrated(network)
    found, _ = _blocks(model)
    graph = model.module.graph
    values = dict(zip([n for n in graph.nodes if n.op == "placeholder"], (IMAGES,), strict=True))
    with torch.no_grad():
        for block in found:
            given = {node: values[node] for node in block.reads}
            model.run_part(block.nodes, given)
            values |= {node: given[node] for node in block.makes}
        [output] = graph.find_nodes(op="output")
        assert torch.equal(values[output.args[0]], model(IMAGES))


@pytest.mark.parametrize("network", [Network, Unet])
def test_reconstruction_brings_outputs_nearer_on_other_images(network):
    network, model, context = _calibrated(network)
    right = only_output(network, OTHERS)
    before = sqnr(right, only_output(model, OTHERS))
    techniques.apply(Reconstruct(iterations=150), model, context)
    assert sqnr(right, only_output(model, OTHERS)) > before + 0.5
    assert _on_their_grids(model)
    assert all(parameter.requires_grad for parameter in _parameters(model))


def _on_their_grids(model):
    """Layers whose weight is what its quantizer makes of it."""
    return [
        name
        for name, layer in model.module.named_modules()
        if isinstance(layer, simulation.WeightedLayer)
        and torch.allclose(layer.weight, layer.param_quantizers["weight"](layer.weight))
    ]


def _parameters(model):
    for layer in model.module.modules():
        if isinstance(layer, simulation.WeightedLayer):
            yield from layer.parameters(recurse=False)


def test_reconstruction_is_the_same_again():
    results = []
    for _ in range(2):
        _, model, context = _calibrated(Network)
        techniques.apply(Reconstruct(iterations=10), model, context)
        results.append(only_output(model, IMAGES))
    assert torch.equal(*results)


def test_soft_roundings_begin_at_the_weight_and_end_on_the_grid():
    _, model, _ = _calibrated(Network, "w4a8")
    layer = model.module.get_submodule("stem")
    quantizer = layer.param_quantizers["weight"]
    rounding = LearnedRounding(quantizer, layer.weight)
    scale = quantizer.get_scale()
    inside = (layer.weight > quantizer.get_min()) & (layer.weight < quantizer.get_max())
    assert float(((rounding() - layer.weight).abs() / scale)[inside].max()) < 1e-3
    torch.testing.assert_close(
        rounding.decided(), quantizer(layer.weight).detach().as_subclass(torch.Tensor)
    )


@pytest.mark.parametrize("task", [None, "classification"])
def test_distillation_needs_no_labels(task):
    network, model, context = _calibrated(Network, task=task and find(task))
    right = only_output(network, OTHERS)
    before = sqnr(right, only_output(model, OTHERS))
    techniques.apply(Distill(steps=60, batch_size=16), model, context)
    assert sqnr(right, only_output(model, OTHERS)) > before + 1
    assert context.notes[-1] == "60 steps at learning rate 0.003 on 56 images"


def test_what_does_harm_is_undone():
    _, model, context = _calibrated(Network)
    before = {name: value.detach().clone() for name, value in model.module.named_parameters()}
    techniques.apply(Distill(steps=5, batch_size=16, lr=50.0), model, context)
    after = dict(model.module.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert "distill is undone: on 8 held-out images" in context.notes[-1]


def test_bias_correction_is_undone_where_the_images_of_its_means_mislead():
    _, model, context = _calibrated(Network)
    held = held_out(len(IMAGES))
    odd = IMAGES.clone()
    odd[~held] = 40 * odd[~held]  # means that no held-out image has
    context.calibration = (odd,)
    before = model.module.get_submodule("head").bias.clone()
    techniques.apply(BiasCorrection(method="empirical"), model, context)
    assert "bias_correction is undone" in context.notes[-1]
    assert torch.equal(model.module.get_submodule("head").bias, before)


def test_one_image_in_eight_is_held_out_where_there_are_enough():
    seen, unseen = parted((IMAGES,))
    assert len(seen[0]) == 56
    assert len(unseen[0]) == 8
    assert torch.equal(unseen[0][0], IMAGES[7])
    assert not bool(held_out(FEWEST - 1).any())


def test_an_order_that_undoes_its_work_is_refused():
    with pytest.raises(StudyError):
        parse_recipe(["fold_batch_norm", "calibrate", "adaround", "reconstruct"])
