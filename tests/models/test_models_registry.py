"""Every built-in builds and takes both kinds of images; what cannot be built says why in a line."""

import subprocess
import sys
import textwrap

import pytest
import torch
import torchvision.models
from torch import nn

from bitladder.errors import ModelError
from bitladder.models import MODELS, WithShim, build, check_name
from bitladder.options import ModelOptions

GREY = (1, 32, 32)


def make(name, *, classes=10, shape=GREY, seed=0, **options):
    return build(ModelOptions(name=name, **options), classes=classes, shapes=[shape], seed=seed)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    def write(body):
        (tmp_path / "own_nets.py").write_text("from torch import nn\n" + textwrap.dedent(body))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "own_nets", raising=False)

    yield write
    sys.modules.pop("own_nets", None)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [GREY, (3, 40, 40)])
def test_built_ins_train_on_grey_and_colour(name, shape):
    model = make(name, classes=7, shape=shape)
    assert model.training
    model(torch.rand(4, *shape)).sum().backward()
    assert isinstance(model, WithShim) == (shape[0] == 1)
    if isinstance(model, WithShim):
        assert model.shim.weight.grad.abs().sum() > 0


def test_shim_repeats_the_grey_image_and_has_no_bias():
    model = make("shufflenet_v2_x0_5").eval()
    images = torch.rand(2, *GREY)
    assert torch.equal(model.shim.weight, torch.ones(3, 1, 1, 1))
    assert model.shim.bias is None
    assert torch.equal(model(images), model.model(images.expand(2, 3, 32, 32)))


def test_seed_decides_the_weights_and_nothing_else():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (make("shufflenet_v2_x0_5", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.model.fc.weight, other.model.fc.weight)


def test_building_leaves_batch_norm_statistics_untouched():
    mean = make("shufflenet_v2_x0_5").model.conv1[1].running_mean
    assert torch.equal(mean, torch.zeros_like(mean))


def test_same_seed_gives_torchvisions_own_initial_weights():
    torch.manual_seed(3)
    expected = torchvision.models.shufflenet_v2_x0_5(num_classes=10).state_dict()
    model = make("shufflenet_v2_x0_5", shape=(3, 32, 32), seed=3)
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key])


def test_auxiliary_heads_are_left_out():
    output = make("googlenet", shape=(3, 64, 64))(torch.rand(2, 3, 64, 64))
    assert output.shape == (2, 10)


def test_timm_by_name_takes_one_channel_without_a_shim():
    pytest.importorskip("timm")
    model = make("test_resnet")
    assert not isinstance(model, WithShim)
    assert model(torch.rand(2, *GREY)).shape == (2, 10)


def test_own_function_gets_the_classes_and_a_shim_only_if_it_needs_one(own_module):
    own_module("""
        def net(num_classes, channels=1):
            return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1),
                                 nn.Flatten(), nn.Linear(4, num_classes))

        def colour_net(num_classes):
            return net(num_classes, 3)
    """)
    assert make("own_nets:net", classes=6)[3].out_features == 6
    assert isinstance(make("own_nets:colour_net"), WithShim)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "did you mean 'resnet18'?"),
        ("qqqq", "known: efficientnet_b1"),
        ("vit_b_16", "cannot take images of 1x32x32"),
        ("inception_v3", "cannot take images of 1x32x32"),
        ("no_such_module:net", "No module named 'no_such_module'"),
        ("own_nets:absent", "has no attribute 'absent'"),
        ("own_nets:text", "returned str, not a torch.nn.Module"),
        ("own_nets:broken", "model 'own_nets:broken' failed: ValueError: two lines"),
        ("own_nets:fixed", "(2, 3); 10 classes need (2, 10)"),
        ("own_nets:pair", "returns output_0"),
        ("not a path:net", "package.module:function"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(name, message, own_module):
    own_module("""
        def text(num_classes):
            return "net"

        def broken(num_classes):
            raise ValueError("two\\nlines")

        def fixed(num_classes):
            return nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))

        class Pair(nn.Module):
            def forward(self, images):
                return images, images

        def pair(num_classes):
            return Pair()
    """)
    with pytest.raises(ModelError) as caught:
        make(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pretrained_import_path_is_refused():
    with pytest.raises(ModelError, match="pretrained is for torchvision and timm names"):
        make("torch.nn:Identity", pretrained=True)


def test_names_are_known_without_torch():
    code = (
        "import sys, bitladder.models as models; "
        "assert models.check_name('resnet18') == 'built-in'; "
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_check_name_says_when_a_name_is_checked():
    assert all(check_name(name) == "built-in" for name in MODELS)
    assert check_name("vgg11") == check_name("package.nets:net") == "checked at run"
    for name in ("a b:c", " ", ":", "package:"):
        with pytest.raises(ModelError):
            check_name(name)


def test_names_of_built_ins_are_torchvisions():
    assert set(MODELS) <= set(torchvision.models.list_models(module=torchvision.models))
    assert isinstance(torchvision.models.get_model(MODELS[0]), nn.Module)
