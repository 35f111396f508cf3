"""Weights files: what is saved is what is loaded, byte for byte, and what does not fit says so."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from torch import nn

from bitladder.errors import ModelError, StoreError
from bitladder.models import load_weights, save_weights


def net(classes=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


def same(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_safetensors_round_trip_with_metadata(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(net(), path, {"model": "net", "note": "ü"})
    other = net(seed=1)
    load_weights(other, path)
    assert same(net(), other)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"model": "net", "note": "ü"}
    assert list(tmp_path.iterdir()) == [path]


def test_equal_weights_give_equal_bytes_in_another_process(tmp_path):
    metadata = {key: key for key in "qwertyuiop"}
    code = (
        "import torch, sys, pathlib; from bitladder.models import save_weights; "
        "torch.manual_seed(0); "
        f"save_weights(torch.nn.Linear(3, 2), pathlib.Path(sys.argv[1]), {metadata})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.safetensors")], check=True)
    torch.manual_seed(0)
    save_weights(nn.Linear(3, 2), tmp_path / "b.safetensors", metadata)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}])
def test_pytorch_files_are_read(tmp_path, wrap):
    torch.save(wrap(net().state_dict()), tmp_path / "net.pth")
    other = net(seed=1)
    load_weights(other, tmp_path / "net.pth")
    assert same(net(), other)


def test_tied_and_channels_last_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Conv2d(2, 2, 3))
    model[1].weight = model[0].weight
    model.to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / "net.safetensors")
    load_weights(model, tmp_path / "net.safetensors")


def test_a_wrong_shape_names_the_key_and_both_shapes_and_touches_nothing(tmp_path):
    save_weights(net(classes=5), tmp_path / "net.safetensors")
    model = net(seed=1)
    with pytest.raises(ModelError, match=r"'3\.weight' has shape \(5, 8\).* needs \(4, 8\)"):
        load_weights(model, tmp_path / "net.safetensors")
    assert same(model, net(seed=1))


def test_a_missing_and_an_unknown_key_are_named(tmp_path):
    state = net().state_dict()
    torch.save({key: value for key, value in state.items() if key != "1.bias"}, tmp_path / "a.pth")
    torch.save({**state, "extra": torch.zeros(2)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"it has no '1\.bias' \(2,\) that the model needs"):
        load_weights(net(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"it has 'extra' \(2,\) that the model lacks"):
        load_weights(net(), tmp_path / "b.pth")


def test_all_that_does_not_fit_is_one_line(tmp_path):
    state = net(classes=5).state_dict()
    del state["0.bias"]
    torch.save({**state, "extra": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(ModelError) as caught:
        load_weights(net(), tmp_path / "a.pth")
    said = str(caught.value)
    for part in ("no '0.bias' (2,)", "'extra' (2,)", "'3.weight' has shape (5, 8)", "'3.bias'"):
        assert part in said
    assert "\n" not in said


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"by running code, of posix\.mkdir"):
        load_weights(net(), tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.txt"])
def test_unreadable_files_are_one_line(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ModelError, match="does not exist"):
        load_weights(net(), path)
    path.write_bytes(b"\x07" * 100)
    with pytest.raises(ModelError, match=r"neither|not a readable") as caught:
        load_weights(net(), path)
    assert "\n" not in str(caught.value)


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(ModelError, match="holds no tensors by name"):
        load_weights(net(), tmp_path / "a.pth")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"net\.safetensors: cannot write: "):
        save_weights(net(), tmp_path / "absent" / "net.safetensors")
