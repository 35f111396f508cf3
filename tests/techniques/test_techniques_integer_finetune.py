"""Fine-tuning on integers: its loss is that of the runtime's own logits, its gradient arrives."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bitladder import quantize, targets, techniques
from bitladder.errors import QuantizationError
from bitladder.options import (
    Finetune,
    IntegerFinetune,
    Precision,
    TrainOptions,
    parse_recipe,
)
from bitladder.tasks import find
from bitladder.techniques.integer_finetune import IntegerForward
from bitladder.training import fit
from small_network import only

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


@pytest.fixture
def simulated(network, images):
    return quantize(network, images, "w4a4", RECIPE).simulated


def test_training_sees_the_logits_of_the_runtime(simulated, images, tmp_path):
    from bitladder.deploy import Traced

    with torch.no_grad():  # a step of training takes biases off the grid of the integers
        for name, value in simulated.module.named_parameters():
            if name.endswith("bias"):
                value.add_(0.02 * torch.arange(len(value)))
    forward = IntegerForward(simulated, targets.integer_outputs).train()
    seen = forward(images)
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    runtime = only(targets.open_target("onnxruntime", tmp_path / "m.onnx").run(images.numpy()))
    assert torch.allclose(seen, torch.from_numpy(runtime), rtol=0, atol=1e-6)
    with torch.no_grad():
        assert not torch.equal(seen, simulated(images))  # which is what makes it worth while
        assert torch.equal(forward.eval()(images), simulated(images))


def test_its_gradient_is_the_simulation_s_at_those_logits(simulated, images):
    labels = torch.arange(len(images)) % 4
    weight = simulated.module.head.weight
    forward = IntegerForward(simulated, targets.integer_outputs).train()
    seen = forward(images)
    [found] = torch.autograd.grad(cross_entropy(seen, labels), weight)
    logits = seen.detach().requires_grad_()
    [slope] = torch.autograd.grad(cross_entropy(logits, labels), logits)
    [expected] = torch.autograd.grad(simulated(images), weight, slope)
    assert found.abs().max() > 0
    assert torch.allclose(found, expected)


def _context(network, images, splits, tmp_path, precision, **more):
    train, validation = splits
    data = techniques.TrainingData(train, validation, classes=4, log_dir=tmp_path)
    return techniques.Context(
        Precision.parse(precision), (images,), network, find("classification"), data, seed=1, **more
    )


def _climb(network, context, *steps):
    for technique in (*parse_recipe(RECIPE), *steps):
        network = techniques.apply(technique, network, context)
    return network


def test_some_steps_train_and_the_integers_keep_what_training_gained(
    network, images, splits, tmp_path
):
    options = TrainOptions(epochs=5, batch_size=16, lr=1e-2, early_stopping=None)
    fit(network, *splits, options, find("classification"), seed=1, log_dir=tmp_path, classes=4)
    context = _context(
        network, images, splits, tmp_path, "w4a4", integer_outputs=targets.integer_outputs
    )
    first = Finetune(epochs=3, batch_size=16, lr=5e-3, distill=0.0)
    last = IntegerFinetune(steps=4, batch_size=64, lr=1e-3, distill=0.0)
    trained = _climb(network, context, first, last)
    assert context.notes[-1] == "4 steps at learning rate 0.001"
    assert not trained.training

    given, labels = next(iter(splits[1].batches(128)))
    [logits] = targets.integer_outputs(trained, (given,)).values()
    classes = logits.argmax(1)
    assert float((classes == labels).float().mean()) >= 0.9


def test_what_has_no_integer_arithmetic_is_told(network, images, splits, tmp_path):
    step = IntegerFinetune(steps=1)
    context = _context(network, images, splits, tmp_path, "w8a8")
    with pytest.raises(QuantizationError, match="the context has no integer arithmetic"):
        _climb(network, context, step)
