"""The default ranges are AIMET's own tf_enhanced ones, so that nothing is lost against it."""

import json

import pytest
import torch
from aimet_torch.quantsim import QuantizationSimModel

from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel
from bitladder.techniques.fold_batch_norm import fold_batch_norm

CONFIGS = ["default", "htp_v68", "htp_v69", "htp_v73", "htp_v75", "htp_v79", "htp_v81"]


def _folded(network):
    return fold_batch_norm(network)[0]


@pytest.mark.parametrize("config", ["default", "htp_v73"])
def test_ranges_are_those_of_aimet_s_tf_enhanced(network, images, config):
    theirs = QuantizationSimModel(
        _folded(network),
        torch.zeros(1, 1, 12, 12),
        quant_scheme="tf_enhanced",
        config_file=config,
    )
    theirs.compute_encodings(lambda model: model(images))
    options = Calibrate(config=config, outputs="method")
    ours = SimulatedModel(_folded(network), Precision(8, 8), shapes=[(1, 12, 12)], options=options)
    ours.calibrate(images)
    expected = dict(theirs.named_quantizers())
    compared = 0
    for info, quantizer in ours.quantizers():
        other = expected[info.name]
        assert (info.bits, info.symmetric) == (other.bitwidth, other.symmetric)
        # One step of the grid: histograms of batches are not summed in one order.
        step = float(quantizer.get_scale().max())
        assert torch.allclose(quantizer.get_min(), other.get_min(), atol=step), info.name
        assert torch.allclose(quantizer.get_max(), other.get_max(), atol=step), info.name
        compared += 1
    assert compared >= 8


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_by_name_simulates(network, config):
    options = Calibrate(config=config, method="min_max")
    model = SimulatedModel(_folded(network), Precision(4, 8), shapes=[(1, 12, 12)], options=options)
    assert {info.bits for info, _ in model.quantizers() if info.kind == "weight"} == {4}


def test_a_config_can_be_a_file(network, tmp_path):
    config = {
        "defaults": {
            "ops": {"is_output_quantized": "True"},
            "params": {"is_quantized": "True", "is_symmetric": "True"},
            "per_channel_quantization": "False",
        },
        "params": {"bias": {"is_quantized": "False"}},
        "op_type": {},
        "supergroups": [],
        "model_input": {"is_input_quantized": "True"},
        "model_output": {},
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(config))
    options = Calibrate(config=str(path), method="min_max")
    model = SimulatedModel(_folded(network), Precision(8, 8), shapes=[(1, 12, 12)], options=options)
    assert {info.channels for info, _ in model.quantizers()} == {1}
