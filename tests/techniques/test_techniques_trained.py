"""After any recipe, fine-tuning trains every parameter that is used, or says which not and why."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitladder import targets, techniques
from bitladder.errors import TrainingError
from bitladder.options import Precision, parse_recipe, parse_techniques
from bitladder.techniques.cross_layer_equalization import cross_layer_equalization
from bitladder.techniques.fold_batch_norm import fold_batch_norm, fold_simulated
from bitladder.training.module import TrainedModule
from every_layer import CASES, FINETUNE, SHORT, Zoo, climb, context_for, lively, short
from small_network import Branches


@pytest.fixture
def optimized(monkeypatch):
    """What every optimizer was made with, by name."""
    names = []
    usual = TrainedModule.configure_optimizers

    def watched(self):
        made = usual(self)
        optimizer = made[0][0] if isinstance(made, tuple | list) else made
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        names.append({name for name, p in self.model.named_parameters() if id(p) in held})
        return made

    monkeypatch.setattr(TrainedModule, "configure_optimizers", watched)
    return names


def _check_trained(model, before, notes, held):
    """Every parameter was in the optimizer, got a gradient and moved, but for what notes name."""
    parameters = dict(model.named_parameters())
    left = parameters.keys() - {name.removeprefix("simulated.") for name in held}
    for name in parameters.keys() - left:
        assert parameters[name].grad.isfinite().all(), name
        assert not torch.equal(before[name], parameters[name]), name
    shared = {  # with what a concatenation joins, which may be below zero
        id(module.output_quantizers[0])
        for module in model.modules()
        if not isinstance(module, nn.ReLU | nn.ReLU6)
        and len(getattr(module, "output_quantizers", ()))
    }
    rectified = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU | nn.ReLU6)
        and module.output_quantizers[0] is not None
        and id(module.output_quantizers[0]) not in shared
    }
    assert left == {f"{name}.output_quantizers.0.min" for name in rectified}
    count = sum(parameter.numel() for parameter in parameters.values())
    said = f"{count - len(left)} of {count} parameters trained; not: {len(left)} are lower ends"
    assert notes[0].startswith(said)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_trained_or_a_note_says_why_not(name, splits, tmp_path, optimized):
    context = context_for(lively(Zoo()), splits, tmp_path)
    looked = []

    def look(model, before, notes):
        _check_trained(model, before, notes, optimized[-1])
        looked.append(sum(name.endswith(".bias") for name in before))

    climb(CASES[name], context.reference, context, look)
    assert looked
    assert min(looked) > 8


def test_the_integer_arithmetic_leaves_every_parameter_to_training(splits, tmp_path, optimized):
    context = context_for(
        lively(Branches()), splits, tmp_path, integer_outputs=targets.integer_outputs
    )

    def look(model, before, notes):
        _check_trained(model, before, notes, optimized[-1])

    recipe = ["fold_batch_norm", "calibrate", {"integer_finetune": SHORT["integer_finetune"]}]
    climb([*recipe, FINETUNE], context.reference, context, look)


def test_every_folded_layer_has_a_bias_that_is_trained():
    folded, count = fold_batch_norm(lively(Zoo()))
    assert count == 6
    made = {"stem.0", "depthwise.0", "up.0", "grouped.0", "before.1", "dense.0"}
    for name in made:
        layer = folded.get_submodule(name)
        assert layer.weight.requires_grad
        assert layer.bias.requires_grad
        assert isinstance(layer.bias, nn.Parameter)


@pytest.mark.parametrize("frozen", ["weights", "batch norms", "layers"])
@pytest.mark.parametrize("late", [False, True])
def test_what_is_frozen_stays_frozen_and_is_told(frozen, late, splits, tmp_path):
    model = lively(Zoo())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and frozen != "weights":
            module.requires_grad_(False)
        elif frozen != "batch norms" and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.requires_grad_(False)
    context = context_for(model, splits, tmp_path)
    early = [] if late else ["fold_batch_norm"]
    recipe = short([*early, "calibrate", "finetune", *(["reestimate_batch_norm"] if late else [])])
    reference = copy.deepcopy(model)
    told = []
    simulated = climb(recipe, model, context, lambda model, before, notes: told.extend(notes))
    assert "are frozen in the network that was given (first: " in told[0]
    layer = simulated.module.get_submodule("stem.0")
    assert layer.weight.requires_grad == (frozen == "batch norms")
    assert layer.bias.requires_grad == (frozen == "weights")
    if frozen == "layers" and not late:  # weight and bias are those that folding makes
        folded, _ = fold_batch_norm(reference)
        assert torch.equal(layer.weight, folded.get_submodule("stem.0").weight)
        bias = folded.get_submodule("stem.0").bias
        assert (layer.bias - bias).abs().max() < 1e-6


def test_a_network_that_is_frozen_whole_trains_its_ranges_and_says_so(splits, tmp_path):
    model = lively(Branches()).requires_grad_(False)
    context = context_for(model, splits, tmp_path)
    recipe = [{"calibrate": {"method": "min_max"}}, FINETUNE, "reestimate_batch_norm"]
    told = []
    climb(recipe, model, context, lambda model, before, notes: told.extend(notes))
    assert "are frozen in the network that was given (first: " in told[0]
    fixed = {"finetune": {**FINETUNE["finetune"], "range_lr": 0}}
    with pytest.raises(TrainingError, match="nothing to train: every parameter"):
        climb([recipe[0], fixed, recipe[2]], model, context)


def test_ranges_that_are_kept_are_told(splits, tmp_path):
    context = context_for(lively(Zoo()), splits, tmp_path)
    fixed = {"finetune": {**FINETUNE["finetune"], "range_lr": 0}}
    climb(["fold_batch_norm", "calibrate", fixed], context.reference, context)
    assert "are ends of ranges, kept by range_lr 0" in context.notes[0]


class Idle(Branches):
    """A part of it has no say in the output, though it runs."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Conv2d(1, 8, 1)

    def forward(self, x):
        return super().forward(x) + 0 * self.idle(x).detach().mean()


def test_what_no_gradient_reaches_is_told(splits, tmp_path):
    context = context_for(lively(Idle()), splits, tmp_path)
    climb(["fold_batch_norm", "calibrate", FINETUNE], context.reference, context)
    assert "have no part in the output (first: idle" in context.notes[0]


class Tied(nn.Module):
    """Two layers that hold the same weight and bias."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(1, 8, 3),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 1),
        )
        self.third.weight, self.third.bias = self.second.weight, self.second.bias
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.head(self.third(x).mean([2, 3]))


def test_what_layers_share_is_copied_and_the_network_keeps_its_function():
    torch.manual_seed(0)
    model, images = Tied().eval(), torch.rand(8, 1, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    equalized, _ = cross_layer_equalization(model)
    assert torch.allclose(equalized(images), model(images), atol=1e-6)
    assert equalized.second.weight is not equalized.third.weight
    context = techniques.Context(Precision(8, 4), (images,), model)
    simulated = model
    for step in parse_recipe(
        ["fold_batch_norm", "calibrate", {"adaround": SHORT["adaround"]}, "bias_correction"]
    ):
        simulated = techniques.apply(step, simulated, context)
    assert any("share weights" in note for note in context.notes)
    assert simulated.module.second.bias is not simulated.module.third.bias
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_late_folding_makes_biases_that_are_trained(splits, tmp_path):
    context = context_for(lively(Zoo()), splits, tmp_path)
    [calibrate] = parse_techniques([{"calibrate": SHORT["calibrate"]}])
    simulated = techniques.apply(calibrate, context.reference, context)
    assert fold_simulated(simulated) == 5  # those behind a layer
    biases = {name: p for name, p in simulated.named_parameters() if name.endswith(".bias")}
    assert {"module.stem.0.bias", "module.grouped.0.bias", "module.dense.0.bias"} <= biases.keys()
    assert all(bias.requires_grad for bias in biases.values())
