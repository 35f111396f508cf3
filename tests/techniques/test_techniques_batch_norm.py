"""Batch norms in the simulated network: statistics measured anew, folded with integers kept."""

import pytest
import torch
from torch import nn

from bitladder import deploy, targets, techniques
from bitladder.options import Precision, ReestimateBatchNorm, parse_recipe
from bitladder.tasks import find
from bitladder.techniques.fold_batch_norm import fold_simulated
from small_network import only_output

RECIPE = [{"calibrate": {"method": "min_max"}}, "reestimate_batch_norm"]


def _calibrated(network, images, precision="w4a8", **options):
    context = techniques.Context(Precision.parse(precision), (images,), network)
    technique = parse_recipe([{"calibrate": {"method": "min_max", **options}}, RECIPE[1]])[0]
    return techniques.apply(technique, network, context).eval(), context


def _integers(layer):
    quantizer = layer.param_quantizers["weight"]
    with torch.no_grad():
        return (quantizer(layer.weight) / quantizer.get_scale()).round()


def test_folding_keeps_the_integers_and_the_function(network, images):
    model, _ = _calibrated(network, images)
    before = only_output(model, images)
    integers = _integers(model.module.get_submodule("depthwise.0"))
    assert fold_simulated(model) == 3
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.module.modules())
    layer = model.module.get_submodule("depthwise.0")
    assert torch.equal(_integers(layer), integers)
    after = only_output(model, images)
    step = next(q for i, q in model.quantizers() if "head.output" in i.name).get_scale()
    assert (after - before).abs().max() <= step * 1.01  # a value in the middle may round apart
    assert (after == before).float().mean() > 0.95


def test_a_range_for_all_channels_is_found_anew(network, images):
    model, _ = _calibrated(network, images, "w8a8", weights="per_tensor")
    fold_simulated(model)
    layer = model.module.get_submodule("depthwise.0")
    with torch.no_grad():
        error = (layer.param_quantizers["weight"](layer.weight) - layer.weight).abs().max()
    assert error <= layer.param_quantizers["weight"].get_scale() / 2 * 1.001


def test_statistics_are_those_of_the_quantized_network(network, images):
    model, context = _calibrated(network, images, "w2a8")
    seen = []
    norm = model.module.get_submodule("stem.1")
    handle = norm.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    only_output(model, images)
    handle.remove()
    [values] = seen
    layer = model.module.get_submodule("stem.0")
    with torch.no_grad():
        quantized = layer.param_quantizers["weight"](layer.weight).as_subclass(torch.Tensor)
    values = values.as_subclass(torch.Tensor).double().movedim(1, 0).flatten(1)
    mean, variance = values.mean(1), values.var(1)
    gamma, beta = norm.weight.detach(), norm.bias.detach()
    scale = gamma.double() / (variance + norm.eps).sqrt()
    options = ReestimateBatchNorm(images=128, batch_size=128)
    techniques.apply(options, model, context)
    layer = model.module.get_submodule("stem.0")
    assert torch.allclose(layer.bias.double(), beta - mean * scale, atol=1e-4)
    with torch.no_grad():
        folded = layer.param_quantizers["weight"](layer.weight).as_subclass(torch.Tensor)
    wanted = quantized * scale.float().view(-1, 1, 1, 1)
    assert torch.allclose(folded, wanted, rtol=1e-4, atol=1e-5)
    assert context.notes[-1] == "3 batch norms from 128 images, 3 folded"


@pytest.mark.parametrize("precision", ["w8a8", "w4a4"])
def test_the_folded_network_is_saved_rebuilt_and_exported(network, images, tmp_path, precision):
    model, context = _calibrated(network, images, precision)
    recipe = parse_recipe(RECIPE)
    model = techniques.apply(recipe[1], model, context)
    logits = only_output(model, images)
    model.save(tmp_path / "s.safetensors")
    rebuilt = techniques.rebuild(recipe, network, context)
    rebuilt.restore(tmp_path / "s.safetensors")
    assert torch.equal(only_output(rebuilt.eval(), images), logits)
    deploy.Traced(model).write_qdq(tmp_path / "m.onnx")
    session = targets.open_target("onnxruntime", tmp_path / "m.onnx")
    try:
        labels = torch.zeros(len(images), dtype=torch.long)
        comparison = targets.compare(session, model, [((images,), labels)], find("classification"))
    finally:
        session.close()
    assert comparison.agreement.value > 0.98
