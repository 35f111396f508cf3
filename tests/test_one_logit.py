"""A network with one logit: its sign is the class, everywhere from training to targets."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import models, targets, training
from bitladder.errors import DataError, ModelError
from bitladder.options import ModelOptions, TrainOptions
from bitladder.simulation.ranges import set_output_range
from bitladder.tasks import find
from bitladder.verification import verify
from small_network import Branches, split

TASK = find("classification")
PLAIN = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
SHORT = {"finetune": {"epochs": 2, "batch_size": 32, "lr": 5e-3, "distill": 0.5}}


def _binary(images, seed):
    """Images whose bright quarter lies in the lower half for class 1, as ``TensorSplit``."""
    whole = split(images, seed)
    return type(whole)(whole.pixels, (whole.targets >= 2).long())


@pytest.fixture(scope="module")
def binary():
    return _binary(256, 1), _binary(128, 2)


@pytest.fixture(scope="module")
def one(binary, tmp_path_factory):
    """A trained network with one logit, and what its training recorded."""
    torch.manual_seed(0)
    model = Branches(1)
    options = TrainOptions(epochs=5, batch_size=16, lr=1e-2, early_stopping=None)
    log = tmp_path_factory.mktemp("log")
    result = training.fit(model, *binary, options, TASK, seed=1, log_dir=log, classes=2)
    return model, result


def _loader(split, *, labels=None):
    images = split.float_images(torch.arange(split.images))
    labels = split.targets if labels is None else labels
    return DataLoader(TensorDataset(images, labels), batch_size=32)


def _signs(logits, labels):
    return int(((logits[:, 0] > 0).long() == labels).sum())


def test_training_learns_it_and_evaluation_counts_signs(one, binary):
    model, result = one
    [(images, labels)] = list(binary[1].batches(1000))
    with torch.no_grad():
        logits = model(images)
    found = training.evaluate(model, binary[1].batches(50), TASK)
    assert (found.value, found.count) == (_signs(logits, labels) / 128, 128)
    assert found.value > 0.9
    last = [row for row in result.history if "val_loss" in row][-1]
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0].double(), labels.double()
    )
    assert last["val_loss"] == pytest.approx(float(expected), rel=1e-4)
    assert last["val_quality"] == pytest.approx(found.value)


def test_agreement_falls_where_signs_flip():
    torch.manual_seed(0)
    reference = torch.randn(1000, 1)
    flipped = torch.where(torch.arange(1000)[:, None] < 380, -reference, reference)
    shares = TASK.agreement({"output": flipped}, {"output": reference})
    assert float(shares.mean()) == pytest.approx(0.62)


def test_rungs_sensitivity_and_mixed_precision_count_signs(one, binary):
    model, _ = one
    images = binary[0].float_images(torch.arange(128))
    labels = binary[0].targets[:128]
    recipe = [*PLAIN, {"mixed_precision": {"bits": [2, 8], "min_agreement": 0.5, "images": 64}}]
    quantized = bitladder.quantize(model, images, "w2a2", recipe, validation=_loader(binary[1]))
    with torch.no_grad():
        reference, logits = model(images), quantized(images)
    same = float(((reference > 0) == (logits > 0)).float().mean())
    assert quantized.rungs[-1].agreement == pytest.approx(same)
    assert quantized.rungs[2].agreement < 1  # at 2 bits some signs flip
    rows = quantized.sensitivity(images, labels)
    assert len({row.quality.value for row in rows}) > 1  # not the share of class 0 everywhere


def test_fine_tuning_follows_labels_and_teacher(one, binary):
    model, _ = one
    images = binary[0].float_images(torch.arange(64))
    quantized = bitladder.quantize(
        model,
        images,
        "w4a4",
        [*PLAIN, SHORT, {"integer_finetune": {"steps": 1, "batch_size": 32}}],
        training=_loader(binary[0]),
        validation=_loader(binary[1]),
        seed=1,
    )
    images, labels = next(iter(binary[1].batches(128)))
    with torch.no_grad():
        signs = _signs(quantized(images), labels)
    assert quantized.rungs[-1].quality.value == signs / 128
    assert signs / 128 > 0.9


def test_labels_of_other_classes_are_refused(one, binary):
    images = binary[0].float_images(torch.arange(64))
    for labels, reason in (
        (torch.arange(256) % 4, "the label 3 is none of the network's 2 classes"),
        (binary[0].targets.float(), r"give labels\.long\(\)"),
        (binary[0].targets[:, None], r"take labels\[:, 0\]"),
    ):
        loader = _loader(binary[0], labels=labels)
        with pytest.raises(DataError, match=reason):
            bitladder.quantize(one[0], images, "w8a8", [*PLAIN, SHORT], training=loader)


def test_the_range_of_one_logit_keeps_its_signs():
    """The best of all candidates by an independent loss is about what is chosen."""
    from aimet_torch.quantization.affine import QuantizeDequantize

    torch.manual_seed(0)
    logits = torch.randn(500, 1)
    logits[0] = 60.0  # one sure image, which the squared error cares for most
    quantizer = QuantizeDequantize(shape=(), bitwidth=4, symmetric=False)
    quantizer.set_range(logits.min(), logits.max())

    def loss():
        quantized = quantizer(logits).double()
        return float(
            nn.functional.binary_cross_entropy_with_logits(
                quantized, torch.sigmoid(logits.double())
            )
        )

    def flipped():
        return float(((quantizer(logits) > 0) != (logits > 0)).float().mean())

    with torch.no_grad():
        before = loss(), flipped()
        set_output_range(quantizer, {"output": logits}, ["output"], TASK)
        after = loss(), flipped()
    assert before[1] > 0.2
    assert after[0] < before[0]
    assert after[1] < before[1] / 2


@pytest.mark.parametrize("bits", [2, 8])
def test_the_accelerated_search_finds_the_same_range(bits):
    from aimet_torch.quantization.affine import QuantizeDequantize

    from bitladder.simulation.aimet import accelerate

    torch.manual_seed(1)
    logits = 3 * torch.randn(200, 1) + 1
    found = []
    for fast in (False, True):
        quantizer = QuantizeDequantize(shape=(), bitwidth=bits, symmetric=False)
        quantizer.set_range(logits.min(), logits.max())
        if fast:
            accelerate(quantizer)
        with torch.no_grad():
            set_output_range(quantizer, {"output": logits}, ["output"], TASK)
        found.append((float(quantizer.get_min()), float(quantizer.get_max())))
    assert found[0] == pytest.approx(found[1])


def test_targets_are_compared_by_signs(one, binary, tmp_path):
    model, _ = one
    images = binary[0].float_images(torch.arange(128))
    quantized = bitladder.quantize(model, images, 8, PLAIN)
    path = quantized.export(tmp_path / "m.onnx")
    given, labels = next(iter(binary[1].batches(128)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"x": given.numpy()})
    batches = [(given, labels[:, None].float())]
    found = verify(path, batches, task=TASK, simulation=quantized).comparison
    assert sum(found.quality.scores) == int(((logits[:, 0] > 0) == labels.numpy()).sum())
    with torch.no_grad():
        assert sum(found.simulation.scores) == _signs(quantized(given), labels)

    class Opposite:
        """A target that gives each image the other class."""

        fallbacks, steps = (), {}

        def run(self, images):
            return {"output": -np.where(logits == 0, 1, logits)}

    with torch.no_grad():
        parted = targets.compare(Opposite(), quantized, [(given, labels)], TASK)
    assert parted.agreement.value < 0.05
    assert len(parted.apart) == 4


def test_a_study_s_network_may_have_one_logit_for_two_classes(tmp_path, monkeypatch):
    (tmp_path / "one_logit.py").write_text(
        "from torch import nn\n\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ModelOptions(name="one_logit:net")
    model = models.build(options, classes=2, shapes=[(1, 32, 32)], seed=1)
    assert model(torch.rand(5, 1, 32, 32)).shape == (5, 1)
    with pytest.raises(ModelError, match=r"\(2, 1\); 3 classes need \(2, 3\)"):
        models.build(options, classes=3, shapes=[(1, 32, 32)], seed=1)
