"""Linear layers, matrix products and attention."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from conformance.case import Body, Family

family = Family("linear")
C, S = 8, 64


def _flat(layer):
    return Body(lambda m, x: m.layer(x.flatten(1)), layer=layer)


def _tokens(layer):
    return Body(lambda m, x: m.layer(x.flatten(2).transpose(1, 2)), layer=layer)


family.add("plain", "Linear", lambda: _flat(nn.Linear(C * S, 6)), quick=True)
family.add("no_bias", "Linear", lambda: _flat(nn.Linear(C * S, 6, bias=False)))
family.add("relu", "Linear ReLU", lambda: _flat(nn.Sequential(nn.Linear(C * S, 6), nn.ReLU())))
family.add("one_output", "Linear", lambda: _flat(nn.Linear(C * S, 1)), places=("end",))
family.add(
    "batch_norm",
    "Linear BatchNorm1d ReLU",
    lambda: _flat(nn.Sequential(nn.Linear(C * S, 6), nn.BatchNorm1d(6), nn.ReLU())),
)
family.add(
    "dropout_between",
    "Linear Dropout",
    lambda: _flat(
        nn.Sequential(nn.Linear(C * S, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 6))
    ),
)
family.add("tokens", "Linear", lambda: _tokens(nn.Linear(C, 12)), quick=True)
family.add("tokens_no_bias", "Linear", lambda: _tokens(nn.Linear(C, 12, bias=False)))
family.add(
    "tokens_gelu",
    "Linear GELU",
    lambda: _tokens(nn.Sequential(nn.Linear(C, 12), nn.GELU(), nn.Linear(12, C))),
)
family.add(
    "channels_last",
    "Linear",
    lambda: Body(lambda m, x: m.fc(x.permute(0, 2, 3, 1)), fc=nn.Linear(C, 6)),
)
family.add("over_width", "Linear", lambda: nn.Linear(8, 5))
family.add(
    "functional",
    "linear",
    lambda: Body(
        lambda m, x: F.linear(x.flatten(1), m.w, m.b),
        w=nn.Parameter(torch.randn(6, C * S) / 20),
        b=nn.Parameter(torch.randn(6)),
    ),
)
family.add(
    "functional_no_bias",
    "linear",
    lambda: Body(
        lambda m, x: F.linear(x.flatten(1), m.w), w=nn.Parameter(torch.randn(6, C * S) / 20)
    ),
)
family.add(
    "normalized_weights",
    "linear normalize",
    lambda: Body(
        lambda m, x: F.linear(F.normalize(x.flatten(1)), F.normalize(m.w)),
        w=nn.Parameter(torch.randn(6, C * S)),
    ),
)
family.add(
    "bilinear",
    "Bilinear",
    lambda: Body(
        lambda m, x: m.layer(x.flatten(1), x.flatten(1)), layer=nn.Bilinear(C * S, C * S, 3)
    ),
)
family.add(
    "weight_norm",
    "Linear weight_norm",
    lambda: _flat(parametrizations.weight_norm(nn.Linear(C * S, 6))),
)
family.add(
    "called_twice",
    "Linear",
    lambda: Body(
        lambda m, x: m.b(F.relu(m.b(m.a(x.flatten(1))))), a=nn.Linear(C * S, 6), b=nn.Linear(6, 6)
    ),
)
family.add(
    "tied_transposed",
    "linear",
    lambda: Body(lambda m, x: F.linear(m.a(x.flatten(1)), m.a.weight.t()), a=nn.Linear(C * S, 6)),
)
family.add(
    "matmul_parameter",
    "matmul",
    lambda: Body(
        lambda m, x: torch.matmul(x.flatten(1), m.w), w=nn.Parameter(torch.randn(C * S, 6) / 20)
    ),
)
family.add(
    "at_parameter",
    "matmul",
    lambda: Body(
        lambda m, x: x.flatten(1) @ m.w + m.b,
        w=nn.Parameter(torch.randn(C * S, 6) / 20),
        b=nn.Parameter(torch.randn(6)),
    ),
)
family.apply("matmul", "matmul", lambda x: x @ x.transpose(2, 3), quick=True)
family.apply("matmul_method", "matmul", lambda x: x.matmul(x.transpose(-1, -2)))
family.apply("bmm", "bmm", lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)))
family.apply(
    "baddbmm",
    "baddbmm",
    lambda x: torch.baddbmm(x[:, :, :8, 0], x.flatten(2), x.flatten(2).transpose(1, 2)),
)
family.add(
    "addmm",
    "addmm",
    lambda: Body(
        lambda m, x: torch.addmm(m.b, x.flatten(1), m.w),
        w=nn.Parameter(torch.randn(C * S, 6) / 20),
        b=nn.Parameter(torch.randn(6)),
    ),
)
family.apply("einsum_gram", "einsum", lambda x: torch.einsum("nchw,ndhw->ncd", x, x) / 64)
family.add(
    "einsum_parameter",
    "einsum",
    lambda: Body(
        lambda m, x: torch.einsum("nchw,cd->ndhw", x, m.w), w=nn.Parameter(torch.randn(C, 6))
    ),
)
family.apply("einsum_transpose", "einsum", lambda x: torch.einsum("nchw->nhwc", x))
family.apply(
    "cosine_similarity",
    "cosine_similarity",
    lambda x: F.cosine_similarity(x[:, :4], x[:, 4:], dim=1),
)
