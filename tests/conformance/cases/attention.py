"""Attention in the forms that networks for images have."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("attention")
C = 8
SMALL = (3, 4, 4)


def _tokens(x):
    return x.flatten(2).transpose(1, 2)


def _written_out(heads):
    def compute(m, x):
        n, c, h, w = x.shape
        q, k, v = m.qkv(x).reshape(n, 3, heads, c // heads, h * w).unbind(1)
        attention = (q.transpose(-2, -1) @ k * (c // heads) ** -0.5).softmax(-1)
        return m.out((v @ attention.transpose(-2, -1)).reshape(n, c, h, w))

    return Body(compute, qkv=nn.Conv2d(C, 3 * C, 1), out=nn.Conv2d(C, C, 1))


def _timm(heads):
    def compute(m, x):
        x = _tokens(x)
        b, n, c = x.shape
        qkv = m.qkv(x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return m.out(x.transpose(1, 2).reshape(b, n, c))

    return Body(compute, qkv=nn.Linear(C, 3 * C), out=nn.Linear(C, C))


def _multihead(**settings):
    attention = nn.MultiheadAttention(C, 2, batch_first=True, **settings)
    return Body(
        lambda m, x: m.a(_tokens(x), _tokens(x), _tokens(x), need_weights=False)[0], a=attention
    )


def _linear_attention(m, x):
    q, k, v = m.qkv(x).flatten(2).chunk(3, 1)
    return (v @ k.softmax(-1).transpose(1, 2)) @ q.softmax(1)


def _token_body():
    """Patches, a class token, positions, an encoder layer, the token out."""
    return Body(
        lambda m, x: m.layer(
            torch.cat([m.token.expand(x.shape[0], -1, -1), _tokens(m.patch(x))], 1) + m.place
        )[:, 0],
        patch=nn.Conv2d(C, C, 2, stride=2),
        token=nn.Parameter(torch.randn(1, 1, C)),
        place=nn.Parameter(torch.randn(1, 5, C)),
        layer=nn.TransformerEncoderLayer(C, 2, 16, batch_first=True, norm_first=True),
    )


family.add(
    "written_out", "matmul softmax unbind reshape", lambda: _written_out(2), shape=SMALL, quick=True
)
family.add(
    "written_out_one_head", "matmul softmax unbind reshape", lambda: _written_out(1), shape=SMALL
)
family.add("scaled_dot_product", "scaled_dot_product_attention", lambda: _timm(2), shape=SMALL)
family.apply(
    "scaled_dot_product_alone",
    "scaled_dot_product_attention",
    lambda x: F.scaled_dot_product_attention(x, x, x),
    shape=SMALL,
)
family.apply(
    "scaled_dot_product_causal",
    "scaled_dot_product_attention",
    lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    shape=SMALL,
)
family.apply(
    "scaled_dot_product_scale",
    "scaled_dot_product_attention",
    lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
    shape=SMALL,
)
family.add("multihead", "MultiheadAttention", _multihead, shape=SMALL)
family.add("multihead_no_bias", "MultiheadAttention", lambda: _multihead(bias=False), shape=SMALL)
family.add(
    "linear_attention",
    "softmax chunk matmul",
    lambda: Body(_linear_attention, qkv=nn.Conv2d(C, 3 * C, 1)),
    shape=SMALL,
)
family.add(
    "encoder_layer",
    "TransformerEncoderLayer",
    lambda: Body(
        lambda m, x: m.layer(_tokens(x)),
        layer=nn.TransformerEncoderLayer(C, 2, 16, batch_first=True),
    ),
    shape=SMALL,
)
family.add("class_token", "expand cat TransformerEncoderLayer", _token_body, shape=SMALL)
family.add(
    "encoder",
    "TransformerEncoder",
    lambda: Body(
        lambda m, x: m.encoder(_tokens(x)),
        encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(C, 2, 16, batch_first=True, activation="gelu"),
            2,
            norm=nn.LayerNorm(C),
            enable_nested_tensor=False,
        ),
    ),
    shape=SMALL,
)
family.add("multihead_causal", "MultiheadAttention", lambda: _causal(torch.float32), shape=SMALL)
family.add("multihead_hidden", "MultiheadAttention", lambda: _causal(torch.bool), shape=SMALL)
family.apply(
    "scaled_dot_product_hidden",
    "scaled_dot_product_attention",
    lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(4, 4).tril().bool()),
    shape=SMALL,
)
family.apply(
    "scores_filled",
    "masked_fill softmax matmul",
    lambda x: (
        (
            (x @ x.transpose(-2, -1)).masked_fill(torch.ones(4, 4).triu(1) == 1, float("-inf"))
        ).softmax(-1)
        @ x
    ),
    shape=SMALL,
)
family.add("scores_with_mask", "add softmax", lambda: _windows_with_mask(), shape=SMALL)
family.add(
    "spatial_gate",
    "mean amax sigmoid mul",
    lambda: Body(
        lambda m, x: (
            x
            * torch.sigmoid(
                m.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))
            )
        ),
        conv=nn.Conv2d(2, 1, 3, padding=1),
    ),
)
family.add(
    "channel_gate",
    "AdaptiveAvgPool2d Sigmoid mul",
    lambda: Body(
        lambda m, x: x * m.gate(x),
        gate=nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Conv2d(4, C, 1), nn.Sigmoid()
        ),
    ),
)
family.add(
    "efficient_channel_gate",
    "mean Conv1d sigmoid expand_as",
    lambda: Body(
        lambda m, x: (
            x
            * torch.sigmoid(m.conv(x.mean((2, 3)).unsqueeze(1)))
            .view(x.shape[0], -1, 1, 1)
            .expand_as(x)
        ),
        conv=nn.Conv1d(1, 1, 3, padding=1),
    ),
)


def _causal(kind):
    hidden = torch.ones(16, 16).triu(1)
    body = _multihead()
    body.compute = lambda m, x: m.a(
        _tokens(x), _tokens(x), _tokens(x), attn_mask=m.mask, need_weights=False
    )[0]
    mask = hidden.bool() if kind is torch.bool else hidden.masked_fill(hidden == 1, -torch.inf)
    body.register_buffer("mask", mask)
    return body


def _windows_with_mask():
    """Scores plus a mask of 0 and -100, as a Swin transformer has."""
    body = Body(lambda m, x: (x @ x.transpose(-2, -1) + m.mask).softmax(-1) @ x)
    body.register_buffer("mask", -100.0 * (torch.rand(1, 1, 4, 4) > 0.5) * (1 - torch.eye(4)))
    return body
