"""Reductions over space, channels and several axes."""

import torch
from torch.nn import functional as F

from conformance.case import Family

family = Family("reduction")

for _name, _operation, _compute in (
    ("mean_space", "mean", lambda x: x.mean((2, 3))),
    ("mean_space_list", "mean", lambda x: x.mean([2, 3])),
    ("mean_space_keep", "mean", lambda x: x.mean((2, 3), keepdim=True)),
    ("mean_negative", "mean", lambda x: x.mean(dim=(-2, -1))),
    ("mean_torch", "mean", lambda x: torch.mean(x, dim=[2, 3])),
    ("mean_one_axis", "mean", lambda x: x.mean(2)),
    ("mean_twice", "mean", lambda x: x.mean(-1).mean(-1)),
    ("mean_channels", "mean", lambda x: x.mean(1, keepdim=True)),
    ("mean_all_but_batch", "mean", lambda x: x.mean((1, 2, 3)).unsqueeze(1)),
    ("mean_keywords", "mean", lambda x: torch.mean(input=x, dim=(2, 3), keepdim=False)),
    ("mean_relu", "mean ReLU", lambda x: F.relu(x.mean((2, 3)))),
    ("mean_tokens", "mean", lambda x: x.flatten(2).transpose(1, 2).mean(1)),
    ("sum_space", "sum", lambda x: x.sum((2, 3))),
    ("sum_channels", "sum", lambda x: x.sum(1)),
    ("sum_keep", "sum", lambda x: torch.sum(x, 1, keepdim=True)),
    ("max_axis", "max", lambda x: x.max(1)[0]),
    ("max_values", "max", lambda x: torch.max(x, dim=2, keepdim=True).values),
    ("amax", "amax", lambda x: x.amax((2, 3))),
    ("amax_keep", "amax", lambda x: torch.amax(x, 1, keepdim=True)),
    ("amin", "amin", lambda x: x.amin(1)),
    ("min_axis", "min", lambda x: x.min(3)[0]),
    ("var", "var", lambda x: x.var((2, 3), unbiased=False)),
    ("var_unbiased", "var", lambda x: x.var(1, keepdim=True)),
    ("std", "std", lambda x: x.std((2, 3))),
    ("var_mean", "var_mean", lambda x: (lambda v, m: v + m)(*torch.var_mean(x, (2, 3)))),
    ("norm", "norm", lambda x: x.norm(dim=1)),
    ("vector_norm", "norm", lambda x: torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)),
    ("prod", "prod", lambda x: x[:, :2].prod(1)),
    ("logsumexp", "logsumexp", lambda x: x.logsumexp(1)),
    ("cumsum", "cumsum", lambda x: x.cumsum(2)),
    (
        "standardized",
        "mean std",
        lambda x: (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-3),
    ),
    (
        "generalized_mean",
        "clamp pow avg_pool2d",
        lambda x: F.avg_pool2d(x.clamp(min=1e-3).pow(3.0), 8).pow(1 / 3.0),
    ),
    (
        "softargmax",
        "softmax mul sum",
        lambda x: (x.flatten(2).softmax(-1) * torch.linspace(0, 1, 64)).sum(-1),
    ),
):
    family.apply(_name, _operation, _compute, quick=_name in ("mean_space", "amax", "sum_channels"))
