"""Networks that normalize pixels themselves, and files that take bytes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import bitladder
from bitladder import simulation
from bitladder.errors import DataError, ExportError, ModelError, QuantizationError, StudyError
from bitladder.options import Normalization

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECIPE = ["fold_batch_norm", "calibrate"]


def _network(**options):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, **options), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2), nn.Flatten(1),
        nn.LazyLinear(5),
    ).eval()  # fmt: skip


@pytest.fixture
def photos():
    """Bytes of 32 images that are not square."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (32, 3, 12, 16), generator=generator, dtype=torch.uint8)


def _by_hand(network, pixels, *, bgr=False):
    """What the network gives, in float64, on pixels that are normalized here."""
    pixels = pixels.double()
    pixels = pixels.flip(1) if bgr else pixels
    mean, std = (torch.tensor(one, dtype=torch.float64).view(3, 1, 1) for one in (MEAN, STD))
    return network.double()((pixels - mean) / std).float()


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize(
    ("options", "folded"),
    [
        ({}, True),
        ({"padding": 1}, False),
        ({"padding": 1, "padding_mode": "reflect"}, True),
        ({"padding": "same"}, False),
        ({"padding": "valid", "bias": False}, True),
        ({"groups": 3}, True),
        ({"groups": 3, "padding": 2}, False),
    ],
)
def test_a_network_normalizes_pixels_in_its_first_convolution_where_that_is_exact(
    photos, options, folded, bgr
):
    pixels = photos.float() / 255
    network = _network(**options)
    network(pixels)
    given = Normalization(mean=MEAN, std=STD, bgr=bgr)
    made = simulation.normalized(network, given, (pixels,))
    stands = hasattr(made, "normalization")
    assert stands != (folded and not (bgr and "groups" in options))
    wanted = _by_hand(network, pixels, bgr=bgr)
    assert (made(pixels) - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-5


class _ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = _network()

    def forward(self, x):
        return self.inner(x.permute(0, 3, 1, 2))


def test_channels_may_be_last(photos):
    pixels = (photos.float() / 255).permute(0, 2, 3, 1).contiguous()
    network = _ChannelsLast()
    network(pixels)
    made = simulation.normalized(network.eval(), Normalization(mean=MEAN, std=STD), (pixels,))
    wanted = _by_hand(network.inner, pixels.permute(0, 3, 1, 2))
    assert (made(pixels) - wanted).abs().max() < 1e-4


def test_a_normalization_of_other_channels_is_refused(photos):
    pixels = photos.float() / 255
    network = _network()
    network(pixels)
    with pytest.raises(ModelError, match="one for each of 3 channels"):
        simulation.normalized(network, Normalization(mean=(0.1, 0.2), std=(1.0,)), (pixels,))
    with pytest.raises(StudyError, match="imagenet"):
        bitladder.quantize(network, pixels, normalize="imagnet", progress=False)
    with pytest.raises(QuantizationError, match="give them in 0 to 1"):
        bitladder.quantize(network, photos.float(), normalize="imagenet", progress=False)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("precision", ["w8a8", "w4a4", "w8a16"])
def test_a_file_of_bytes_computes_what_was_measured(photos, tmp_path, padding, precision):
    network = _network(padding=padding)
    network(photos.float())
    quantized = bitladder.quantize(
        network, photos, precision, RECIPE, normalize="imagenet", image_input="uint8",
        progress=False,
    )  # fmt: skip
    path = quantized.export(tmp_path / "m.onnx", classes=list("abcde"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options)
    [given] = session.get_inputs()
    assert given.type == "tensor(uint8)"
    [made] = session.run(None, {given.name: photos.numpy()})
    with torch.no_grad():
        wanted = quantized(photos.float() / 255).numpy()
    step = np.abs(wanted).max() / (2**15 if precision == "w8a16" else 2**30)
    assert np.abs(made - wanted).max() <= step
    if precision != "w8a16":  # the bytes are the integers that the first layer reads
        nodes = onnx.load(path).graph.node
        assert given.name in [n.input[0] for n in nodes if n.op_type == "DequantizeLinear"]
        assert given.name not in [n.input[0] for n in nodes if n.op_type == "QuantizeLinear"]
    quantized.save(tmp_path / "q.safetensors")
    again = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", network)
    assert again.export(tmp_path / "again.onnx", classes=list("abcde")).read_bytes() == (
        path.read_bytes()
    )


def test_bytes_lose_nothing_where_four_bits_would(photos, tmp_path):
    """At w8a4 the input's grid has 256 steps of 1/255, which hold every pixel."""
    network = _network()
    network(photos.float())
    quantized = bitladder.quantize(network, photos, "w8a4", RECIPE, image_input="uint8",
                                   progress=False)  # fmt: skip
    pixels = photos.float() / 255
    [seen] = [
        one.values
        for one in simulation.activations(quantized.simulated, (pixels,))
        if "input_quantizers" in one.quantizer
    ]
    assert (seen - pixels).abs().max() < 1e-7  # 255 times a float is not exact


def test_what_has_no_grid_of_bytes_is_not_written_as_bytes(photos, tmp_path):
    from bitladder.deploy import Traced

    network = _network()
    network(photos.float())
    quantized = bitladder.quantize(network, photos.float() / 255, "w8a8", RECIPE, progress=False)
    with pytest.raises(ExportError, match="quantize it with input: uint8"):
        Traced(quantized.simulated).write_qdq(tmp_path / "m.onnx", image_input="uint8")
    with pytest.raises(ExportError, match="uint9"):
        Traced(quantized.simulated).write_qdq(tmp_path / "m.onnx", image_input="uint9")


def test_litert_takes_bytes_too(photos, tmp_path):
    pytest.importorskip("ai_edge_litert")
    from bitladder.targets.litert import LitertIntegerSession, LitertSession

    network = _network(padding=1)
    network(photos.float())
    quantized = bitladder.quantize(network, photos, "w8a8", RECIPE, normalize="imagenet",
                                   image_input="uint8", progress=False)  # fmt: skip
    path = quantized.export(tmp_path / "m.tflite", classes=list("abcde"))
    [made] = LitertSession(path).run(photos.numpy()).values()
    [integer] = LitertIntegerSession(path).run(photos.numpy()).values()
    assert np.array_equal(made, integer)
    assert LitertSession(path).description.classes == tuple("abcde")
    with torch.no_grad():
        wanted = quantized(photos.float() / 255).numpy()
    assert np.abs(made - wanted).max() <= 1.01 * LitertSession(path).steps["output"]


def test_a_file_of_bytes_is_verified_on_pixels(photos, tmp_path):
    network = _network()
    network(photos.float())
    quantized = bitladder.quantize(network, photos, "w8a8", RECIPE, image_input="uint8",
                                   progress=False)  # fmt: skip
    path = quantized.export(tmp_path / "m.onnx")
    found = bitladder.verify(path, photos.float() / 255, simulation=quantized)
    assert found.comparison.integer.equal.value == 1.0
    assert found.comparison.worst_lsb <= 1.01
    of_bytes = bitladder.verify(path, photos, simulation=quantized)
    assert of_bytes.comparison.sqnr == found.comparison.sqnr
    assert torch.equal(quantized(photos), quantized(photos / 255))


@pytest.mark.parametrize(
    "values", [{"mean": (0.5,), "std": (0.0,)}, {"mean": (0.1, 0.2), "std": (1.0, 1.0, 1.0)}]
)
def test_a_normalization_must_be_one(values):
    with pytest.raises(ValueError, match=r"std|deviations"):
        Normalization(**values)


def test_batches_may_be_bytes(photos):
    network = _network()
    network(photos.float())
    batches = [(part, torch.zeros(16, dtype=torch.int64)) for part in photos.split(16)]
    made = bitladder.quantize(network, batches, "w8a8", RECIPE, normalize="imagenet",
                              progress=False)  # fmt: skip
    whole = bitladder.quantize(network, photos, "w8a8", RECIPE, normalize="imagenet",
                               progress=False)  # fmt: skip
    assert torch.equal(made(photos.float() / 255), whole(photos.float() / 255))
    with pytest.raises((QuantizationError, DataError)):
        bitladder.quantize(network, [-photos.float()], normalize="imagenet", progress=False)
