"""What people write in a forward: made into modules with the same function, or refused with why."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from bitladder import models
from bitladder.errors import ModelError
from bitladder.options import ModelOptions
from bitladder.simulation import check, prepare
from bitladder.simulation.rewrite import unquantized
from bitladder.techniques.fold_batch_norm import fold_batch_norm


class Written(nn.Module):
    """Two convolutions and a linear layer; a test gives the forward."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.weight, self.bias = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4))

    def decide(self, x):
        if x.max() > 0:
            x = x / 2
        return self.head(x.mean((2, 3)))


def _model(forward):
    torch.manual_seed(0)
    model = type("Network", (Written,), {"forward": forward})()
    nn.init.uniform_(model.norm.running_var, 0.5, 2)
    return model.eval()


def sum_in_place(self, x):
    x = self.first(x)
    y = self.second(x)
    y.add_(x)
    return self.head(y.mean((2, 3)))


def rectified_in_place(self, x):
    x = self.first(x)
    x.relu_()
    return self.head(x.mean((2, 3)))


def clamped(self, x):
    x = self.second(torch.clamp(self.first(x), 0, 6)).clamp(min=0)
    return self.head(x.clip(-1, 1).mean((2, 3)))


def probabilities(self, x):
    return self.head(self.first(x).mean((2, 3))).softmax(1)


def linear(self, x):
    return functional.linear(self.first(x).mean((2, 3)), self.weight, self.bias)


def concatenated(self, x):
    halves = torch.split(self.first(x), 4, dim=1)
    return self.head(torch.concat([halves[1], halves[0]], 1).mean((2, 3)))


def normalized(self, x):
    torch._assert(x.dim() == 4, "images")
    norm = self.norm
    x = functional.batch_norm(
        self.first(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, self.training
    )
    return self.head(x.mean((2, 3)))


def optional(self, x, mask=None, scale=2.0):
    x = self.first(x)
    if mask is not None:
        x = x * mask
    return self.head((x * scale).mean((2, 3)))


def summed(self, x):
    return torch.einsum("nchw,kc->nk", self.first(x), self.weight)


def scaled_sum(self, x):
    x = self.first(x)
    return self.head(torch.add(x, x, alpha=2).mean((2, 3)))


FORMS = {
    sum_in_place: [],
    rectified_in_place: [],
    clamped: [],
    probabilities: [],
    linear: [],
    concatenated: [],
    normalized: [],
    optional: [],
    summed: ["einsum"],
    scaled_sum: [],
}


@pytest.mark.parametrize("forward", FORMS, ids=lambda forward: forward.__name__)
def test_every_form_becomes_modules_of_the_same_function(forward):
    model = _model(forward)
    images = torch.randn(4, 3, 8, 8)
    check(model, (images,))
    prepared = prepare(model)
    with torch.no_grad():
        assert torch.allclose(prepared(images), model(images), atol=1e-6)
    assert unquantized(prepared) == FORMS[forward]
    assert not any("_assert" in str(node.target) for node in prepared.graph.nodes)
    assert len(prepared.graph.find_nodes(op="placeholder")) == 1
    again = prepare(fx.symbolic_trace(model)) if forward is not optional else prepared
    assert unquantized(again) == FORMS[forward]  # a network that comes traced is prepared too


def test_a_functional_batch_norm_can_be_folded():
    model, images = _model(normalized), torch.randn(4, 3, 8, 8)
    folded, count = fold_batch_norm(model)
    assert count == 1
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert {name.rpartition(".")[0] for name, _ in folded.named_parameters()} == {"first", "head"}
    with torch.no_grad():
        assert torch.allclose(folded(images), model(images), atol=1e-6)


def test_timm_s_batch_norms_with_activation_are_batch_norms():
    pytest.importorskip("timm")
    options = ModelOptions(name="mobilenetv3_small_050")
    model = models.build(options, classes=10, shapes=[(3, 64, 64)], seed=1).eval()
    images = torch.randn(2, 3, 64, 64)
    folded, count = fold_batch_norm(model)
    assert count == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 34
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert unquantized(folded) == []
    with torch.no_grad():
        assert torch.allclose(folded(images), model(images), rtol=1e-3, atol=1e-5)


def by_value(self, x):
    return self.decide(self.first(x))


def nothing(self, x):
    return {"logits": None}


def two_inputs(self, x, y):
    return self.head(self.first(x + y).mean((2, 3)))


def remembered(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.head(self.first(x).mean((2, 3)) * self.calls)


@pytest.mark.parametrize(
    ("forward", "parts"),
    [
        (by_value, ["cannot trace Network", "if x.max() > 0:", "torch.fx.wrap"]),
        (nothing, ["returns no tensor; return one, or tuples, lists, dictionaries or dataclasses"]),
        (two_inputs, ["cannot take images of 3x8x8", "missing 1 required positional"]),
        (remembered, ["computes something else once it is traced"]),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_cannot_be_simulated_is_refused_with_the_reason(forward, parts):
    with pytest.raises(ModelError) as raised:
        check(_model(forward), (torch.randn(2, 3, 8, 8),))
    for part in parts:
        assert part in str(raised.value)


@fx.wrap
def halve_if_positive(x):
    return x / 2 if x.max() > 0 else x


def test_a_wrapped_function_is_taken_as_it_is():
    model = _model(lambda self, x: self.head(halve_if_positive(self.first(x)).mean((2, 3))))
    images = torch.randn(2, 3, 8, 8)
    check(model, (images,))
    assert unquantized(prepare(model)) == ["halve_if_positive"]


def test_a_frozen_batch_norm_is_a_frozen_convolution():
    """As a product and a sum it took two roundings, and the HTP computed the next layer wrong."""
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(4)
    for name, value in norm.named_buffers():
        value.copy_(torch.rand(4) + (0.5 if name == "running_var" else -0.5))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU()).eval()
    images = torch.randn(2, 3, 8, 8)
    made = prepare(network, (images,))
    kinds = [type(made.get_submodule(str(n.target))).__name__ for n in made.graph.nodes
             if n.op == "call_module"]  # fmt: skip
    assert kinds == ["Conv2d", "Conv2d", "ReLU"]
    wanted = network.double()(images.double())
    assert (made(images) - wanted).abs().max() < 1e-5
    assert not any(one.requires_grad for one in made.get_submodule("1").parameters())
