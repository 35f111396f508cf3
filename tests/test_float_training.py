"""``bitladder.train``: a checkpoint of other classes, float training, then quantization."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder.errors import DataError, ModelError, StudyError, TrainingError
from bitladder.options import TrainOptions
from bitladder.tasks import find
from bitladder.training import fit
from small_network import CLASSES, Branches, split

OPTIONS = {"lr": 1e-2, "schedule": "constant", "early_stopping": None, "amp": "off"}


def loader(images=64, seed=0, **settings):
    made = split(images, seed)
    data = TensorDataset(made.float_images(torch.arange(images)), made.targets)
    return DataLoader(data, **{"batch_size": 16, **settings})


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Branches()


def test_it_is_the_training_of_studies_on_a_copy(network, tmp_path):
    before = copy.deepcopy(network.state_dict())
    trained = bitladder.train(network, loader(), seed=3, epochs=2, progress=False, **OPTIONS)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not trained.training
    options = TrainOptions(epochs=2, batch_size=16, **OPTIONS)

    class InOrder:
        images = 64

        def batches(self, batch_size, shuffle_seed=None):
            return split(64, 0).batches(batch_size)

    fit(network, InOrder(), None, options, find("classification"), seed=3, log_dir=tmp_path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


def test_from_a_checkpoint_of_other_classes_to_a_quantized_network(network, tmp_path):
    torch.manual_seed(7)
    source = bitladder.train(
        Branches(num_classes=7), loader(128), epochs=6, progress=False, **OPTIONS
    )
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.ckpt")
    with pytest.raises(ModelError, match="new_head=True"):
        bitladder.load_weights(network, tmp_path / "net.ckpt")
    said = bitladder.load_weights(network, tmp_path / "net.ckpt", new_head=True)
    assert said.endswith("without the prefix 'module.'; a new last layer: head")
    heard = []
    trained = bitladder.train(
        network, loader(), validation=loader(64, 1), steps=12, accumulate=2, augment="none",
        progress=heard.append, log_dir=tmp_path / "logs", **OPTIONS,
    )  # fmt: skip
    assert list((tmp_path / "logs").rglob("*tfevents*"))
    assert heard[-1].done
    assert (heard[0].technique, heard[0].count) == ("train", 1)
    quantized = bitladder.quantize(
        trained, loader(), 8, "qat", training=loader(), validation=loader(64, 1), progress=False
    )
    assert quantized.rungs[0].quality.value > 2 / CLASSES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 1}, "train: unknown option 'epoch'; did you mean 'epochs'"),
        ({"batch_size": 3}, "train: unknown option 'batch_size'"),
        ({"epochs": 0}, r"train\.epochs: "),
        ({"augment": "x"}, r"train\.augment: unknown augmentation 'x'; known: none, standard"),
    ],
)
def test_options_that_are_wrong_are_one_line(options, message, network):
    with pytest.raises(StudyError, match=message) as caught:
        bitladder.train(network, loader(), progress=False, **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_trained_is_one_line(network):
    with pytest.raises(DataError, match="training: there are no images"):
        bitladder.train(network, [], progress=False)
    with pytest.raises(ModelError, match="Conv2d returns"):
        bitladder.train(nn.Conv2d(1, 4, 3), loader(), progress=False)
    with pytest.raises(DataError, match="training, batch 0: masks of 16 images"):
        bitladder.train(network, loader(), task="segmentation", progress=False)
    with pytest.raises(StudyError, match="unknown task"):
        bitladder.train(network, loader(), task="classify", progress=False)
    with pytest.raises(TrainingError, match="chance level"):
        bitladder.train(network, loader(), validation=loader(), steps=1, lr=1e-12, progress=False)
