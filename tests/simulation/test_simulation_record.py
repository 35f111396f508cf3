"""Networks that compute with sizes: recorded with a free batch, or refused with the line."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bitladder.errors import ModelError
from bitladder.simulation import prepare
from bitladder.structures import named

SHAPE = (3, 8, 8)
INPUTS = (torch.rand(2, *SHAPE),)


class Written(nn.Module):
    """A convolution, a norm and a linear layer; a test gives the forward."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head, self.scale = nn.Linear(8, 4), nn.Parameter(torch.rand(1, 8, 1, 1) + 0.5)
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


def unpacked_size(self, x):
    b, c, h, w = x.shape
    x = self.first(x)
    return self.head(x.view(b, 8, h * w).mean(2) + c)


def unpacked_parts(self, x):
    a, b = self.first(x).split(4, 1)
    return self.head(torch.cat([F.relu(b), a], 1).mean((2, 3)))


def list_of_chunks(self, x):
    return self.head(torch.cat(list(self.first(x).chunk(4, 1))[::-1], 1).mean((2, 3)))


def loop_over_chunks(self, x):
    total = 0
    for place, part in enumerate(self.first(x).chunk(4, dim=1)):
        total = total + part.mean((2, 3)) * (place + 1)
    return self.head(torch.cat([total] * 4, 1))


def branch_on_shape(self, x):
    if x.shape[-1] % 2 == 0 and len(x.shape) == 4:
        x = F.pad(x, (0, 1, 0, 1))
    return self.head(self.first(x).mean((2, 3)))


def integer_of_size(self, x):
    return self.head(self.first(x)[:, :, : int(x.shape[2] ** 0.5 + 1)].mean((2, 3)))


def kept_from_the_first_call(self, x):
    """As timm's attention keeps its biases: later calls do not compute them."""
    if not hasattr(self, "kept"):
        self.kept = {}
    if "scale" not in self.kept:
        self.kept["scale"] = self.scale[:, torch.arange(8) % 3]
    sizes = x.shape
    return self.head((self.first(x) * self.kept["scale"]).view(sizes[0], 8, -1).mean(2))


def zeros_of_batch(self, x):
    x = self.first(x)
    return self.head(torch.cat([x[:, :4], torch.zeros(x.shape[0], 4, 8, 8)], 1).mean((2, 3)))


def batch_in_a_product(self, x):
    x = self.first(x)
    b, c = x.shape[:2]
    return self.head(x.reshape(b * c, -1).mean(1).view(b, c))


def kind_of_value(self, x):
    parts = [x] if isinstance(x, torch.Tensor) else x
    return self.head(self.first(torch.cat(parts, 1)).mean((2, 3)))


def weight_that_is_computed(self, x):
    x = F.conv2d(x, self.first.weight / self.first.weight.norm(), padding=len(x.shape) - 3)
    return self.head((x * self.scale).mean((2, 3)))


def changed_view(self, x):
    x = self.first(x)
    x.flatten(1).relu_()
    return self.head(x.mean((2, 3)))


def changed_part(self, x):
    x = self.first(x)
    x[:, :2].add_(1)
    x[:, 3] = x[:, 4] * 2
    return self.head(x.mean((2, 3)))


def changed_under_another_name(self, x):
    x = self.first(x)
    flat = x.view(-1, 8, 64)
    x.relu_()
    return self.head(x.mean((2, 3)) + flat.mean(2))


def filled_by_parts(self, x):
    x = self.first(x)
    out = torch.zeros_like(x)
    out[:, :4] = x[:, 4:]
    out[:, 4:, ::2] = 1
    return self.head(out.mean((2, 3)))


def part_set_to_zero(self, x):
    x = self.first(x)
    bias = self.scale.clone()
    bias[:, 2:4].zero_()
    x[:, 5:].fill_(0.5)
    return self.head((x + bias).mean((2, 3)))


FORMS = (
    part_set_to_zero,
    changed_view,
    changed_part,
    changed_under_another_name,
    filled_by_parts,
    unpacked_size,
    unpacked_parts,
    list_of_chunks,
    loop_over_chunks,
    branch_on_shape,
    kept_from_the_first_call,
    integer_of_size,
    zeros_of_batch,
    batch_in_a_product,
    kind_of_value,
    weight_that_is_computed,
)


@pytest.mark.parametrize("forward", FORMS, ids=lambda forward: forward.__name__)
def test_a_network_with_size_arithmetic_is_traced_for_any_batch(forward):
    torch.manual_seed(0)
    model = Written(forward).eval()
    prepared = prepare(model, INPUTS)
    for count in (1, 2, 7):
        images = torch.randn(count, *SHAPE)
        with torch.no_grad():
            right = model.double()(images.double()) if forward is not zeros_of_batch else None
            right = model.float()(images) if right is None else right
            assert torch.allclose(prepared(images).double(), right.double(), atol=1e-5)
        model.float()


def test_parameters_stay_trainable():
    prepared = prepare(Written(weight_that_is_computed).eval(), INPUTS)
    trained = [p for p in prepared.parameters() if p.requires_grad]
    assert sorted(p.numel() for p in trained) == [4, 8, 32, 216]


def value(self, x):
    x = self.first(x)
    if float(x.mean()) > len(x.shape):
        x = x * 2
    return self.head(x.mean((2, 3)))


def loop_over_images(self, x):
    return torch.stack([self.head(self.first(x[i : i + 1]).mean((0, 2, 3))) for i in range(len(x))])


def loop_over_parts_of_one(self, x):
    return torch.cat([self.head(self.first(x[i : i + 1]).mean((2, 3))) for i in range(len(x))])


def one_image_is_special(self, x):
    x = self.first(x).mean((2, 3))
    return self.head(x * 2 if int(x.shape[0]) == 1 else x)


def random(self, x):
    return self.head(self.first(x).mean((2, 3)) + torch.rand(int(x.shape[1] + 5)))


@pytest.mark.parametrize(
    ("forward", "reason", "line"),
    [
        (value, "looks at values", "if float(x.mean()) > len(x.shape):"),
        (loop_over_images, "another number of images", "return torch.stack([self.head("),
        (one_image_is_special, "computes something else", ""),
        (random, "differs from run to run", "torch.rand(int("),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_depends_on_values_or_images_is_refused_with_its_line(forward, reason, line):
    with pytest.raises(ModelError) as raised:
        prepare(Written(forward).eval(), INPUTS)
    assert reason in str(raised.value)
    assert line in str(raised.value)


def by_vmap(self, x):
    return torch.vmap(lambda one: self.head(one.mean((1, 2))))(self.first(x))


def several_outputs(self, x):
    return {"all": by_vmap(self, x), "parts": [loop_over_parts_of_one(self, x), self.first(x)]}


@pytest.mark.parametrize("forward", [loop_over_parts_of_one, by_vmap, several_outputs])
def test_what_cannot_be_recorded_is_exported_and_read_again(forward):
    torch.manual_seed(0)
    model = Written(forward).eval()
    prepared = prepare(model, INPUTS)
    for count in (1, 2, 7):
        images = torch.randn(count, *SHAPE)
        with torch.no_grad():
            found, wanted = prepared(images), model(images)
        assert type(found) is type(wanted)
        for one, other in zip(named(found).items(), named(wanted).items(), strict=True):
            assert one[0] == other[0]
            assert torch.allclose(one[1], other[1], atol=1e-5)
    assert len(list(prepared.parameters())) >= 4
    assert all(p.requires_grad for p in prepared.parameters())
