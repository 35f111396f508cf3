"""Operations that move values: views, permutations, slices, joins, rolls; sizes in forward."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("shape")
C = 8


def _shuffle(x, groups=2):
    b, c, h, w = x.size()
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


def _shuffle_by_product(x):
    b, c, h, w = x.shape
    x = x.reshape(b * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
    return torch.cat([x[0], x[1]], 1)


def _attention_windows(x, size=4):
    b, c, h, w = x.shape
    x = x.view(b, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(b * (h // size) * (w // size), size * size, c).view(b, -1, c)


for _name, _operations, _compute in (
    ("flatten", "flatten", lambda x: x.flatten(1)),
    ("flatten_torch", "flatten", lambda x: torch.flatten(x, 2, 3)),
    ("flatten_negative", "flatten", lambda x: x.flatten(-2)),
    ("view_size_0", "view size", lambda x: x.view(x.size(0), -1)),
    ("view_shape", "view getattr", lambda x: x.view(x.shape[0], x.shape[1], -1)),
    ("view_minus_one_first", "view", lambda x: x.view(-1, 8 * 64)),
    ("reshape", "reshape", lambda x: x.reshape(-1, 8, 64)),
    ("reshape_tuple", "reshape", lambda x: torch.reshape(x, (x.size(0), 4, 2, 8, 8))),
    (
        "reshape_batch_groups",
        "reshape",
        lambda x: F.relu(x.reshape(x.shape[0] * 2, 4, 8, 8)).reshape(x.shape[0], 8, 8, 8),
    ),
    ("reshape_by_len", "reshape len", lambda x: x.reshape(x.size()[0], -1)),
    ("unflatten", "unflatten", lambda x: x.unflatten(1, (2, 4))),
    ("permute", "permute", lambda x: x.permute(0, 2, 3, 1)),
    ("permute_torch", "permute", lambda x: torch.permute(x, (0, 3, 1, 2))),
    ("transpose", "transpose", lambda x: x.transpose(1, 2)),
    ("transpose_negative", "transpose", lambda x: torch.transpose(x, -1, -2)),
    ("swapaxes", "swapaxes", lambda x: x.swapaxes(1, 3)),
    ("movedim", "movedim", lambda x: x.movedim(1, -1)),
    ("mt", "mT", lambda x: x.mT),
    ("squeeze", "squeeze", lambda x: x.mean(1, keepdim=True).squeeze(1)),
    ("unsqueeze", "unsqueeze", lambda x: x.unsqueeze(2)),
    ("unsqueeze_squeeze", "unsqueeze squeeze", lambda x: x[:, None].squeeze(1)),
    ("cat", "cat", lambda x: torch.cat([x, x * 0.1], 1)),
    ("cat_same", "cat", lambda x: torch.cat([x, x], dim=1)),
    ("cat_height", "cat", lambda x: torch.cat((x, F.relu(x)), 2)),
    ("cat_negative", "cat", lambda x: torch.cat([x, x[..., :3]], -1)),
    ("cat_three", "cat", lambda x: torch.cat([x, torch.sigmoid(x), F.relu6(x)], 1)),
    ("cat_of_one", "cat", lambda x: torch.cat([x], 1)),
    ("concat", "concat Concat", lambda x: torch.concat([x, x + 1], 1)),
    ("stack", "stack", lambda x: torch.stack([x, 2 * x], 1)),
    ("stack_last", "stack", lambda x: torch.stack((x, x), -1)),
    ("hstack", "hstack", lambda x: torch.hstack([x, x])),
    ("split_int", "split", lambda x: torch.cat(x.split(4, 1)[::-1], 1)),
    (
        "split_list",
        "split",
        lambda x: (lambda parts: parts[0].mean(1, keepdim=True) + parts[1])(
            torch.split(x, [3, 5], 1)
        ),
    ),
    ("split_unpacked", "split", lambda x: (lambda a, b: a - b)(*torch.split(x, 4, 1))),
    ("chunk", "chunk", lambda x: (lambda a, b: torch.cat([b, F.relu(a)], 1))(*x.chunk(2, 1))),
    ("chunk_list", "chunk", lambda x: torch.cat(list(x.chunk(4, 1)), 1)),
    ("chunk_loop", "chunk", lambda x: sum(part for part in x.chunk(4, 1))),
    ("chunk_uneven", "chunk", lambda x: torch.chunk(x, 3, 1)[2]),
    ("tensor_split", "tensor_split", lambda x: torch.tensor_split(x, 3, 1)[0]),
    ("unbind", "unbind", lambda x: x.unbind(1)[3]),
    ("unbind_stack", "unbind stack", lambda x: torch.stack(x.unbind(1)[::-1], 1)),
    ("expand", "expand", lambda x: x.mean(1, keepdim=True).expand(-1, 8, -1, -1)),
    (
        "expand_batch",
        "expand size",
        lambda x: x.mean((2, 3), keepdim=True).expand(x.shape[0], 8, 8, 8),
    ),
    ("expand_as", "expand_as", lambda x: x[:, :1].expand_as(x)),
    ("broadcast_to", "broadcast_to", lambda x: torch.broadcast_to(x[:, :1], (x.shape[0], 8, 8, 8))),
    ("repeat", "repeat", lambda x: x.repeat(1, 2, 1, 1)),
    ("repeat_all", "repeat", lambda x: x.repeat(1, 1, 2, 3)),
    ("tile", "tile", lambda x: x.tile((1, 2, 1, 1))),
    ("repeat_interleave", "repeat_interleave", lambda x: x.repeat_interleave(2, 1)),
    ("roll", "roll", lambda x: torch.roll(x, 1, 1)),
    ("roll_two", "roll", lambda x: torch.roll(x, shifts=(-2, 3), dims=(2, 3))),
    ("flip", "flip", lambda x: x.flip(3)),
    ("flip_two", "flip", lambda x: torch.flip(x, [2, 3])),
    ("rot90", "rot90", lambda x: torch.rot90(x, 1, (2, 3))),
    ("slice", "getitem", lambda x: x[:, 2:6]),
    ("slice_step", "getitem", lambda x: x[:, ::2]),
    ("slice_space", "getitem", lambda x: x[:, :, 1::2, ::2]),
    ("slice_negative", "getitem", lambda x: x[:, :, -3:, :-1]),
    ("slice_ellipsis", "getitem", lambda x: x[..., 1:-1]),
    ("slice_int", "getitem", lambda x: x[:, 3]),
    ("slice_int_negative", "getitem", lambda x: x[:, :, -1]),
    ("slice_none", "getitem", lambda x: x[:, None, 2:4]),
    ("slice_list", "getitem", lambda x: x[:, [0, 3, 5]]),
    ("slice_by_shape", "getitem", lambda x: x[:, : x.shape[1] // 2]),
    (
        "space_to_depth_by_slices",
        "getitem cat",
        lambda x: torch.cat(
            [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1
        ),
    ),
    ("select", "select", lambda x: x.select(1, 2)),
    ("narrow", "narrow", lambda x: x.narrow(2, 1, 4)),
    ("index_select", "index_select", lambda x: torch.index_select(x, 1, torch.tensor([2, 0, 1]))),
    ("gather_first", "take", lambda x: x[:, torch.tensor([1, 1, 6])]),
    ("pixel_shuffle", "pixel_shuffle", lambda x: F.pixel_shuffle(x, 2)),
    ("pixel_unshuffle", "pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2)),
    ("channel_shuffle_by_view", "view transpose", _shuffle),
    ("channel_shuffle_by_product", "reshape permute", _shuffle_by_product),
    ("channel_shuffle", "channel_shuffle", lambda x: F.channel_shuffle(x, 4)),
    ("windows", "view permute reshape", _attention_windows),
    (
        "einops_like",
        "reshape permute",
        lambda x: x.reshape(x.shape[0], 8, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).flatten(1, 3),
    ),
    ("t", "t", lambda x: x.mean((2, 3)).t().t()),
    ("tril", "tril", lambda x: torch.tril(x)),
    ("reads_sizes", "size", lambda x: x * (x.size(2) / 16)),
    ("reads_dim", "dim", lambda x: x.flatten(1) if x.dim() == 4 else x),
    ("several_outputs", "tuple", lambda x: (F.relu(x), x.mean((2, 3)))),
    ("meshgrid", "arange meshgrid", lambda x: x + torch.arange(8.0).view(1, 1, 1, 8) / 8),
):
    family.apply(
        _name,
        _operations,
        _compute,
        quick=_name
        in (
            "reshape_batch_groups",
            "expand_batch",
            "cat_three",
            "channel_shuffle_by_view",
            "slice_step",
            "stack",
        ),
    )

family.add("flatten_module", "Flatten", nn.Flatten)
family.add("unflatten_module", "Unflatten", lambda: nn.Unflatten(1, (4, 2)))
family.add("pixel_shuffle_module", "PixelShuffle", lambda: nn.PixelShuffle(2))
family.add("pixel_unshuffle_module", "PixelUnshuffle", lambda: nn.PixelUnshuffle(2))
family.add(
    "pixel_shuffle_conv",
    "Conv2d PixelShuffle",
    lambda: nn.Sequential(nn.Conv2d(C, 12, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()),
)
family.add(
    "cat_of_images",
    "cat",
    lambda: Body(lambda m, x: torch.cat([x, m.conv(x)], 1), conv=nn.Conv2d(3, 4, 3, padding=1)),
    front="none",
)
family.add(
    "cat_of_parameter",
    "cat expand",
    lambda: Body(
        lambda m, x: torch.cat([m.p.expand(x.shape[0], -1, -1), x.flatten(2)], 1),
        p=nn.Parameter(torch.randn(1, 2, 64)),
    ),
)
family.add(
    "cat_of_constant",
    "cat zeros",
    lambda: Body(lambda m, x: torch.cat([x, torch.zeros_like(x[:, :2])], 1)),
)
family.add("coordinates", "cat buffer", lambda: _coordinates())
family.add("shuffle_of_relu", "view transpose ReLU", lambda: Body(lambda m, x: F.relu(_shuffle(x))))
family.add(
    "argmin",
    "argmin",
    lambda: Body(lambda m, x: x.argmin(1).float()),
    places=("end",),
)
family.add(
    "embedding",
    "Embedding arange add",
    lambda: Body(lambda m, x: x + m.places(torch.arange(8)), places=nn.Embedding(8, 8)),
)
family.add(
    "argmax",
    "argmax",
    lambda: Body(lambda m, x: x.argmax(1).float()),
    places=("end",),
)
family.add("topk", "topk", lambda: Body(lambda m, x: x.flatten(1).topk(5)[0]))
family.add("sort", "sort", lambda: Body(lambda m, x: x.flatten(1).sort()[0]))
family.add(
    "data_dependent",
    "if",
    lambda: Body(lambda m, x: x if x.sum() > 0 else -x),
    refused="torch.fx cannot trace",
    places=("end",),
)


def _coordinates():
    body = Body(
        lambda m, x: m.conv(torch.cat([x, m.grid.expand(x.size(0), -1, -1, -1)], 1)),
        conv=nn.Conv2d(C + 2, 4, 3),
    )
    rows = torch.linspace(-1, 1, 8)
    body.register_buffer("grid", torch.stack(torch.meshgrid(rows, rows, indexing="ij"))[None])
    return body
