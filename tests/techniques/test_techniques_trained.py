"""After any recipe, fine-tuning trains every parameter that is used, or says which not and why."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import targets, techniques
from bitladder.errors import QuantizationError, StudyError, TrainingError
from bitladder.options import (
    RECIPES,
    TECHNIQUES,
    ModelOptions,
    Precision,
    parse_recipe,
    parse_techniques,
)
from bitladder.quantized import save_quantized
from bitladder.techniques.cross_layer_equalization import cross_layer_equalization
from bitladder.techniques.fold_batch_norm import fold_batch_norm, fold_simulated
from bitladder.training.classifier import Classifier
from conftest import Branches

FINETUNE = {"finetune": {"steps": 2, "batch_size": 32, "distill": 0.5}}
SHORT = {
    "adaround": {"iterations": 2, "images": 32},
    "bias_correction": {"images": 32},
    "calibrate": {"images": 64, "method": "min_max"},
    "finetune": FINETUNE["finetune"],
    "integer_finetune": {"steps": 3, "batch_size": 32},
    "mixed_precision": {"images": 32, "mean_bits": 5},
    "reestimate_batch_norm": {"images": 64, "batch_size": 32},
    "sequential_mse": {"images": 32, "candidates": 2},
}


class Zoo(nn.Module):
    """Every kind of layer that holds parameters, batch norms before and behind them."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = self._normed(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.ReLU6())
        self.depthwise = self._normed(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.PReLU(8)
        )
        self.up = self._normed(nn.ConvTranspose2d(8, 8, 2, stride=2, bias=False), nn.ReLU())
        self.grouped = self._normed(nn.ConvTranspose2d(8, 8, 1, groups=2, bias=False), nn.ReLU())
        self.before = nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False), nn.ReLU())
        self.plain = nn.Conv2d(8, 8, 1)
        self.lone = nn.BatchNorm2d(8)
        self.padded = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.gain = Gain()
        self.dense = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        self.normed, self.functional = nn.LayerNorm(16), Functional()
        self.head = nn.Linear(16, classes)

    @staticmethod
    def _normed(layer, activation):
        return nn.Sequential(layer, nn.BatchNorm2d(8), activation)

    def forward(self, x):
        x = self.depthwise(self.stem(x))
        x = self.grouped(functional.max_pool2d(self.up(x), 2)) + x
        x = self.padded(self.lone(self.plain(self.before(x)) + x))
        x = self.dense(self.gain(x).mean([2, 3]))
        return self.head(self.functional(self.normed(x)))


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(8, 1, 1))

    def forward(self, x):
        return x * self.factor


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.eye(16)), nn.Parameter(torch.zeros(16))

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


def _lively(model):
    """Batch norms that fold to something, weights of a seed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.train().modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.reset_parameters()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            model(torch.rand(16, 1, 12, 12))
    return model.eval()


def _short(recipe):
    """A recipe with its slow steps shortened, and one that fine-tunes at the end."""
    steps = [getattr(step, "name", None) or step for step in recipe]
    steps = [{step: SHORT.get(step, {})} if isinstance(step, str) else step for step in steps]
    return steps if any("finetune" in step for step in steps) else [*steps, FINETUNE]


def _alone(name):
    """The shortest recipe in which a technique stands before fine-tuning."""
    for recipe in (
        [name, "calibrate"],
        ["fold_batch_norm", name, "calibrate"],
        ["fold_batch_norm", "calibrate", name],
        ["calibrate", name],
        ["fold_batch_norm", name],
    ):
        try:
            parse_recipe(_short(recipe))
        except StudyError:
            continue
        return _short(recipe)
    raise AssertionError(f"no recipe known for {name}")


CASES = {
    **{name: _alone(name) for name in TECHNIQUES},
    **{f"recipe {name}": _short(recipe) for name, recipe in RECIPES.items()},
    "per tensor, folded late": [
        {"calibrate": {"weights": "per_tensor", "method": "min_max"}},
        {"reestimate_batch_norm": SHORT["reestimate_batch_norm"]},
        FINETUNE,
    ],
}


def _context(model, splits, folder, **settings):
    train, _ = splits
    data = techniques.TrainingData(train, None, classes=4, log_dir=folder)
    images = train.float_images(torch.arange(64))
    given = {"integer_logits": lambda network, batch: network(batch), "seed": 1, **settings}
    return techniques.Context(Precision(8, 8), images, model, data, **given)


def _climb(recipe, model, context, look=None):
    """Apply a recipe; ``look(model, parameters before, notes)`` after each step that trains."""
    for step in parse_recipe(recipe):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        context.notes = []
        model = techniques.apply(step, model, context)
        if step.trains and look is not None:
            look(model, before, list(context.notes))
    return model


@pytest.fixture
def optimized(monkeypatch):
    """What every optimizer was made with, by name."""
    names = []
    usual = Classifier.configure_optimizers

    def watched(self):
        made = usual(self)
        optimizer = made[0][0] if isinstance(made, tuple | list) else made
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        names.append({name for name, p in self.model.named_parameters() if id(p) in held})
        return made

    monkeypatch.setattr(Classifier, "configure_optimizers", watched)
    return names


def _check_trained(model, before, notes, held):
    """Every parameter was in the optimizer, got a gradient and moved, but for what notes name."""
    parameters = dict(model.named_parameters())
    left = parameters.keys() - {name.removeprefix("simulated.") for name in held}
    for name in parameters.keys() - left:
        assert parameters[name].grad.isfinite().all(), name
        assert not torch.equal(before[name], parameters[name]), name
    rectified = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU | nn.ReLU6) and module.output_quantizers[0] is not None
    }
    assert left == {f"{name}.output_quantizers.0.min" for name in rectified}
    count = sum(parameter.numel() for parameter in parameters.values())
    said = f"{count - len(left)} of {count} parameters trained; not: {len(left)} are lower ends"
    assert notes[0].startswith(said)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_trained_or_a_note_says_why_not(name, splits, tmp_path, optimized):
    context = _context(_lively(Zoo()), splits, tmp_path)
    looked = []

    def look(model, before, notes):
        _check_trained(model, before, notes, optimized[-1])
        looked.append(sum(name.endswith(".bias") for name in before))

    _climb(CASES[name], context.reference, context, look)
    assert looked
    assert min(looked) > 8


def test_the_integer_arithmetic_leaves_every_parameter_to_training(splits, tmp_path, optimized):
    context = _context(_lively(Branches()), splits, tmp_path, integer_logits=targets.integer_logits)

    def look(model, before, notes):
        _check_trained(model, before, notes, optimized[-1])

    recipe = ["fold_batch_norm", "calibrate", {"integer_finetune": SHORT["integer_finetune"]}]
    _climb([*recipe, FINETUNE], context.reference, context, look)


def test_every_folded_layer_has_a_bias_that_is_trained():
    folded, count = fold_batch_norm(_lively(Zoo()))
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
    model = _lively(Zoo())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and frozen != "weights":
            module.requires_grad_(False)
        elif frozen != "batch norms" and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.requires_grad_(False)
    context = _context(model, splits, tmp_path)
    early = [] if late else ["fold_batch_norm"]
    recipe = _short([*early, "calibrate", "finetune", *(["reestimate_batch_norm"] if late else [])])
    reference = copy.deepcopy(model)
    told = []
    simulated = _climb(recipe, model, context, lambda model, before, notes: told.extend(notes))
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
    model = _lively(Branches()).requires_grad_(False)
    context = _context(model, splits, tmp_path)
    recipe = [{"calibrate": {"method": "min_max"}}, FINETUNE, "reestimate_batch_norm"]
    told = []
    _climb(recipe, model, context, lambda model, before, notes: told.extend(notes))
    assert "are frozen in the network that was given (first: " in told[0]
    fixed = {"finetune": {**FINETUNE["finetune"], "range_lr": 0}}
    with pytest.raises(TrainingError, match="nothing to train: every parameter"):
        _climb([recipe[0], fixed, recipe[2]], model, context)


def test_ranges_that_are_kept_are_told(splits, tmp_path):
    context = _context(_lively(Zoo()), splits, tmp_path)
    fixed = {"finetune": {**FINETUNE["finetune"], "range_lr": 0}}
    _climb(["fold_batch_norm", "calibrate", fixed], context.reference, context)
    assert "are ends of ranges, kept by range_lr 0" in context.notes[0]


class Idle(Branches):
    """A part of it has no say in the output, though it runs."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Conv2d(1, 8, 1)

    def forward(self, x):
        return super().forward(x) + 0 * self.idle(x).detach().mean()


def test_what_no_gradient_reaches_is_told(splits, tmp_path):
    context = _context(_lively(Idle()), splits, tmp_path)
    _climb(["fold_batch_norm", "calibrate", FINETUNE], context.reference, context)
    assert "have no part in the output (first: idle" in context.notes[0]


def _loader(splits):
    images = splits[0].float_images(torch.arange(96))
    return DataLoader(TensorDataset(images, splits[0].labels[:96]), batch_size=32, shuffle=True)


class Exportable(Zoo):
    """Without what cannot be written to a file yet, which does not matter here."""

    def __init__(self):
        super().__init__()
        self.grouped[0] = nn.ConvTranspose2d(8, 8, 1, bias=False)


@pytest.mark.parametrize("name", [name for name in CASES if name != "integer_finetune"])
def test_fine_tuning_goes_on_from_a_file_as_if_it_had_not_been_left(name, splits, tmp_path):
    model = _lively(Exportable())
    model.before[1].weight.requires_grad_(False)  # which a file has to keep
    images = splits[0].float_images(torch.arange(64))
    recipe = CASES[name]
    kept = bitladder.quantize(model, images, "w4a4", recipe, training=_loader(splits), seed=1)
    kept.save(tmp_path / "q.safetensors")
    same = copy.deepcopy(model).requires_grad_(True)
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", same)
    networks = (kept.simulated, loaded.simulated)
    flags = [{k: p.requires_grad for k, p in one.named_parameters()} for one in networks]
    assert flags[0] == flags[1]
    assert list(flags[0]) == list(flags[1])
    before = kept.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    for one in (kept, loaded):
        one.finetune(_loader(splits), lr=1e-3, distill=0.5, dampen=0.1)
    first, second = kept.state_dict(), loaded.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, before[key]) for key, value in first.items())
    assert kept.rungs[-2].notes == loaded.rungs[-2].notes
    assert (
        "frozen in the network that was given (first: before.1.weight)" in kept.rungs[-2].notes[0]
    )


def test_a_file_that_names_its_network_has_no_teacher(splits, tmp_path):
    options = ModelOptions(name="conftest:Branches")
    quantized = bitladder.quantize(
        _lively(Branches()), splits[0].float_images(torch.arange(64)), 8,
        ["fold_batch_norm", "calibrate"],
    )  # fmt: skip
    path = tmp_path / "q.safetensors"
    save_quantized(
        quantized.simulated, path, recipe=quantized.recipe, seed=1, model=options, classes=4
    )
    loaded = bitladder.QuantizedModel.load(path)
    with pytest.raises(QuantizationError, match=r"give the trained network to load\(path, model\)"):
        loaded.finetune(_loader(splits))
    assert loaded.finetune(_loader(splits), distill=0).rungs[-2].technique == "finetune"
    given = bitladder.QuantizedModel.load(path, Branches())
    assert given.finetune(_loader(splits)).rungs[-2].technique == "finetune"


class KilledError(Exception):
    pass


def test_fine_tuning_that_was_broken_off_goes_on_to_the_same_end(splits, tmp_path, monkeypatch):
    recipe = parse_recipe(["fold_batch_norm", "calibrate", {"finetune": {
        "epochs": 3, "batch_size": 64, "distill": 0.5, "dampen": 0.1}}])  # fmt: skip
    ends = []
    usual = Classifier.training_step

    def until(step):
        def training_step(self, *given):
            if self.global_step == step:
                raise KilledError
            return usual(self, *given)

        return training_step

    for stop in (None, 10):
        model = _lively(Zoo())
        context = _context(model, splits, tmp_path)
        checkpoint = tmp_path / f"{stop}.ckpt"
        context.training = dataclasses.replace(context.training, checkpoint=checkpoint)

        def start(context=context, model=model):
            simulated = model
            for step in recipe[:-1]:
                simulated = techniques.apply(step, simulated, context)
            return simulated

        simulated = start()
        if stop is not None:
            with monkeypatch.context() as patch:
                patch.setattr(Classifier, "training_step", until(stop))
                with pytest.raises(KilledError):
                    techniques.apply(recipe[-1], simulated, context)
            assert checkpoint.exists()
            simulated.save(tmp_path / "half.safetensors")  # what is left of it counts for nothing
            simulated = start()
        context.notes = []
        ends.append((techniques.apply(recipe[-1], simulated, context).state_dict(), context.notes))
    (whole, said), (resumed, also) = ends
    tensors = [key for key, value in whole.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(whole[key], resumed[key]) for key in tensors)
    assert said == also


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


def test_what_layers_share_is_changed_for_none_of_them():
    torch.manual_seed(0)
    model, images = Tied().eval(), torch.rand(8, 1, 8, 8)
    equalized, pairs = cross_layer_equalization(model)
    assert pairs == 0
    assert torch.equal(equalized(images), model(images))
    context = techniques.Context(Precision(8, 4), images, model)
    simulated = model
    for step in parse_recipe(["fold_batch_norm", "calibrate", "bias_correction"]):
        simulated = techniques.apply(step, simulated, context)
    assert torch.equal(simulated.module.third.bias, model.second.bias)
    assert not torch.equal(simulated.module.first.bias, model.first.bias)


def test_late_folding_makes_biases_that_are_trained(splits, tmp_path):
    context = _context(_lively(Zoo()), splits, tmp_path)
    [calibrate] = parse_techniques([{"calibrate": SHORT["calibrate"]}])
    simulated = techniques.apply(calibrate, context.reference, context)
    assert fold_simulated(simulated) == 5  # those behind a layer
    biases = {name: p for name, p in simulated.named_parameters() if name.endswith(".bias")}
    assert {"module.stem.0.bias", "module.grouped.0.bias", "module.dense.0.bias"} <= biases.keys()
    assert all(bias.requires_grad for bias in biases.values())
