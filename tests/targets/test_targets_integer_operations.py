"""The integer arithmetic equals ONNX Runtime's optimised graph, one operation behind a layer."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bitladder import simulation
from bitladder.deploy import Traced
from bitladder.options import Calibrate, Precision
from bitladder.targets import integer_session, open_target
from bitladder.techniques.fold_batch_norm import fold_batch_norm
from small_network import only

SHAPE = (3, 8, 8)


class Behind(nn.Module):
    """A function behind a convolution with 8 channels; it may use one module more."""

    def __init__(self, function, part=None):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.function, self.part = function, part

    def forward(self, x):
        x = self.convolution(x)
        x = self.function(x) if self.part is None else self.function(x, self.part)
        return x.flatten(1)


def _rows(x):
    """(N, places, channels)."""
    return x.flatten(2).transpose(1, 2)


def _part(module):
    return lambda x, part: part(x), module


OPERATIONS = {
    "abs": lambda x: -x.abs(),
    "adaptive_average": lambda x: functional.adaptive_avg_pool2d(x, (3, 5)),
    "adaptive_max": lambda x: functional.adaptive_max_pool2d(x, 3),
    "amax": lambda x: x.amax((2, 3)),
    "average_ceil": _part(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "batch_norm": (lambda x, part: part(functional.max_pool2d(x, 2)), nn.BatchNorm2d(8)),
    "bilinear": lambda x: functional.interpolate(x, size=(11, 13), mode="bilinear"),
    "clamp": lambda x: x.clamp(0.1, 5),
    "concatenate": lambda x: torch.cat([x[:, :3] * 2, x[:, 3:]], 1),
    "divide": lambda x: (x * 2 + 0.5) / 3 - 1,
    "einsum": lambda x: torch.einsum("nchw,nkhw->nck", x, x),
    "expand": (lambda x, part: part.expand(x.shape[0], -1, -1, -1) + x,
               nn.Parameter(torch.rand(1, 8, 1, 1))),
    "flip": lambda x: x.flip(3).roll(1, 2),
    "gelu": functional.gelu,
    "group_norm": _part(nn.GroupNorm(2, 8)),
    "gru": (lambda x, part: part(_rows(x))[0], nn.GRU(8, 5, batch_first=True)),
    "hardswish": functional.hardswish,
    "index": lambda x: x[:, :, 2] - x[..., -1],
    "instance_norm": _part(nn.InstanceNorm2d(8, affine=True)),
    "layer_norm": (lambda x, part: part(_rows(x)), nn.LayerNorm(8)),
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "linear_of_rows": (lambda x, part: part(_rows(x)), nn.Linear(8, 5)),
    "lstm": (lambda x, part: part(_rows(x))[0],
             nn.LSTM(8, 5, batch_first=True, bidirectional=True)),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "mean": lambda x: x.mean((2, 3), keepdim=True) * x,
    "mish": functional.mish,
    "nearest": lambda x: functional.interpolate(x, size=(11, 13)),
    "pad": lambda x: functional.pad(x, (1, 1, 2, 0), mode="reflect"),
    "pad_with": lambda x: functional.pad(x, (1, 1, 2, 0), value=1.5),
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "power": lambda x: x**2,
    "prelu": _part(nn.PReLU(8)),
    "relu6_of_sum": (lambda x, part: functional.relu6(x + part(x)), nn.Conv2d(8, 8, 3, padding=1)),
    "self_attention": (lambda x, part: part(_rows(x), _rows(x), _rows(x))[0],
                       nn.MultiheadAttention(8, 2, batch_first=True)),
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softmax": lambda x: x.softmax(1),
    "split": lambda x: torch.cat([x.chunk(2, 1)[1], x.unbind(1)[0][:, None]], 1),
    "square_root": lambda x: (x.abs() + 0.1).sqrt(),
    "standard_deviation": lambda x: x.std((2, 3)),
    "transposed": _part(nn.ConvTranspose2d(8, 12, 3, stride=2, output_padding=1)),
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
}  # fmt: skip


def _file(network, images, precision, path):
    """A network as QDQ ONNX, its grids from the images."""
    folded, _ = fold_batch_norm(network)
    simulated = simulation.SimulatedModel(
        folded,
        Precision.parse(precision),
        shapes=[tuple(images.shape[1:])],
        options=Calibrate(method="min_max"),
    )
    simulated.calibrate(images)
    Traced(simulated.eval()).write_qdq(path)


@pytest.mark.parametrize("precision", ["w8a8", "w4a4", "w8a16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_equals_the_optimised_graph(name, precision, tmp_path):
    torch.manual_seed(1)
    found = OPERATIONS[name]
    network = Behind(*found) if isinstance(found, tuple) else Behind(found)
    images = torch.randn(16, *SHAPE)
    _file(network.eval(), images, precision, tmp_path / "m.onnx")
    theirs = only(open_target("onnxruntime", tmp_path / "m.onnx", threads=1).run(images.numpy()))
    ours = only(integer_session(tmp_path / "m.onnx").run(images.numpy()))
    assert len(np.unique(theirs)) > 4  # not all the same
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_many_images_and_odd_channels_equal_the_optimised_graph(precision, tmp_path):
    """Kernels work in blocks; what is left over must be as exact."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 67, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(67, 67, 3, groups=67, stride=2),
        nn.Conv2d(67, 33, 1),
        nn.Softmax(1),
        nn.AvgPool2d(2),
    )
    images = torch.randn(96, 3, 19, 17)
    _file(network.eval(), images, precision, tmp_path / "m.onnx")
    theirs = only(open_target("onnxruntime", tmp_path / "m.onnx", threads=1).run(images.numpy()))
    ours = only(integer_session(tmp_path / "m.onnx").run(images.numpy()))
    np.testing.assert_array_equal(ours, theirs)
