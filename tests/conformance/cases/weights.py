"""Weights that are parametrized, pruned, standardized, shared or tied."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from conformance.case import Body, Family

family = Family("weights")
C = 8


# parametrized, pruned, standardized
def _standardized():
    class Standardized(nn.Conv2d):
        """Weight standardization (Qiao et al. 2019, arXiv 1903.10520)."""

        def forward(self, x):
            w = self.weight
            w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
            return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)

    return Standardized(C, 6, 3, padding=1)


def _pruned(remove):
    layer = nn.Conv2d(C, 6, 3, padding=1)
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.ln_structured(layer, "weight", 0.3, n=2, dim=0)
    if remove:
        prune.remove(layer, "weight")
    return nn.Sequential(layer, nn.ReLU())


family.add(
    "weight_norm",
    "Conv2d weight_norm",
    lambda: parametrizations.weight_norm(nn.Conv2d(C, 6, 3, padding=1)),
    quick=True,
)
family.add(
    "weight_norm_old", "Conv2d weight_norm", lambda: nn.utils.weight_norm(nn.Conv2d(C, 6, 3))
)
family.add(
    "spectral_norm",
    "Conv2d spectral_norm",
    lambda: parametrizations.spectral_norm(nn.Conv2d(C, 6, 3)),
)
family.add(
    "spectral_norm_old", "Conv2d spectral_norm", lambda: nn.utils.spectral_norm(nn.Conv2d(C, 6, 3))
)
family.add(
    "orthogonal", "Conv2d orthogonal", lambda: parametrizations.orthogonal(nn.Conv2d(C, 6, 1))
)
family.add("pruned", "Conv2d prune", lambda: _pruned(False))
family.add("pruned_removed", "Conv2d prune", lambda: _pruned(True))
family.add(
    "weight_norm_batch_norm",
    "Conv2d weight_norm BatchNorm2d",
    lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(C, 6, 3)), nn.BatchNorm2d(6), nn.ReLU()
    ),
)
family.add(
    "weight_norm_transposed",
    "ConvTranspose2d weight_norm",
    lambda: parametrizations.weight_norm(nn.ConvTranspose2d(C, 6, 2, stride=2)),
)
family.add("weight_standardized", "Conv2d", _standardized)
family.add("lazy", "Conv2d LazyConv2d", lambda: _lazy())


def _lazy():
    layer = nn.LazyConv2d(6, 3)
    layer(torch.zeros(1, C, 8, 8))
    return layer


# shared weights
def _tied():
    a, b = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)
    b.weight = a.weight
    return Body(lambda m, x: m.b(F.relu(m.a(x))), a=a, b=b)


def _tied_all():
    a, b = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)
    b.weight, b.bias = a.weight, a.bias
    return Body(lambda m, x: m.a(x) + m.b(x.flip(3)), a=a, b=b)


family.add(
    "called_twice",
    "Conv2d",
    lambda: Body(lambda m, x: m.conv(F.relu(m.conv(x))), conv=nn.Conv2d(C, C, 3, padding=1)),
    quick=True,
)
family.add(
    "called_on_two_inputs",
    "Conv2d",
    lambda: Body(
        lambda m, x: m.conv(x[:, :4]) - m.conv(x[:, 4:]), conv=nn.Conv2d(4, 4, 3, padding=1)
    ),
)
family.add(
    "called_thrice_relu_shared",
    "Conv2d ReLU",
    lambda: Body(
        lambda m, x: m.relu(m.conv(m.relu(m.conv(m.relu(m.conv(x)))))),
        conv=nn.Conv2d(C, C, 3, padding=1),
        relu=nn.ReLU(),
    ),
)
family.add(
    "block_called_twice",
    "Conv2d BatchNorm2d",
    lambda: Body(
        lambda m, x: m.block(m.block(x)),
        block=nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.BatchNorm2d(C), nn.ReLU()),
    ),
)
family.add("tied_weights", "Conv2d", _tied)
family.add("tied_weights_and_bias", "Conv2d", _tied_all)
family.add(
    "module_under_two_names",
    "Conv2d",
    lambda: (lambda conv: Body(lambda m, x: m.a(x) + m.b(x), a=conv, b=conv))(nn.Conv2d(C, 6, 3)),
)
family.add(
    "transposed_tied_to_conv",
    "Conv2d ConvTranspose2d conv_transpose2d",
    lambda: Body(lambda m, x: F.conv_transpose2d(F.relu(m.a(x)), m.a.weight), a=nn.Conv2d(C, 6, 3)),
)
