"""One operation as people spell it: names for arguments, changes in place, functions, aliases."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("spelling")
C = 8

for _name, _operation, _compute in (
    ("relu", "relu", lambda x: F.relu(input=x)),
    ("relu6_inplace", "relu6", lambda x: F.relu6(x, True) + x),
    ("add", "add", lambda x: torch.add(input=x, other=x[:, :1])),
    ("add_alpha", "add", lambda x: torch.add(x, other=x, alpha=3)),
    ("sub_alpha_number", "sub", lambda x: torch.sub(input=x, other=2, alpha=0.5)),
    ("rsub_alpha", "rsub", lambda x: torch.rsub(x, x[:, :1], alpha=2)),
    ("mul", "mul", lambda x: torch.mul(input=x, other=0.5)),
    ("div_floor", "div", lambda x: torch.div(input=3 * x, other=1.0, rounding_mode="floor")),
    ("pow", "pow", lambda x: torch.pow(input=x, exponent=2)),
    ("clamp", "clamp", lambda x: torch.clamp(input=x, min=-0.5, max=0.5)),
    ("clamp_max", "clamp_max", lambda x: x.clamp_max(max=0.5)),
    ("clamp_min", "clamp_min", lambda x: torch.clamp_min(x, min=0)),
    ("hardtanh", "hardtanh", lambda x: F.hardtanh(input=x, min_val=-0.5)),
    ("reshape", "reshape", lambda x: x.reshape(shape=(-1, 8, 64))),
    ("flatten", "flatten", lambda x: torch.flatten(input=x, start_dim=1)),
    ("permute", "permute", lambda x: x.permute(dims=(0, 2, 3, 1))),
    ("transpose", "transpose", lambda x: x.transpose(dim0=1, dim1=2)),
    ("mean_axis", "mean", lambda x: x.mean(axis=(2, 3), keepdims=True)),
    ("sum", "sum", lambda x: torch.sum(input=x, dim=1)),
    ("max", "max", lambda x: torch.max(input=x, dim=1).values),
    ("softmax", "softmax", lambda x: F.softmax(input=x, dim=1)),
    ("max_pool", "max_pool2d", lambda x: F.max_pool2d(input=x, kernel_size=2)),
    ("avg_pool", "avg_pool2d", lambda x: F.avg_pool2d(input=x, kernel_size=2, stride=1)),
    ("adaptive", "adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(input=x, output_size=1)),
    ("resize", "interpolate", lambda x: F.interpolate(input=x, scale_factor=2.0, mode="nearest")),
    ("pad", "pad", lambda x: F.pad(input=x, pad=(1, 1, 1, 1), value=1.5)),
    ("cat", "cat", lambda x: torch.cat(tensors=[x, F.relu(x)], dim=1)),
    ("stack", "stack", lambda x: torch.stack(tensors=(x, x), dim=2)),
    ("split", "split", lambda x: torch.split(tensor=x, split_size_or_sections=2, dim=1)[1]),
    ("split_method", "split", lambda x: x.split(split_size=4, dim=1)[1]),
    ("chunk", "chunk", lambda x: x.chunk(chunks=2, dim=1)[0]),
    ("squeeze", "squeeze", lambda x: x.mean(1, True).squeeze(dim=1)),
    ("where", "where", lambda x: torch.where(condition=x > 0, input=x, other=0.1 * x)),
    ("where_method", "where", lambda x: x.where(x > 0, 0.1 * x)),
    ("matmul", "matmul", lambda x: torch.matmul(input=x, other=x.transpose(2, 3))),
    ("leaky", "leaky_relu", lambda x: F.leaky_relu(input=x, negative_slope=0.2)),
    ("gelu", "gelu", lambda x: F.gelu(x, approximate="tanh")),
    ("relu_in_place", "relu", lambda x: (lambda y: (y.relu_(), y)[1])(x + 1)),
    ("add_in_place", "add", lambda x: (lambda y: (y.add_(1), y * 2)[1])(x * 0.5)),
    ("view_in_place", "relu flatten", lambda x: (lambda y: (y.flatten(1).relu_(), y)[1])(x + 0.1)),
    ("view_alone", "relu flatten", lambda x: x.flatten(1).relu_()),
    ("part_in_place", "add put", lambda x: (lambda y: (y[:, :2].add_(1), y)[1])(x * 1.0)),
    ("clamp_in_place", "clamp", lambda x: (x * 2).clamp_(-1, 1)),
    ("mul_in_place_under_views", "mul", lambda x: (lambda y: y.view(-1, 512).mul_(2))(x + 1)),
    ("vstack", "vstack", lambda x: torch.dstack([x, F.relu(x)])),
    ("column_stack", "column_stack", lambda x: torch.column_stack([x, x * 2])),
    ("fliplr", "fliplr", lambda x: torch.fliplr(x)),
    ("triu", "triu", lambda x: torch.triu(x, diagonal=1)),
    ("rot90_back", "rot90", lambda x: torch.rot90(x, -1, [2, 3])),
    ("rot90_half", "rot90", lambda x: x.rot90(2, (2, 3))),
    ("topk_channels", "topk", lambda x: x.topk(3, dim=1, largest=False).values),
    ("sort_descending", "sort", lambda x: torch.sort(x, dim=1, descending=True)[0]),
    ("gather", "gather argsort", lambda x: x.gather(1, x.argsort(1))),
    ("unfold_method", "unfold", lambda x: x.unfold(2, 3, 2)),
    ("unfold_patches", "unfold", lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2)),
    ("index_mask", "getitem", lambda x: x[:, torch.tensor([True, False] * 4)]),
    ("index_list_and_slice", "getitem", lambda x: x[:, [0, 2], 1:-1, ::2]),
    ("index_negative", "getitem", lambda x: x[:, [-1, 0]]),
    ("logsumexp_keep", "logsumexp", lambda x: torch.logsumexp(x, (2, 3), keepdim=True)),
    ("vector_norm_max", "vector_norm", lambda x: torch.linalg.vector_norm(x, float("inf"), 1)),
    ("std_mean", "std_mean", lambda x: torch.cat(torch.std_mean(x, (2, 3)), 1)),
    ("masked_fill_method", "masked_fill", lambda x: x.masked_fill(mask=x < 0, value=0.25)),
    ("trunc", "trunc", lambda x: torch.trunc(3 * x)),
    ("tan", "tan", lambda x: torch.tan(x.clamp(-1, 1))),
    ("acos", "acos", lambda x: torch.acos(x.clamp(-0.9, 0.9))),
    ("sinh", "sinh cosh", lambda x: torch.sinh(x) - torch.cosh(x)),
    ("exp2", "exp2", lambda x: torch.exp2(x)),
    ("logaddexp", "logaddexp", lambda x: torch.logaddexp(x, 2 * x)),
    ("logical_xor", "logical_xor bool where", lambda x: torch.where((x > 0) ^ (x > 1), x, -x)),
    ("dropouts", "dropout1d", lambda x: F.dropout2d(F.dropout(x, 0.5, False), 0.5, False)),
    ("lrn", "local_response_norm", lambda x: F.local_response_norm(x, size=3, alpha=1e-2)),
    ("instance_norm", "instance_norm", lambda x: F.instance_norm(x, eps=1e-3)),
    ("layer_norm", "layer_norm", lambda x: F.layer_norm(x, (8, 8))),
    ("rms_norm", "rms_norm", lambda x: F.rms_norm(x, [8])),
    ("lp_pool", "lp_pool2d", lambda x: F.lp_pool2d(x, norm_type=2, kernel_size=2)),
    ("pixel_shuffle", "pixel_shuffle", lambda x: F.pixel_shuffle(input=x, upscale_factor=2)),
    ("windows_and_back", "unfold fold", lambda x: F.fold(F.unfold(x, 2, stride=2), 8, 2, stride=2)),
    ("sizes", "size", lambda x: (lambda b, c, h, w: x.view(b, c * h, w))(*x.shape)),
    ("sizes_of_half", "size", lambda x: x[..., : x.size(-2) // 2, : int(x.shape[-1] / 2)]),
    ("full_of_batch", "full cat", lambda x: torch.cat([x, torch.full((len(x), 1, 8, 8), 0.5)], 1)),
):
    family.apply(_name, _operation, _compute, quick=_name in ("relu6_inplace", "view_in_place"))

family.add(
    "module",
    "Conv2d",
    lambda: Body(lambda m, x: m.conv(input=x), conv=nn.Conv2d(C, 6, 3)),
)
family.add(
    "conv",
    "conv2d",
    lambda: Body(
        lambda m, x: F.conv2d(input=x, weight=m.w, bias=m.b, padding=1, groups=2),
        w=nn.Parameter(torch.randn(6, 4, 3, 3)),
        b=nn.Parameter(torch.randn(6)),
    ),
)
family.add(
    "layer_norm_of_parameters",
    "layer_norm",
    lambda: Body(
        lambda m, x: F.layer_norm(x, normalized_shape=[8], weight=m.w, eps=1e-6),
        w=nn.Parameter(torch.rand(8) + 0.5),
    ),
)
family.add(
    "rms_norm_of_parameters",
    "rms_norm",
    lambda: Body(lambda m, x: F.rms_norm(x, (8,), weight=m.w), w=nn.Parameter(torch.rand(8) + 0.5)),
)
family.add(
    "instance_norm_of_parameters",
    "instance_norm",
    lambda: Body(
        lambda m, x: F.instance_norm(x, weight=m.w, bias=m.b),
        w=nn.Parameter(torch.rand(8) + 0.5),
        b=nn.Parameter(torch.randn(8)),
    ),
)
family.add(
    "relu_module_under_a_view",
    "ReLU view",
    lambda: Body(
        lambda m, x: (lambda y: (lambda v: m.relu(y).mean((2, 3)) + v.mean(2))(y.flatten(2)))(
            m.conv(x)
        ),
        conv=nn.Conv2d(C, C, 1),
        relu=nn.ReLU(inplace=True),
    ),
)
