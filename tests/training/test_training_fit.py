"""Training: resumed equals undisturbed, curves are logged, and failures are told with advice."""

import copy
import signal
import sys

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn.functional import cross_entropy

from bitladder.errors import TrainingError
from bitladder.options import EarlyStopping, TrainOptions
from bitladder.tasks import find
from bitladder.training import Tuning, evaluate, fit
from bitladder.training.module import TrainedModule

TASK = find("classification")
OPTIONS = TrainOptions(epochs=3, batch_size=16, lr=1e-2, early_stopping=None, accelerator="cpu")


def _fit(model, splits, folder, options=OPTIONS, **settings):
    train, validation = splits
    settings = {"seed": 3, "log_dir": folder, "classes": 4, **settings}
    return fit(model, train, validation, options, TASK, **settings)


def _weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_it_learns_in_place_and_ends_in_evaluation_mode(network, splits, tmp_path):
    result = _fit(network, splits, tmp_path)
    assert evaluate(network, splits[1].batches(64), TASK).value > 0.7
    assert not network.training
    assert (result.epochs, result.steps, result.lr) == (3, 48, 1e-2)


def test_the_same_seed_gives_the_same_weights(network, splits, tmp_path):
    other, third = copy.deepcopy(network), copy.deepcopy(network)
    _fit(network, splits, tmp_path / "1")
    _fit(other, splits, tmp_path / "2")
    _fit(third, splits, tmp_path / "3", seed=4)
    first, second = _weights(network), _weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], value) for name, value in _weights(third).items())


def _logged(folder):
    """Every scalar of a folder's TensorBoard logs."""
    events = EventAccumulator(str(folder))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


class KilledError(Exception):
    pass


def test_a_resumed_run_equals_one_that_was_never_disturbed(network, splits, tmp_path, monkeypatch):
    whole, halved = network, copy.deepcopy(network)
    undisturbed = _fit(whole, splits, tmp_path / "whole")

    class Kill(Callback):
        def on_train_batch_end(self, trainer, *rest):
            if trainer.global_step == 40:  # in the third epoch, after the second checkpoint
                raise KilledError

    module = sys.modules[fit.__module__]
    usual = module._callbacks
    with monkeypatch.context() as patch:
        patch.setattr(module, "_callbacks", lambda *given: [*usual(*given), Kill()])
        with pytest.raises(KilledError):
            _fit(halved, splits, tmp_path / "half", checkpoint=tmp_path / "epoch.ckpt")
    assert (tmp_path / "epoch.ckpt").exists()
    torch.manual_seed(99)
    fresh = type(network)()
    resumed = _fit(fresh, splits, tmp_path / "rest", checkpoint=tmp_path / "epoch.ckpt")
    first, second = _weights(whole), _weights(fresh)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.history == undisturbed.history
    assert resumed.steps == undisturbed.steps
    assert _logged(tmp_path / "rest") == _logged(tmp_path / "whole")


@pytest.mark.parametrize("lr", [1e-2, "auto"])
def test_ctrl_c_is_a_keyboard_interrupt_and_works_again(network, splits, tmp_path, lr, monkeypatch):
    def interrupt(self, *rest):
        raise KeyboardInterrupt  # what Python does where the signal arrives

    monkeypatch.setattr(TrainedModule, "training_step", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _fit(network, splits, tmp_path, OPTIONS.model_copy(update={"lr": lr}))
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_damaged_checkpoint_is_not_resumed_from(network, splits, tmp_path):
    other = copy.deepcopy(network)
    undisturbed = _fit(network, splits, tmp_path / "whole")
    (tmp_path / "epoch.ckpt").write_bytes(b"PK\x03\x04 half of a checkpoint")
    again = _fit(other, splits, tmp_path / "again", checkpoint=tmp_path / "epoch.ckpt")
    assert again.history == undisturbed.history
    assert all(
        torch.equal(_weights(network)[name], value) for name, value in _weights(other).items()
    )


def test_curves_are_in_the_history_and_in_tensorboard(network, splits, tmp_path):
    result = _fit(network, splits, tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("train_loss", "train_quality", "val_loss", "val_quality"):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        kept = [(row["step"], row[name]) for row in result.history if name in row]
        assert logged == [(step, pytest.approx(value)) for step, value in kept]
    assert len([row for row in result.history if "val_quality" in row]) == 12  # 4 times an epoch


def test_the_last_validation_is_that_of_the_trained_network(network, splits, tmp_path):
    result = _fit(network, splits, tmp_path)
    last = [row for row in result.history if "val_quality" in row][-1]
    [(images, labels)] = list(splits[1].batches(1000))
    with torch.no_grad():
        logits = network(images)
    assert last["val_quality"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert last["val_loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "cosine"])
def test_the_learning_rate_follows_its_schedule(network, splits, tmp_path, schedule):
    options = OPTIONS.model_copy(update={"schedule": schedule, "epochs": 5})
    rates = [row["lr"] for row in _fit(network, splits, tmp_path, options).history]
    if schedule == "constant":
        assert set(rates) == {1e-2}
    elif schedule == "one_cycle":
        assert max(rates) <= 1e-2
        assert rates.index(max(rates)) not in (0, len(rates) - 1)
        assert rates[-1] < 1e-3
    else:
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_steps_in_place_of_epochs(network, splits, tmp_path):
    options = OPTIONS.model_copy(update={"steps": 40})
    result = _fit(network, splits, tmp_path, options)
    assert result.steps == 40


def test_the_finder_finds_a_rate_and_leaves_the_network_alone(network, splits, tmp_path):
    options = OPTIONS.model_copy(update={"lr": "auto"})
    fixed = copy.deepcopy(network)
    result = _fit(network, splits, tmp_path / "1", options)
    assert 1e-4 < result.lr < 1
    same = OPTIONS.model_copy(update={"lr": result.lr})
    _fit(fixed, splits, tmp_path / "2", same)
    first, second = _weights(network), _weights(fixed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_stops_early_without_a_gain(network, splits, tmp_path):
    stopping = EarlyStopping(min_delta=1.0, patience=8)
    options = OPTIONS.model_copy(update={"early_stopping": stopping, "epochs": 50, "lr": 3e-2})
    assert _fit(network, splits, tmp_path, options).steps < 100


def test_a_loss_that_is_not_a_number_is_told_with_advice(network, splits, tmp_path):
    options = OPTIONS.model_copy(update={"lr": 1e30, "gradient_clip": 0.0})
    with pytest.raises(TrainingError, match=r"not a number at step .*lower the learning rate"):
        _fit(network, splits, tmp_path, options)


def test_chance_level_is_told_with_advice(network, splits, tmp_path):
    nn.init.zeros_(network.head.weight)
    options = OPTIONS.model_copy(update={"steps": 1, "lr": 1e-12})
    with pytest.raises(TrainingError, match=r"chance level.*4 classes; train longer"):
        _fit(network, splits, tmp_path, options)


def test_progress_is_reported(network, splits, tmp_path):
    heard = []
    _fit(network, splits, tmp_path, report=heard.append)
    last = heard[-1]
    assert (last.step, last.steps, last.epoch, last.epochs) == (48, 48, 3, 3)
    assert last.val_quality > 0.5
    assert last.images_per_second > 0


def test_distilling_follows_the_teacher(network, splits, tmp_path):
    teacher = copy.deepcopy(network)
    with torch.no_grad():
        teacher.head.weight.zero_()
        teacher.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0]))
    options = OPTIONS.model_copy(update={"epochs": 5})
    with pytest.raises(TrainingError, match="chance level"):  # it learned to say class 3
        _fit(network, splits, tmp_path, options, tuning=Tuning(teacher=teacher, distill=1.0))
    [(images, _)] = list(splits[1].batches(1000))
    with torch.no_grad():
        assert (network(images).argmax(1) == 3).all()


def test_evaluation_counts_and_leaves_modes_alone(network, splits):
    network.train()
    network.stem.eval()
    modes = [module.training for module in network.modules()]
    accuracy = evaluate(network, splits[1].batches(50), TASK)
    assert [module.training for module in network.modules()] == modes
    [(images, labels)] = list(splits[1].batches(1000))
    with torch.no_grad():
        expected = int((network.eval()(images).argmax(1) == labels).sum())
    assert (accuracy.value, accuracy.count) == (expected / 128, 128)
