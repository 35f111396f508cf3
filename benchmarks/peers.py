"""The networks of other quantization-aware training libraries, each where it is installed.

``pip install -r benchmarks/peers.txt``, into an environment that has bitladder. Each quantizes as
it ships, with ranges from the first images; only the bits are set.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import os
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

_Build: TypeAlias = Callable[[nn.Module, int, Tensor], nn.Module]


def with_brevitas(model: nn.Module, bits: int, images: Tensor) -> nn.Module:
    """Brevitas' graph quantization, batch norms kept, its ranges found before training."""
    os.environ.setdefault("BREVITAS_JIT", "1")  # its compiled quantizers are the faster ones
    from brevitas.graph import calibrate, quantize

    prepared = quantize.preprocess_for_quantize(copy.deepcopy(model), merge_bn=False)
    _chunk_as_function(prepared)
    narrow = {"bit_width": bits}
    layers = _with(quantize.COMPUTE_LAYER_MAP, {"weight_bit_width": bits})
    quantized: nn.Module = quantize.quantize(
        prepared,
        quant_identity_map=_with(quantize.QUANT_IDENTITY_MAP, narrow),
        compute_layer_map=layers,
        quant_act_map=_with(quantize.QUANT_ACT_MAP, narrow),
    )
    with torch.no_grad(), calibrate.calibration_mode(quantized):
        quantized(images[:32])
    return quantized


def _with(layer_map: dict[Any, Any], settings: dict[str, Any]) -> dict[Any, Any]:
    """Brevitas' map of layers with more settings for each kind."""
    return {
        kind: entry and (entry[0], {**entry[1], **settings}) for kind, entry in layer_map.items()
    }


def _chunk_as_function(model: fx.GraphModule) -> None:
    """ShuffleNet's ``x.chunk``: Brevitas' tensors know the function, not the method."""
    for node in model.graph.nodes:
        if node.op == "call_method" and node.target == "chunk":
            node.op, node.target = "call_function", torch.chunk
    model.recompile()


def with_nncf(model: nn.Module, bits: int, images: Tensor) -> nn.Module:
    """NNCF's post-training quantization, whose quantizers can be trained."""
    os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "0")  # it compiles for over a minute
    import nncf
    from nncf.quantization import advanced_parameters as advanced

    width = advanced.QuantizationParameters(num_bits=bits)
    quantized: nn.Module = nncf.quantize(
        copy.deepcopy(model).eval(),
        nncf.Dataset([images[:32].contiguous()]),
        subset_size=1,
        advanced_parameters=advanced.AdvancedQuantizationParameters(
            weights_quantization_params=width, activations_quantization_params=width
        ),
    )
    return quantized


def with_torchao(model: nn.Module, bits: int, images: Tensor) -> nn.Module:
    """torchao's PT2E quantization-aware training for x86."""
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config(is_qat=True)
    activation = dataclasses.replace(config.output_activation, quant_max=2**bits - 1)
    half = 2 ** (bits - 1)
    weight = dataclasses.replace(config.weight, quant_min=-half, quant_max=half - 1)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(
        dataclasses.replace(
            config, input_activation=activation, output_activation=activation, weight=weight
        )
    )
    exported = torch.export.export(copy.deepcopy(model).train(), (images,), strict=True).module()
    prepared: nn.Module = prepare_qat_pt2e(exported, quantizer)
    move_exported_model_to_train(prepared)
    prepared.train = lambda mode=True: prepared  # type: ignore[method-assign,assignment]
    return prepared


PEERS: dict[str, tuple[str, _Build]] = {
    "Brevitas": ("brevitas", with_brevitas),
    "NNCF": ("nncf", with_nncf),
    "torchao PT2E": ("torchao", with_torchao),
}


def installed() -> dict[str, _Build]:
    """The peers that can be imported here, by name."""
    return {
        name: build for name, (module, build) in PEERS.items() if importlib.util.find_spec(module)
    }
