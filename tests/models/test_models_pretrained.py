"""Pretrained weights come from torchvision's folder, with a new last layer, or a line says how."""

from urllib.error import URLError

import pytest
import torch
import torchvision.models

from bitladder.errors import ModelError
from bitladder.models import build
from bitladder.options import ModelOptions

OPTIONS = ModelOptions(name="shufflenet_v2_x0_5", pretrained=True)
SHAPE = (3, 32, 32)


@pytest.fixture
def weights_file(tmp_path, monkeypatch):
    """Where torchvision looks for the weights, in a folder that is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT
    path = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def imagenet_state(weights_file):
    torch.manual_seed(9)
    state = torchvision.models.shufflenet_v2_x0_5().state_dict()
    torch.save(state, weights_file)
    return state


def test_all_but_the_last_layer_is_taken(imagenet_state):
    state = build(OPTIONS, classes=10, shapes=[SHAPE], seed=0).state_dict()
    assert state["fc.weight"].shape == (10, 1024)
    for key in state.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(state[key], imagenet_state[key])


def test_the_new_last_layer_follows_the_seed(imagenet_state):
    layers = [build(OPTIONS, classes=10, shapes=[SHAPE], seed=s).fc.weight for s in (0, 0, 1)]
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])


def test_imagenets_own_classes_keep_the_last_layer(imagenet_state):
    state = build(OPTIONS, classes=1000, shapes=[SHAPE], seed=0).state_dict()
    assert torch.equal(state["fc.weight"], imagenet_state["fc.weight"])


def test_without_a_network_the_line_names_file_and_folder(weights_file, monkeypatch, capsys):
    def no_network(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(ModelError) as caught:
        build(OPTIONS, classes=10, shapes=[SHAPE], seed=0)
    message = str(caught.value)
    assert f"put {weights_file.name}" in message
    assert f"into {weights_file.parent}" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""


def test_a_damaged_file_is_named(weights_file):
    weights_file.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="is damaged") as caught:
        build(OPTIONS, classes=10, shapes=[SHAPE], seed=0)
    assert str(weights_file) in str(caught.value)


def test_weights_of_another_network_are_refused(weights_file):
    torch.save(torchvision.models.shufflenet_v2_x1_0().state_dict(), weights_file)
    with pytest.raises(ModelError, match=r"pretrained weights of .* has shape"):
        build(OPTIONS, classes=10, shapes=[SHAPE], seed=0)


def test_timm_without_a_network_names_the_repository(monkeypatch, tmp_path):
    pytest.importorskip("timm")
    from huggingface_hub import constants

    from bitladder.models import pretrained

    def no_network(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "urlopen", no_network)
    options = ModelOptions(name="test_resnet.r160_in1k", pretrained=True)
    with pytest.raises(ModelError, match=r"timm/test_resnet\.r160_in1k") as caught:
        build(options, classes=10, shapes=[SHAPE], seed=0)
    assert "\n" not in str(caught.value)


def test_timm_pretrained_file_is_used(monkeypatch, tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    from bitladder.models import pretrained

    expected = timm.create_model("test_resnet").state_dict()
    path = tmp_path / "model.safetensors"
    save_file(expected, path)
    monkeypatch.setattr(pretrained, "_timm_file", lambda name, repository: str(path))
    options = ModelOptions(name="test_resnet.r160_in1k", pretrained=True)
    state = build(options, classes=10, shapes=[SHAPE], seed=0).state_dict()
    assert torch.equal(state["conv1.0.weight"], expected["conv1.0.weight"])
    assert state["fc.weight"].shape[0] == 10
