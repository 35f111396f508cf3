"""Epochs that would end in one image: joined, or refused with the numbers that matter."""

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
)

import bitladder
from bitladder.data import LoaderSplit
from bitladder.data.splits import TensorSplit
from bitladder.errors import DataError, QuantizationError, TrainingError
from bitladder.options import TrainOptions
from bitladder.tasks import find
from bitladder.training import Tuning, fit
from bitladder.training.batches import describe, trainable

TASK = find("classification")
OPTIONS = TrainOptions(epochs=2, batch_size=4, lr=1e-3, early_stopping=None, accelerator="cpu")


def _split(images):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 8, 8), generator=generator).byte()
    return TensorSplit(pixels, torch.arange(images) % 2)


def _network(*, norm=True):
    """One pixel a channel reaches the batch norms."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 8, bias=False),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.Flatten(),
        nn.Linear(4, 4, bias=False),
        nn.BatchNorm1d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Linear(4, 2),
    )


def _loader(images, batch_size, **settings):
    split = _split(images)
    dataset = TensorDataset(split.float_images(torch.arange(images)), split.targets)
    return DataLoader(dataset, batch_size=batch_size, **settings)


class _Watched(nn.Module):
    """Keeps the sizes of the batches that it was trained on, and which images they were."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sizes, self.seen = network, [], []

    def forward(self, images):
        if self.training:
            self.sizes.append(len(images))
            self.seen.append(images.flatten(1).sum(1).tolist())
        return self.network(images)


class _Unequal(BatchSampler):
    """Batches of the caller's own making, of no one size."""

    def __init__(self):
        pass

    def __iter__(self):
        return iter([[0, 1, 2], [3, 4], [5]])

    def __len__(self):
        return 3


def _fit(model, split, folder, options=OPTIONS, **settings):
    return fit(model, split, None, options, TASK, seed=1, log_dir=folder, classes=2, **settings)


@pytest.mark.parametrize("lr", [1e-3, "auto"])
@pytest.mark.parametrize("images", [5, 9, 13])
def test_the_last_image_goes_with_the_batch_before_it(images, lr, tmp_path):
    model = _Watched(_network())
    result = _fit(model, _split(images), tmp_path, OPTIONS.model_copy(update={"lr": lr}))
    if lr != "auto":
        assert model.sizes == 2 * [*(images // 4 - 1) * [4], 5]
        every = sorted(_split(images).float_images(torch.arange(images)).flatten(1).sum(1).tolist())
        first = model.seen[: images // 4]
        assert sorted(value for batch in first for value in batch) == pytest.approx(every)
    assert 1 not in model.sizes
    assert result.steps == 2 * (images // 4)
    assert result.epochs == 2


@pytest.mark.parametrize(
    "loader",
    [
        _loader(9, 4),
        _loader(9, 4, shuffle=True),
        _loader(9, 2),
        _loader(9, 4, num_workers=1),
        _loader(17, 16, shuffle=True),
    ],
)
def test_loaders_of_the_caller_are_joined_too(loader, tmp_path):
    model = _Watched(_network())
    result = _fit(model, LoaderSplit(loader, TASK), tmp_path)
    assert sum(model.sizes) == 2 * len(loader.dataset)
    assert min(model.sizes) > 1
    assert result.steps == len(model.sizes) == 2 * (len(loader) - 1)


def test_a_sampler_of_batches_is_joined_too(tmp_path):
    images, labels = _loader(6, 2).dataset.tensors
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=_Unequal())
    model = _Watched(_network())
    result = _fit(model, LoaderSplit(loader, TASK), tmp_path)
    assert model.sizes == [3, 3, 3, 3]
    assert (result.steps, result.epochs) == (4, 2)


@pytest.mark.parametrize("options", [{"drop_last": True}, {"sampler": SequentialSampler(range(8))}])
def test_batches_that_need_nothing_are_the_loader_s_own(options):
    loader = _loader(9, 4, **options)
    assert trainable(loader) is loader
    split = _split(10)
    batches = split.batches(4)
    assert trainable(batches) is batches
    assert describe(batches) == "10 images at batch size 4"


def test_the_order_of_the_epochs_is_kept(tmp_path):
    model = _Watched(_network())
    _fit(model, _split(9), tmp_path)
    assert model.seen[0] != pytest.approx(model.seen[2])  # each epoch has an order of its own
    again = _Watched(_network())
    _fit(again, _split(9), tmp_path)
    assert again.seen == model.seen


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (1, 4, "1 image at batch size 4"),
        (1, 1, "1 image at batch size 1"),
        (6, 1, "6 images at batch size 1"),
    ],
)
@pytest.mark.parametrize("lr", [1e-3, "auto"])
def test_batches_of_one_image_are_refused_with_both_numbers(
    images, batch_size, message, lr, tmp_path
):
    options = OPTIONS.model_copy(update={"batch_size": batch_size, "lr": lr})
    for split in (_split(images), LoaderSplit(_loader(images, batch_size), TASK)):
        with pytest.raises(TrainingError, match="batch of one image") as caught:
            _fit(_network(), split, tmp_path, options)
        assert message in str(caught.value)
        assert "batch size of at least 2" in str(caught.value)


def test_one_image_does_where_nothing_is_measured(tmp_path):
    assert _fit(_network(norm=False), _split(1), tmp_path).steps == 2
    resting = Tuning(freeze_batch_norm=0.0)
    assert _fit(_network(), _split(1), tmp_path, tuning=resting).steps == 2
    options = OPTIONS.model_copy(update={"batch_size": 1})
    assert _fit(_network(norm=False), _split(3), tmp_path, options).steps == 6


def test_a_batch_size_above_the_number_of_images_is_one_batch(tmp_path):
    model = _Watched(_network())
    options = OPTIONS.model_copy(update={"batch_size": 100})
    assert _fit(model, _split(7), tmp_path, options).steps == 2
    assert model.sizes == [7, 7]


class _Endless(IterableDataset):
    def __iter__(self):
        return iter([(torch.rand(1, 8, 8), 0)])


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (_loader(3, 4, drop_last=True), "3 images at batch size 4 make no batch"),
        (DataLoader(_Endless(), batch_size=4), "give a loader that has a length"),
    ],
)
def test_loaders_without_batches_are_told(loader, message, tmp_path):
    with pytest.raises(TrainingError, match=message):
        _fit(_network(), LoaderSplit(loader, TASK), tmp_path)


def test_nothing_to_train_is_told(tmp_path):
    with pytest.raises(TrainingError, match="every parameter of the network is frozen"):
        _fit(_network().requires_grad_(False), _split(8), tmp_path)


def test_gradients_that_the_caller_has_turned_off_are_on_in_training(tmp_path):
    model, same = _network(), _network()
    with torch.no_grad():
        _fit(model, _split(8), tmp_path)
    assert not torch.equal(model[0].weight, same[0].weight)


def test_the_one_call_joins_and_refuses_likewise():
    images = _split(9).float_images(torch.arange(9))
    recipe = [{"calibrate": {"method": "min_max"}}, "finetune", "reestimate_batch_norm"]
    quantized = bitladder.quantize(_network(), images, 8, recipe, training=_loader(9, 4))
    assert "2 steps at learning rate" in quantized.rungs[2].notes[-1]
    with pytest.raises(TrainingError, match="1 image at batch size 4"):
        bitladder.quantize(_network(), images, 8, recipe, training=_loader(1, 4))
    with pytest.raises(DataError, match="there are no images; give at least one batch"):
        bitladder.quantize(_network(), images, 8, recipe, training=_loader(3, 4, drop_last=True))
    with pytest.raises(DataError, match="training, batch 0"):
        bitladder.quantize(_network(), images, 8, recipe, training=DataLoader(images))
    with pytest.raises(QuantizationError, match="one calibration image has no variance"):
        bitladder.quantize(_network(), images[:1], 8, recipe, training=_loader(9, 4))


def _trained(images, *, batch_size, accumulate, folder):
    """The weights after two epochs of training, and what was told."""
    model = _network(norm=False)
    options = OPTIONS.model_copy(update={"batch_size": batch_size, "accumulate": accumulate})
    result = _fit(model, _split(images), folder, options)
    return torch.cat([value.flatten() for value in model.parameters()]).detach(), result


@pytest.mark.parametrize("images", [24, 22, 26, 17, 3])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 2), (2, 4), (3, 3)])
def test_accumulated_batches_are_the_larger_batch(images, batch_size, accumulate, tmp_path):
    """Whatever remains for the last step of an epoch, and whatever for its last batch."""
    large, one = _trained(
        images, batch_size=batch_size * accumulate, accumulate=1, folder=tmp_path / "a"
    )
    small, many = _trained(
        images, batch_size=batch_size, accumulate=accumulate, folder=tmp_path / "b"
    )
    begin = torch.cat([value.flatten() for value in _network(norm=False).parameters()]).detach()
    assert (large - begin).abs().max() > 1e-3
    assert (many.steps, many.epochs) == (one.steps, one.epochs)
    assert torch.allclose(small, large, rtol=0, atol=2e-6)


def test_accumulated_steps_count_as_steps(tmp_path):
    """Asked for as steps, logged once each, and of another epoch where images end."""
    model = _network(norm=False)
    options = OPTIONS.model_copy(
        update={"batch_size": 2, "accumulate": 3, "steps": 21, "validate_every": 0.5}
    )
    result = fit(
        model, _split(13), _split(8), options, TASK, seed=1, log_dir=tmp_path, classes=None
    )
    assert result.steps == 21
    assert result.epochs == 11  # 6 batches an epoch, and so 2 steps
    logged = [row["step"] for row in result.history if "train_loss" in row]
    assert logged == [10, 20, 21]


def test_the_penalty_counts_once_a_step(tmp_path):
    weights = []
    for batch_size, accumulate in ((8, 1), (2, 4)):
        model = _network(norm=False)
        tuning = Tuning(penalty=lambda share, model=model: 10 * model[0].weight.square().sum())
        options = OPTIONS.model_copy(update={"batch_size": batch_size, "accumulate": accumulate})
        _fit(model, _split(16), tmp_path, options, tuning=tuning)
        weights.append(model[0].weight.detach())
    assert torch.allclose(*weights, rtol=0, atol=2e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_learning_rate_finder_accumulates_too(accumulate, tmp_path):
    model = _Watched(_network(norm=False))
    options = OPTIONS.model_copy(update={"batch_size": 4, "accumulate": accumulate, "lr": "auto"})
    result = _fit(model, _split(24), tmp_path, options)
    assert result.lr > 0
    assert result.steps == 2 * -(-6 // accumulate)
