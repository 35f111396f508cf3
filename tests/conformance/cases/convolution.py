"""Convolutions, transposed ones, and their weights in every form PyTorch has."""

import torch
from torch import nn
from torch.nn import functional as F

from conformance.case import Body, Family

family = Family("convolution")
C = 8


def _conv(name, quick=False, **attributes):
    settings = {"in_channels": C, "out_channels": 6, "kernel_size": 3, **attributes}
    family.layer(name, "Conv2d", lambda: nn.Conv2d(**settings), quick=quick)


_conv("plain", padding=1, quick=True)
_conv("no_padding_no_bias", bias=False)
_conv("pointwise", kernel_size=1)
_conv("stride", stride=2, padding=1)
_conv("stride_beyond_kernel", kernel_size=1, stride=3)
_conv("dilated", dilation=2, padding=2)
_conv("asymmetric_kernel", kernel_size=(1, 5), padding=(0, 2))
_conv("strides_differ", stride=(2, 1), dilation=(1, 2))
_conv("same", padding="same", quick=True)
_conv("same_even_kernel", kernel_size=4, padding="same")
_conv("valid", padding="valid")
_conv("groups", out_channels=12, groups=4, padding=1)
_conv("depthwise", out_channels=8, groups=8, padding=1, bias=False)
_conv("depthwise_multiplier", out_channels=16, groups=8, padding=1)
_conv("padding_reflect", padding=1, padding_mode="reflect")
_conv("padding_replicate", padding=2, padding_mode="replicate")
_conv("padding_circular", padding=1, padding_mode="circular")
_conv("whole_image", kernel_size=8)


def _dead(bias, activation, scale=0.0, layer=None):
    layer = layer or nn.Conv2d(C, 6, 3, padding=1)
    with torch.no_grad():
        layer.weight[0] *= scale
        layer.bias[0] = bias
    return nn.Sequential(layer, activation)


family.add("dead_channel_relu", "Conv2d ReLU", lambda: _dead(2.5, nn.ReLU()), quick=True)
family.add("dead_channel_relu6", "Conv2d ReLU6", lambda: _dead(2.5, nn.ReLU6()))
family.add("dead_channel", "Conv2d", lambda: _dead(2.5, nn.Identity()))
family.add("dead_channel_hardtanh", "Conv2d Hardtanh", lambda: _dead(2.5, nn.Hardtanh(-1, 3)))
family.add("dead_channel_silu", "Conv2d SiLU", lambda: _dead(2.5, nn.SiLU()))
family.add("tiny_channel_relu", "Conv2d ReLU", lambda: _dead(2.5, nn.ReLU(), 1e-9))
family.add("huge_bias_relu", "Conv2d ReLU", lambda: _dead(40.0, nn.ReLU(), 1e-3))
family.add("negative_bias_relu", "Conv2d ReLU", lambda: _dead(-30.0, nn.ReLU(), 1e-3))
family.add("huge_channel", "Conv2d ReLU", lambda: _dead(1.0, nn.ReLU(), 300.0))
family.add(
    "dead_channel_of_small_inputs",
    "Conv2d ReLU",
    lambda: Body(lambda m, x: m.dead(0.01 * x), dead=_dead(2.5, nn.ReLU())),
)
family.add(
    "dead_channel_of_images",
    "Conv2d ReLU",
    lambda: _dead(2.5, nn.ReLU(), layer=nn.Conv2d(3, 6, 3)),
    front="none",
    images=lambda n, shape: torch.rand(n, *shape),
)
family.add("dead_channel_huge_bias", "Conv2d ReLU", lambda: _dead(60.0, nn.ReLU()))
family.add("dead_layer", "Conv2d ReLU", lambda: _dead_layer())
family.add(
    "dead_channel_twice",
    "Conv2d ReLU",
    lambda: Body(
        lambda m, x: torch.cat([m.a(x), m.b(x)], 1),
        a=_dead(2.5, nn.ReLU()),
        b=_dead(-2.5, nn.ReLU()),
    ),
)
family.add(
    "dead_channel_linear",
    "Linear ReLU",
    lambda: Body(
        lambda m, x: m.d(x.flatten(1)), d=_dead(2.5, nn.ReLU(), layer=nn.Linear(C * 64, 6))
    ),
)
family.add(
    "dead_channel_depthwise",
    "Conv2d ReLU",
    lambda: _dead(2.5, nn.ReLU(), layer=nn.Conv2d(C, C, 3, padding=1, groups=C)),
)


def _dead_layer():
    """All its weights are zero."""
    layer = nn.Conv2d(C, 6, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.uniform_(-3, 3)
    return nn.Sequential(layer, nn.ReLU())


def _zero_gamma(activation):
    layer, norm = nn.Conv2d(C, 6, 3, bias=False), nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.weight[0], norm.bias[0] = 0.0, 2.5
    norm.settled = True  # weights and statistics stay as they are
    return nn.Sequential(layer, norm, activation)


family.add("zero_gamma_relu", "Conv2d BatchNorm2d ReLU", lambda: _zero_gamma(nn.ReLU()), quick=True)
family.add("zero_gamma_relu6", "Conv2d BatchNorm2d ReLU6", lambda: _zero_gamma(nn.ReLU6()))
family.add("zero_gamma", "Conv2d BatchNorm2d", lambda: _zero_gamma(nn.Identity()))


def _transposed(name, **attributes):
    settings = {"in_channels": C, "out_channels": 6, "kernel_size": 3, **attributes}
    family.layer(name, "ConvTranspose2d", lambda: nn.ConvTranspose2d(**settings))


_transposed("transposed", stride=2)
_transposed("transposed_no_bias", stride=2, bias=False)
_transposed("transposed_output_padding", stride=2, padding=1, output_padding=1)
_transposed("transposed_dilation", dilation=2)
_transposed("transposed_groups", groups=2, stride=2)
_transposed("transposed_groups_no_bias", groups=2, bias=False)
_transposed("transposed_depthwise", out_channels=8, groups=8, kernel_size=4, stride=2, padding=1)
_transposed("transposed_asymmetric", kernel_size=(2, 3), stride=(2, 1), padding=(0, 1))
family.add(
    "transposed_relu",
    "ConvTranspose2d ReLU",
    lambda: nn.Sequential(nn.ConvTranspose2d(C, 6, 2, stride=2), nn.ReLU()),
)
family.add(
    "transposed_batch_norm",
    "ConvTranspose2d BatchNorm2d ReLU",
    lambda: nn.Sequential(nn.ConvTranspose2d(C, 6, 2, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    quick=True,
)
family.add(
    "transposed_groups_batch_norm",
    "ConvTranspose2d BatchNorm2d",
    lambda: nn.Sequential(
        nn.ConvTranspose2d(C, 6, 2, stride=2, groups=2, bias=False), nn.BatchNorm2d(6)
    ),
)
family.add(
    "transposed_output_size",
    "ConvTranspose2d",
    lambda: Body(
        lambda m, x: m.up(x, output_size=(16, 16)),
        up=nn.ConvTranspose2d(C, 6, 3, stride=2, padding=1),
    ),
)

family.add(
    "conv1d",
    "Conv1d",
    lambda: Body(lambda m, x: m.conv(x.flatten(2)), conv=nn.Conv1d(C, 6, 3, padding=1)),
)
family.add(
    "conv1d_relu_pool",
    "Conv1d ReLU MaxPool1d",
    lambda: Body(
        lambda m, x: m.rest(x.flatten(2)),
        rest=nn.Sequential(
            nn.Conv1d(C, 6, 5, stride=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)
        ),
    ),
)
family.add(
    "conv_transpose1d",
    "ConvTranspose1d",
    lambda: Body(lambda m, x: m.conv(x.flatten(2)), conv=nn.ConvTranspose1d(C, 6, 3, stride=2)),
)
family.add(
    "conv3d",
    "Conv3d",
    lambda: Body(lambda m, x: m.conv(x.unflatten(1, (2, 4))), conv=nn.Conv3d(2, 4, 3, padding=1)),
)
family.add(
    "conv3d_batch_norm",
    "Conv3d BatchNorm3d ReLU",
    lambda: Body(
        lambda m, x: m.rest(x.unflatten(1, (2, 4))),
        rest=nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU()),
    ),
)
family.add(
    "conv_transpose3d",
    "ConvTranspose3d",
    lambda: Body(
        lambda m, x: m.conv(x.unflatten(1, (2, 4))), conv=nn.ConvTranspose3d(2, 4, 2, stride=2)
    ),
)

# functional weights
family.add(
    "functional",
    "conv2d",
    lambda: Body(
        lambda m, x: F.conv2d(x, m.weight, m.bias, stride=2, padding=1),
        weight=nn.Parameter(torch.randn(6, C, 3, 3) / 9),
        bias=nn.Parameter(torch.randn(6)),
    ),
)
family.add(
    "functional_no_bias_groups",
    "conv2d",
    lambda: Body(
        lambda m, x: F.conv2d(x, m.weight, groups=C, padding=1),
        weight=nn.Parameter(torch.randn(C, 1, 3, 3) / 3),
    ),
)
family.add(
    "functional_same",
    "conv2d",
    lambda: Body(
        lambda m, x: F.relu(F.conv2d(x, m.weight, padding="same")),
        weight=nn.Parameter(torch.randn(6, C, 3, 3) / 9),
    ),
)
family.add(
    "functional_transposed",
    "conv_transpose2d",
    lambda: Body(
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, stride=2),
        weight=nn.Parameter(torch.randn(C, 6, 2, 2) / 4),
        bias=nn.Parameter(torch.randn(6)),
    ),
)
family.add("of_a_buffer", "conv2d", lambda: _blur(), quick=False)


def _blur():
    """A fixed blur, as antialiased networks have it."""
    body = Body(lambda m, x: F.conv2d(x, m.kernel, stride=2, padding=1, groups=C))
    body.register_buffer(
        "kernel",
        (torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 16)
        .expand(C, 1, 3, 3)
        .clone(),
    )
    return body


# in front of what follows
family.add(
    "relu_two_readers",
    "Conv2d ReLU",
    lambda: Body(
        lambda m, x: (lambda y: torch.cat([F.relu(y), y], 1))(m.conv(x)), conv=nn.Conv2d(C, 6, 3)
    ),
)
family.add(
    "relu6_two_readers",
    "Conv2d ReLU6",
    lambda: Body(lambda m, x: (lambda y: F.relu6(y) + y)(m.conv(x)), conv=nn.Conv2d(C, 6, 3)),
)
family.add(
    "depthwise_relu6",
    "Conv2d ReLU6",
    lambda: nn.Sequential(nn.Conv2d(C, C, 3, groups=C), nn.ReLU6(), nn.Conv2d(C, 6, 1)),
)
family.add(
    "dropout_batch_norm",
    "Conv2d Dropout2d BatchNorm2d",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.Dropout2d(0.2), nn.BatchNorm2d(6), nn.ReLU()),
    quick=True,
)
family.add(
    "identity_batch_norm",
    "Conv2d Identity BatchNorm2d",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.Identity(), nn.BatchNorm2d(6), nn.ReLU()),
)
family.add(
    "batch_norm_no_affine",
    "Conv2d BatchNorm2d",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.BatchNorm2d(6, affine=False), nn.ReLU()),
)
family.add(
    "batch_norm_two_readers",
    "Conv2d BatchNorm2d",
    lambda: Body(
        lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)),
        conv=nn.Conv2d(C, 6, 3),
        norm=nn.BatchNorm2d(6),
    ),
)
family.add(
    "batch_norm_before",
    "Conv2d BatchNorm2d",
    lambda: nn.Sequential(nn.BatchNorm2d(C), nn.Conv2d(C, 6, 3), nn.ReLU()),
)
family.add(
    "batch_norm_before_padded",
    "Conv2d BatchNorm2d",
    lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(C), nn.Conv2d(C, 6, 3, padding=1), nn.ReLU()),
)
family.add("on_images", "Conv2d", lambda: nn.Conv2d(3, 6, 3), front="none")
family.add("odd_size", "Conv2d", lambda: nn.Conv2d(C, 6, 3, stride=2), shape=(3, 9, 13))
family.add(
    "one_channel",
    "Conv2d ReLU",
    lambda: nn.Sequential(nn.Conv2d(C, 1, 3), nn.ReLU()),
    shape=(1, 8, 8),
)
family.add("one_pixel", "Conv2d", lambda: nn.Conv2d(C, 6, 1), shape=(3, 1, 1))
family.add(
    "constant_images",
    "Conv2d",
    lambda: nn.Conv2d(C, 6, 3),
    images=lambda n, shape: torch.ones(n, *shape),
)
family.add(
    "positive_images",
    "Conv2d ReLU",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.ReLU()),
    images=lambda n, shape: torch.rand(n, *shape),
)
family.add(
    "images_from_two",
    "Conv2d ReLU",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.ReLU()),
    images=lambda n, shape: 2 + torch.rand(n, *shape),
)
family.add(
    "images_to_255",
    "Conv2d ReLU",
    lambda: nn.Sequential(nn.Conv2d(C, 6, 3), nn.ReLU()),
    images=lambda n, shape: 255 * torch.rand(n, *shape),
)
family.add("unfold", "Unfold", lambda: nn.Unfold(3, padding=1))
family.add("unfold_functional", "unfold", lambda: Body(lambda m, x: F.unfold(x, 2, stride=2)))
family.add(
    "fold",
    "Fold",
    lambda: Body(lambda m, x: m.fold(F.unfold(x, 2, stride=2)), fold=nn.Fold(8, 2, stride=2)),
)
