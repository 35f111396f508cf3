"""Checkpoints as people have them: keys, prefixes, other objects; what was done is said."""

import argparse
import collections
import datetime
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from bitladder.errors import ModelError
from bitladder.models import WithShim, load_weights


def net(classes=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        collections.OrderedDict(
            conv=nn.Conv2d(3, 2, 3),
            norm=nn.BatchNorm2d(2),
            flat=nn.Flatten(),
            fc=nn.Linear(8, classes),
        )
    )


def state(**settings):
    return net(**settings).state_dict()


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def loaded(content, path, **settings):
    """The line that is said, of a file whose weights are those of seed 0."""
    torch.save(content, path)
    model = net(seed=1)
    said = load_weights(model, path, **settings)
    assert same(model.state_dict(), state())
    assert "\n" not in said
    return said


def refused(content, path, match, **settings):
    torch.save(content, path)
    model = net(seed=1)
    with pytest.raises(ModelError, match=match) as caught:
        load_weights(model, path, **settings)
    assert same(model.state_dict(), state(seed=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ""])
def test_a_file_is_what_its_bytes_say(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    assert loaded(state(), path) == f"{path}: 9 tensors"
    torch.save(state(), path, _use_new_zipfile_serialization=False)  # as before PyTorch 1.6
    model = net(seed=1)
    load_weights(model, path)
    assert same(model.state_dict(), state())
    save_file(state(), path)
    model = net(seed=1)
    load_weights(model, path)
    assert same(model.state_dict(), state())


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model", "net", "ema", "weights", "generator"]
)
def test_the_key_is_found_and_said(key, tmp_path):
    content = {key: state(), "epoch": 3, "lr": 0.1, "best": torch.tensor(0.9)}
    assert f"9 tensors under '{key}'" in loaded(content, tmp_path / "a.pth")


def test_keys_within_keys_are_found(tmp_path):
    content = {"checkpoint": {"model": state()}, "optimizer": {"exp_avg": state(seed=2)}}
    assert "under 'checkpoint.model'" in loaded(content, tmp_path / "a.pth")


def test_of_two_that_fit_the_plain_one_is_taken_and_the_other_can_be_asked_for(tmp_path):
    content = {"ema": state(), "state_dict": state(seed=2)}
    torch.save(content, tmp_path / "a.pth")
    model = net(seed=1)
    said = load_weights(model, tmp_path / "a.pth")
    assert same(model.state_dict(), state(seed=2))
    assert "under 'state_dict'; as well would fit those under 'ema'" in said
    assert "under 'ema'" in loaded(content, tmp_path / "a.pth", key="ema")
    refused(content, tmp_path / "a.pth", r"under 'x'; keys with tensors: 'state_d.*'ema'", key="x")


@pytest.mark.parametrize(
    "prefix",
    [
        *("module", "model", "_orig_mod", "backbone", "net", "module.model", "model._orig_mod"),
        *("_orig_mod.module.model.backbone",),
    ],
)
def test_prefixes_are_stripped_and_said(prefix, tmp_path):
    content = {f"{prefix}.{name}": value for name, value in state().items()}
    assert f"without the prefix '{prefix}.'" in loaded(content, tmp_path / "a.pth")


def test_wrappers_of_a_part_are_stripped(tmp_path):
    names = {name: f"model.{name.replace('conv.', 'conv._orig_mod.')}" for name in state()}
    names = {name: new.replace("fc.", "fc.module.") for name, new in names.items()}
    content = {names[name]: value for name, value in state().items()}
    assert "9 tensors" in loaded({"state_dict": content}, tmp_path / "a.ckpt")


def test_a_prefix_that_is_the_network_s_own_stays(tmp_path):
    torch.save({f"model.{name}": value for name, value in state().items()}, tmp_path / "a.pth")
    model = nn.ModuleDict({"model": net(seed=1)})
    assert load_weights(model, tmp_path / "a.pth").endswith(": 9 tensors")
    assert same(model["model"].state_dict(), state())


def test_a_lightning_checkpoint_with_a_loss_of_its_own(tmp_path):
    content = {f"model.{name}": value for name, value in state().items()}
    content["criterion.weight"] = torch.ones(4)
    said = loaded({"state_dict": content, "epoch": 1}, tmp_path / "a.ckpt")
    assert "left out: 'criterion.weight'" in said


def test_averaged_weights_of_pytorch(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(net())
    assert "9 tensors" in loaded({"model_ema": averaged.state_dict()}, tmp_path / "a.pth")


def test_counters_of_profilers_are_no_weights(tmp_path):
    content = {**state(), "conv.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    assert "9 tensors" in loaded(content, tmp_path / "a.pth")


def test_files_without_the_counters_of_batch_norms_are_read(tmp_path):
    content = {name: value for name, value in state().items() if "num_batches" not in name}
    assert "8 tensors" in loaded(content, tmp_path / "a.pth")


def test_tied_weights_stand_once_in_a_safetensors_file(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_model(model, str(tmp_path / "a.safetensors"))
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight = other[0].weight
    load_weights(other, tmp_path / "a.safetensors")
    assert same(other.state_dict(), model.state_dict())


def test_half_precision_is_converted_and_said(tmp_path):
    torch.save({name: v.half() if v.is_floating_point() else v for name, v in state().items()},
               tmp_path / "a.pth")  # fmt: skip
    model = net(seed=1)
    assert load_weights(model, tmp_path / "a.pth").endswith("; converted from float16")
    expected = state()["conv.weight"].half().float()
    assert torch.equal(model.conv.weight.detach(), expected)


def test_a_network_behind_a_shim_takes_the_weights_of_the_network_alone(tmp_path):
    torch.save(state(), tmp_path / "a.pth")
    model = WithShim(net(seed=1))
    assert "for the network within 'model.'" in load_weights(model, tmp_path / "a.pth")
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(model.eval()(grey), net().eval()(grey.repeat(1, 3, 1, 1)))


class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.scale, self.body = nn.Identity(), nn.ModuleDict({"net": network})

    def forward(self, images):
        return self.body["net"](self.scale(images))


@pytest.mark.parametrize("prefix", ["", "body.net.", "module.body.net.", "net.", "module."])
def test_a_wrapper_takes_the_weights_of_its_network(prefix, tmp_path):
    torch.save({prefix + name: value for name, value in state().items()}, tmp_path / "a.pth")
    model = Wrapped(net(seed=1))
    load_weights(model, tmp_path / "a.pth")
    assert same(model.body["net"].state_dict(), state())


def test_names_with_line_breaks_are_still_one_line(tmp_path):
    refused({"a\nb": torch.ones(1), **state()}, tmp_path / "a.pth", r"'a\\nb'")
    torch.save({"a\nb": state()}, tmp_path / "a.pth")
    assert "\n" not in load_weights(net(), tmp_path / "a.pth")


# What stands beside weights.

HARMLESS = {
    "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.99), out=pathlib.Path("runs")),
    "inner": argparse.Namespace(deep=argparse.Namespace(x=np.float32(1))),
    "default": collections.defaultdict(list, {"loss": [1.0, 2.0]}),
    "counter": collections.Counter("ab"),
    "best": np.float64(0.9),
    "step": np.int64(7),
    "curve": np.arange(3.0),
    "when": datetime.datetime(2026, 1, 2),
    "path": pathlib.PurePosixPath("a/b"),
    "windows": pathlib.PureWindowsPath("a/b"),
    "simple": types.SimpleNamespace(a=1),
    "sets": {1, 2},
    "none": None,
    "size": torch.Size([1, 2]),
    "dtype": torch.float16,
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_objects_beside_the_weights(name, zipped, tmp_path):
    torch.save({"state_dict": state(), name: HARMLESS[name]}, tmp_path / "a.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    model = net(seed=1)
    load_weights(model, tmp_path / "a.pth")
    assert same(model.state_dict(), state())


def module(monkeypatch, name, **classes):
    """A module that is gone once the file has been written."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        above = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, above, types.ModuleType(above))
    made = types.ModuleType(name)
    for key, value in classes.items():
        value.__module__, value.__qualname__ = name, key
        setattr(made, key, value)
    monkeypatch.setitem(sys.modules, name, made)


def test_configs_of_packages_that_are_not_here(monkeypatch, tmp_path):
    class Config:
        pass

    class Attributes(dict):
        pass

    config, attributes = Config(), Attributes(lr=1)
    config._content, attributes.extra = {"a": [1]}, 2
    with monkeypatch.context() as patch:
        module(patch, "omegaconf.dictconfig", DictConfig=Config)
        module(patch, "pytorch_lightning.utilities.parsing", AttributeDict=Attributes)
        torch.save({"state_dict": state(), "c": config, "hp": attributes}, tmp_path / "a.ckpt")
    load_weights(net(), tmp_path / "a.ckpt")


def test_tensors_within_a_defaultdict_are_found(tmp_path):
    weights = collections.defaultdict(list, state())
    assert "under 'model'" in loaded({"model": weights}, tmp_path / "a.pth")


class Unknown:
    pass


class Other:
    pass


@pytest.mark.parametrize("zipped", [True, False])
def test_unknown_classes_are_one_line_that_names_them(zipped, tmp_path):
    content = {"state_dict": state(), "a": Unknown(), "b": Other()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"by running code, of \S+\.(Other|Unknown)") as caught:
        load_weights(net(), tmp_path / "a.pth")
    if zipped:  # the older format tells one at a time
        assert f"{__name__}.Other, {__name__}.Unknown;" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_network_is_named_and_not_built(tmp_path):
    refused(net(), tmp_path / "a.pth", r"torch\.nn\.modules.*save the weights alone")


class Touches:
    """Writes a file where it is read by running code."""

    def __init__(self, callee, *args):
        self.made = callee, args

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    "callee",
    [pathlib.Path.touch, exec, eval, getattr, print, __import__, open],
    ids=lambda one: one.__name__,
)
def test_no_function_is_called(callee, tmp_path):
    content = {"state_dict": state(), "x": Touches(callee, tmp_path / "ran")}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="by running code"):
        load_weights(net(), tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_allowed_stands_for_nothing_of_its_own(monkeypatch, tmp_path):
    """Not even a class of an allowed name is called: what is here under it has no say."""
    called, before = [], torch.serialization.get_safe_globals()
    torch.save({"state_dict": state(), "a": argparse.Namespace(x=1)}, tmp_path / "a.pth")
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *a, **b: called.append(a))
    load_weights(net(), tmp_path / "a.pth")
    assert called == []
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_a_file_that_holds_itself_many_times_is_read(tmp_path):
    content = {"state_dict": state()}
    content |= {f"again{number}": content for number in range(300)}
    assert "under 'state_dict'" in loaded(content, tmp_path / "a.pth")


def test_many_levels_of_keys_are_one_line(tmp_path):
    """More than Python's own stack holds."""
    torch.save({"a": 1}, tmp_path / "a.pth")
    nested = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 5000 + b"}" + b"s" * 5000 + b"."
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as changed,
    ):
        for name in source.namelist():
            changed.writestr(name, nested if name.endswith(".pkl") else source.read(name))
    with pytest.raises(ModelError, match="holds no tensors by name"):
        load_weights(net(), tmp_path / "b.pth")


# Files that are no weights.


def test_a_torchscript_archive_says_so(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"TorchScript archive; save model\.state_dict") as caught:
        load_weights(net(), tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def test_another_pickle_protocol_says_so(tmp_path):
    torch.save(state(), tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(ModelError, match="another pickle protocol than 2"):
        load_weights(net(), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "neither a safetensors file nor one that torch.save has written"),
        (b"", "neither a safetensors"),
        (pickle.dumps([1]), "not a readable PyTorch weights file"),
        (b"PK\x03\x04" + bytes(80), "not a readable PyTorch weights file"),
    ],
)
def test_what_is_no_weights_file_is_one_line(content, match, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ModelError, match=match) as caught:
        load_weights(net(), tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="is a folder"):
        load_weights(net(), tmp_path)


def test_a_file_that_was_cut_off_is_one_line(tmp_path):
    torch.save(state(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    for end in (5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.pth").write_bytes(whole[:end])
        with pytest.raises(ModelError, match="not a readable") as caught:
            load_weights(net(), tmp_path / "a.pth")
        assert "\n" not in str(caught.value)


# Values that are no weights.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_by_name(value, tmp_path):
    content = state()
    content["norm.running_var"][1] = value
    refused(content, tmp_path / "a.pth", r"1 of the 2 values of 'norm\.running_var' are not finite")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.bool, torch.complex64])
def test_another_kind_of_number_is_refused_by_name(dtype, tmp_path):
    content = state()
    content["fc.weight"] = content["fc.weight"].to(dtype)
    name = str(dtype).removeprefix("torch.")
    refused(content, tmp_path / "a.pth", rf"'fc\.weight' is of {name} where the model has floats")


def test_quantized_and_sparse_tensors_are_refused_by_name(tmp_path):
    weight = state()["fc.weight"]
    for other in (torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), weight.to_sparse()):
        content = {**state(), "fc.weight": other}
        refused(content, tmp_path / "a.pth", r"'fc\.weight' has no plain values")


def test_another_network_is_refused(tmp_path):
    content = {"model": {"a.weight": torch.ones(1), "b.weight": torch.ones(2)}, "x": torch.ones(1)}
    refused(content, tmp_path / "a.pth", r"under 'model': .*'b\.weight'.* it is of another network")


# A head of other classes.


def head_kept(path, content, *, key="3"):
    torch.save(content, path)
    model = net(seed=1)
    said = load_weights(model, path, new_head=True)
    assert torch.equal(model.fc.weight, net(seed=1).fc.weight)
    assert torch.equal(model.fc.bias, net(seed=1).fc.bias)
    assert torch.equal(model.conv.weight, net().conv.weight)
    assert torch.equal(model.norm.running_mean, net().norm.running_mean)
    assert "7 tensors" in said
    assert "a new last layer: fc" in said
    return said


def test_a_head_of_other_classes_is_new_where_that_is_asked_for(tmp_path):
    refused(state(classes=9), tmp_path / "a.pth", r"to train a new last layer: 'train: {from: wei")
    head_kept(tmp_path / "a.pth", state(classes=9))


def test_a_head_that_the_file_lacks_is_new(tmp_path):
    body = {name: value for name, value in state().items() if "fc" not in name}
    refused(body, tmp_path / "a.pth", r"it has no 'fc\.weight' \(4, 8\), 'fc\.bias'")
    head_kept(tmp_path / "a.pth", body)
    said = head_kept(tmp_path / "a.pth", {**body, "projection.weight": torch.ones(3)})
    assert "left out: 'projection.weight'" in said


def test_a_head_of_the_same_classes_is_taken(tmp_path):
    assert loaded(state(), tmp_path / "a.pth", new_head=True).endswith(": 9 tensors")


def test_another_width_is_no_other_head(tmp_path):
    wide = nn.Sequential(collections.OrderedDict(
        conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), flat=nn.Flatten(), fc=nn.Linear(16, 4)
    ))  # fmt: skip
    refused(wide.state_dict(), tmp_path / "a.pth", r"'conv\.weight' has shape", new_head=True)


def test_a_missing_layer_within_is_no_missing_head(tmp_path):
    content = {name: value for name, value in state().items() if "conv" not in name}
    refused(content, tmp_path / "a.pth", r"it has no 'conv\.weight'", new_head=True)


def test_two_heads_and_a_transposed_one_are_new(tmp_path):
    class Segments(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3)
            self.up = nn.ConvTranspose2d(8, classes, 2)
            self.aux = nn.Conv2d(8, classes, 1)

    torch.save(Segments(21).state_dict(), tmp_path / "a.pth")
    said = load_weights(Segments(3), tmp_path / "a.pth", new_head=True)
    assert "2 tensors; a new last layer: up, aux" in said


# Images of other channels.


def stem_of(channels, classes=4, seed=0):
    made = net(classes, seed)
    torch.manual_seed(seed)
    made.conv = nn.Conv2d(channels, 2, 3)
    made.norm.running_mean += 0.3
    return made.double().eval()


@pytest.mark.parametrize(("found", "wanted"), [(3, 1), (1, 3)])
@pytest.mark.parametrize("classes", [4, 9])
def test_a_first_convolution_of_other_channels_is_converted(found, wanted, classes, tmp_path):
    """What the converted network gives for a grey image is what the other gave for it."""
    given, model = stem_of(found, classes), stem_of(wanted, seed=1)
    torch.save(given.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"takes other channels; to convert it .*new_head=True"):
        load_weights(model, tmp_path / "a.pth")
    said = load_weights(model, tmp_path / "a.pth", new_head=True)
    assert "converted: conv.weight of " in said
    assert ("a new last layer: fc" in said) == (classes == 9)
    image = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    made, before = (
        network[:3](image.expand(-1, channels, -1, -1))
        for network, channels in ((model, wanted), (given, found))
    )
    torch.testing.assert_close(made, before, rtol=1e-12, atol=1e-12)


def test_grey_weights_go_into_the_network_behind_the_shim(tmp_path):
    grey = stem_of(1)
    torch.save(grey.state_dict(), tmp_path / "a.pth")
    model = WithShim(stem_of(3, seed=1)).double().eval()
    assert "converted: model.conv.weight" in load_weights(model, tmp_path / "a.pth", new_head=True)
    image = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(model(image), grey(image), rtol=1e-12, atol=1e-12)


def test_other_channels_than_grey_and_colour_are_refused(tmp_path):
    torch.save(stem_of(4).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"'conv\.weight' has shape \(2, 4, 3, 3\)"):
        load_weights(stem_of(3), tmp_path / "a.pth", new_head=True)
