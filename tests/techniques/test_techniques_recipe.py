"""Recipes on a small network: what is trained is the simulated network, and the swap is told."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitladder import techniques, training
from bitladder.errors import QuantizationError
from bitladder.options import (
    Calibrate,
    Finetune,
    Precision,
    Relu6ToRelu,
    TrainOptions,
    parse_recipe,
)
from bitladder.tasks import find
from bitladder.techniques.relu6_to_relu import relu6_to_relu

TASK = find("classification")


@pytest.fixture
def context(network, images, splits, tmp_path):
    train, validation = splits
    options = TrainOptions(epochs=5, batch_size=16, lr=1e-2, early_stopping=None)
    training.fit(network, train, validation, options, TASK, seed=1, log_dir=tmp_path, classes=4)
    data = techniques.TrainingData(train=train, validation=validation, classes=4, log_dir=tmp_path)
    return techniques.Context(Precision(4, 4), (images,), network, TASK, data, seed=1)


@pytest.fixture
def calibrated(network, context):
    recipe = parse_recipe(["fold_batch_norm", {"calibrate": {"method": "min_max"}}])
    for technique in recipe:
        network = techniques.apply(technique, network, context)
    return network


FINETUNE = Finetune(epochs=3, batch_size=16, lr=5e-3, distill=0.0)


def test_the_trained_module_is_the_simulated_one(calibrated, context, splits):
    before = copy.deepcopy(calibrated.state_dict())
    reference = copy.deepcopy(context.reference.state_dict())
    accuracy = training.evaluate(calibrated, splits[1].batches(64), TASK)
    trained = techniques.apply(FINETUNE, calibrated, context)
    assert trained is calibrated
    changed = {
        name
        for name, value in trained.state_dict().items()
        if isinstance(value, torch.Tensor) and not torch.equal(before[name], value)
    }
    assert any(name.endswith("weight") for name in changed)
    assert any("param_quantizers" in name for name in changed)
    assert any("output_quantizers" in name for name in changed)
    after = training.evaluate(trained, splits[1].batches(64), TASK)
    assert after.value > accuracy.value
    assert all(
        torch.equal(reference[name], value)
        for name, value in context.reference.state_dict().items()
    )


def test_what_is_measured_after_training_is_still_quantized(calibrated, context, images):
    trained = techniques.apply(FINETUNE, calibrated, context)
    with torch.no_grad():
        logits = trained(images)
    assert len(logits.unique()) <= 16  # 4-bit logits


def test_training_needs_labels(calibrated, context):
    context.training = None
    with pytest.raises(QuantizationError, match="'finetune' trains: it needs labelled images"):
        techniques.apply(FINETUNE, calibrated, context)


def test_calibration_needs_images(network, context):
    context.calibration = (context.calibration[0][:0],)
    with pytest.raises(QuantizationError, match="no calibration images"):
        techniques.apply(Calibrate(), network, context)


def test_a_recipe_is_rebuilt_for_saved_weights(calibrated, network, context, images, tmp_path):
    calibrated.save(tmp_path / "s.safetensors")
    recipe = parse_recipe(["fold_batch_norm", {"calibrate": {"method": "min_max"}}])
    rebuilt = techniques.rebuild(recipe, network, context)
    rebuilt.restore(tmp_path / "s.safetensors")
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images), calibrated.eval()(images))


class Clipped(nn.Module):
    """ReLU6 in each of the forms in which people write it."""

    def __init__(self):
        super().__init__()
        self.relu6, self.hardtanh = nn.ReLU6(), nn.Hardtanh(0.0, 6.0)
        self.other = nn.Hardtanh(-1.0, 6.0)

    def forward(self, x):
        return [
            self.relu6(x),
            self.hardtanh(x),
            functional.relu6(x),
            functional.hardtanh(x, 0.0, 6.0),
            self.other(x),
        ]


def test_every_form_of_relu6_is_replaced_and_others_are_not():
    x = torch.linspace(-9, 9, 37)
    swapped, count = relu6_to_relu(Clipped())
    outputs = swapped(x)
    assert count == 4
    assert all(torch.equal(output, x.clamp(min=0)) for output in outputs[:4])
    assert torch.equal(outputs[4], x.clamp(-1, 6))


def test_the_swap_says_how_many(network, context):
    techniques.apply(Relu6ToRelu(), network, context)
    assert context.notes == ["2 ReLU6 replaced"]
