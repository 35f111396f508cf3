"""Grids as a target's format demands them, before they are measured."""

import numpy as np
import pytest
import torch
from torch import nn

from bitladder.errors import StudyError
from bitladder.options import Calibrate, Precision, fitting, parse_recipe
from bitladder.simulation import SimulatedModel, prepare
from bitladder.simulation.aimet import output_quantizer
from bitladder.simulation.placement import rectified_quantizers


class Joined(nn.Module):
    """A concatenation of a ReLU, a convolution and a sigmoid, averaged and split again."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        left, right = torch.relu(self.left(x)), 3 * self.right(x)
        gate = torch.sigmoid(self.last(x))
        y = torch.cat([left, right * gate], 1)
        return torch.tanh(nn.functional.avg_pool2d(y, 2)), torch.softmax(y.mean([2, 3]), 1)


@pytest.fixture(scope="module")
def images():
    return torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _simulated(images, precision="w8a8", network=None, **options):
    torch.manual_seed(1)
    network = (network or Joined)().eval()
    options = {"method": "min_max", "targets": ("litert",), **options}
    made = SimulatedModel(
        prepare(network, (images,)),
        Precision.parse(precision),
        shapes=[tuple(images.shape[1:])],
        options=Calibrate(**options),
    )
    made.calibrate(images)
    return made.eval()


def _outputs(made):
    """Output quantizers by their layer, those that operations share by the first."""
    return {info.layer: one for info, one in made.quantizers() if info.kind == "output"}


def test_functions_have_the_grids_that_the_format_fixes(images):
    made = _outputs(_simulated(images))
    wanted = {"sigmoid": (1 / 256, 0.0), "tanh": (1 / 128, -1.0), "softmax": (1 / 256, 0.0)}
    for name, (scale, lowest) in wanted.items():
        [quantizer] = [one for layer, one in made.items() if name in layer]
        assert np.float32(quantizer.get_scale()) == np.float32(scale)
        assert float(quantizer.get_min()) == lowest
        assert not quantizer.min.requires_grad
    [wide] = [
        one for layer, one in _outputs(_simulated(images, "w8a16")).items() if "tanh" in layer
    ]
    assert wide.min.requires_grad  # its 16-bit kernel is not taken


def test_an_average_and_a_concatenation_share_the_grid_of_what_they_read(images):
    """The average of values that were concatenated, of a ReLU and of a product among them."""
    for targets, alike in (((), 3), (("litert",), 4)):
        module = _simulated(images, targets=targets).module
        layers = [module.get_submodule(f"module_{name}") for name in ("relu", "mul_1", "cat",
                                                                      "avg_pool2d")]  # fmt: skip
        found = [id(output_quantizer(layer)) for layer in layers]
        assert max(found.count(one) for one in found) == alike


def test_sixteen_bits_are_symmetric_and_eight_are_not(images):
    wide = _simulated(images, "w8a16")
    assert all(info.symmetric for info, _ in wide.quantizers())
    narrow = _simulated(images)
    assert not any(info.symmetric for info, _ in narrow.quantizers() if info.kind != "weight")
    edges = _simulated(images, "w8a8-edges16")
    for info, _ in edges.quantizers():
        assert info.symmetric == (info.kind == "weight" or info.bits == 16)


def test_symmetric_by_the_format_is_symmetric_by_the_recipe(images):
    both = [
        _simulated(images, "w8a16", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), **given)
        for given in ({}, {"targets": (), "symmetric_activations": True})
    ]
    ranges = [[(i.name, *map(float, (q.get_min().min(), q.get_max().max(), i.integer_min)))
               for i, q in one.quantizers()] for one in both]  # fmt: skip
    assert ranges[0] == ranges[1]
    assert torch.equal(both[0](images), both[1](images))


class Doubled(nn.Module):
    """A ReLU beside a convolution, or beside another ReLU."""

    def __init__(self, rectified):
        super().__init__()
        self.left, self.right = (nn.Conv2d(3, 4, 3) for _ in range(2))
        self.act = nn.ReLU() if rectified else nn.Identity()

    def forward(self, x):
        return torch.cat([torch.relu(self.left(x)), self.act(self.right(x))], 1)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_shared_grid_ends_at_zero_where_all_that_it_holds_is_rectified(images, rectified):
    made = _simulated(images, network=lambda: Doubled(rectified))
    quantizer = output_quantizer(made.module.get_submodule("module_cat"))
    assert (float(quantizer.get_min()) == 0) == rectified
    assert list(rectified_quantizers(made.module)) == ([quantizer] if rectified else [])
    assert quantizer.min.requires_grad != rectified


def test_a_recipe_fits_what_a_study_verifies_on_unless_it_says_otherwise():
    [fold, step] = fitting(parse_recipe(["fold_batch_norm", "calibrate"]), ["htp", "litert"])
    assert step.targets == ("litert",)
    own = parse_recipe(["fold_batch_norm", {"calibrate": {"targets": []}}])
    assert fitting(own, ["litert"]) == own
    with pytest.raises(StudyError, match=r"calibrate\.targets: unknown target 'litrt'"):
        parse_recipe([fold, {"calibrate": {"targets": ["litrt"]}}])
