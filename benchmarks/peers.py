"""The networks of other quantization-aware training libraries, each where it is installed.

``pip install -r benchmarks/peers.txt``, into an environment that has bitladder.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn


def with_brevitas(model: nn.Module, images: Tensor) -> nn.Module:
    """Brevitas' graph quantization to 8 bit, batch norms kept."""
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    prepared = preprocess_for_quantize(copy.deepcopy(model), merge_bn=False, equalize_iters=0)
    quantized: nn.Module = quantize(prepared)
    with torch.no_grad():
        quantized.train()(images[:32])
    return quantized


def with_nncf(model: nn.Module, images: Tensor) -> nn.Module:
    """NNCF's post-training quantization to 8 bit, whose quantizers can be trained."""
    import nncf

    quantized: nn.Module = nncf.quantize(
        copy.deepcopy(model).eval(), nncf.Dataset([images[:32].contiguous()]), subset_size=1
    )
    return quantized


def with_torchao(model: nn.Module, images: Tensor) -> nn.Module:
    """torchao's PT2E quantization-aware training for x86."""
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    exported = torch.export.export(copy.deepcopy(model).train(), (images,), strict=True).module()
    prepared: nn.Module = prepare_qat_pt2e(exported, quantizer)
    move_exported_model_to_train(prepared)
    prepared.train = lambda mode=True: prepared  # type: ignore[method-assign,assignment]
    return prepared


PEERS: dict[str, tuple[str, Callable[[nn.Module, Tensor], nn.Module]]] = {
    "Brevitas": ("brevitas", with_brevitas),
    "NNCF": ("nncf", with_nncf),
    "torchao PT2E": ("torchao", with_torchao),
}


def installed() -> dict[str, Callable[[nn.Module, Tensor], nn.Module]]:
    """The peers that can be imported here, by name."""
    return {
        name: build for name, (module, build) in PEERS.items() if importlib.util.find_spec(module)
    }
