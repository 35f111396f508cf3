"""What is told while a network is quantized: a bar, lines, a function, or nothing."""

import pytest
from rich.console import Console
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import steps_shown
from bitladder.progress import Progress, Step, describe

RECIPE = [
    "fold_batch_norm",
    {"calibrate": {"method": "min_max"}},
    {"finetune": {"epochs": 2, "batch_size": 16, "distill": 1.0}},
]


@pytest.fixture
def loader(images):
    labels = images.flatten(1).argmax(1) % 4
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def test_a_function_is_told_of_every_step_and_of_training(network, images, loader):
    told = []
    quantized = bitladder.quantize(
        network, images, 8, RECIPE, training=loader, progress=told.append
    )
    names = ["fold_batch_norm", "calibrate", "finetune"]
    assert [(one.technique, one.number) for one in told if not one.done and not one.training] == [
        (name, place + 1) for place, name in enumerate(names)
    ]
    assert [one.technique for one in told if one.done] == names
    assert all(one.count == 3 for one in told)
    seconds = {rung.technique: rung.seconds for rung in quantized.rungs}
    assert all(one.seconds >= seconds[one.technique] for one in told if one.done)
    training = [one for one in told if one.training]
    assert all(one.technique == "finetune" for one in training)
    assert all(one.training.epochs == 2 for one in training)
    before = len(told)
    quantized.finetune(loader, distill=1.0, progress=told.append)
    assert {one.count for one in told[before:]} == {1}


def test_lines_go_to_the_standard_error_and_false_is_silent(network, images, loader, capsys):
    bitladder.quantize(network, images, 8, RECIPE, training=loader)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "[1/3] fold_batch_norm"
    assert lines[1].startswith("[1/3] fold_batch_norm: done in 0:")
    assert lines[-1].startswith("[3/3] finetune: done in 0:")
    bitladder.quantize(network, images, 8, RECIPE, training=loader, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_long_training_is_told_every_few_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(steps_shown.time, "monotonic", lambda: now[0])
    training = Progress(1, 2, 5, 10, 100.0, 0.25, None, 60.0)
    with steps_shown.shown(progress=True) as tell:
        tell(Step("finetune", 1, 1))
        for now[0] in (1.0, 9.0, 11.0, 12.0, 22.0):
            tell(Step("finetune", 1, 1, now[0], training=training))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] finetune",
        f"[1/1] finetune: {describe(training)}",
        f"[1/1] finetune: {describe(training)}",
    ]
    assert describe(training) == "epoch 1/2, 100 images/s, training 0.25, 1:00 left"


def test_a_terminal_has_a_bar(network, images, monkeypatch):
    screen = Console(force_terminal=True, width=100, record=True, color_system=None)
    monkeypatch.setattr(steps_shown, "console", lambda *, stderr: screen)
    bitladder.quantize(network, images, 8, RECIPE[:2])
    assert "[2/2] calibrate" in screen.export_text()
