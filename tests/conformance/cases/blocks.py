"""Blocks of torchvision and of well-known networks."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import ops
from torchvision.models import (
    convnext,
    densenet,
    inception,
    mobilenetv2,
    mobilenetv3,
    regnet,
    resnet,
    shufflenetv2,
    squeezenet,
)
from torchvision.models.googlenet import Inception
from torchvision.models.segmentation.deeplabv3 import ASPP

from conformance.case import Body, Family

family = Family("blocks")
C = 8


def _residual(*layers):
    return Body(lambda m, x: F.relu(x + m.body(x)), body=nn.Sequential(*layers))


def _inverted(stride, expand, out):
    return mobilenetv2.InvertedResidual(C, out, stride, expand)


def _mobilenet_v3(activation, gate):
    config = mobilenetv3.InvertedResidualConfig(C, 3, 16, C, gate, activation, 1, 1, 1.0)
    return mobilenetv3.InvertedResidual(config, nn.BatchNorm2d)


def _fpn():
    return Body(
        lambda m, x: list(m.fpn({"a": x, "b": m.down(x)}).values()),
        fpn=ops.FeaturePyramidNetwork([C, 12], 6),
        down=nn.Conv2d(C, 12, 3, 2, 1),
    )


def _unet():
    def compute(m, x):
        a = F.relu(m.a(x))
        b = F.relu(m.b(F.max_pool2d(a, 2)))
        return m.out(torch.cat([m.up(b), a], 1))

    return Body(
        compute,
        a=nn.Conv2d(C, 6, 3, padding=1),
        b=nn.Conv2d(6, 12, 3, padding=1),
        up=nn.ConvTranspose2d(12, 6, 2, 2),
        out=nn.Conv2d(12, 4, 1),
    )


def _csp(m, x):
    a, b = m.split(x).chunk(2, 1)
    return m.join(torch.cat([a, b, b + m.body(b)], 1))


def _ghost(m, x):
    a = m.primary(x)
    return torch.cat([a, m.cheap(a)], 1)[:, :12]


def _rep_vgg():
    return Body(
        lambda m, x: F.relu(m.a(x) + m.b(x) + m.norm(x)),
        a=nn.Sequential(nn.Conv2d(C, C, 3, padding=1, bias=False), nn.BatchNorm2d(C)),
        b=nn.Sequential(nn.Conv2d(C, C, 1, bias=False), nn.BatchNorm2d(C)),
        norm=nn.BatchNorm2d(C),
    )


def _pre_activation():
    return Body(
        lambda m, x: x + m.b(F.relu(m.nb(m.a(F.relu(m.na(x)))))),
        na=nn.BatchNorm2d(C),
        a=nn.Conv2d(C, C, 3, padding=1, bias=False),
        nb=nn.BatchNorm2d(C),
        b=nn.Conv2d(C, C, 3, padding=1, bias=False),
    )


def _yolo_decode(m, x):
    y = m.head(x)
    b, _, h, w = y.shape
    y = y.view(b, 2, 5, h, w).permute(0, 1, 3, 4, 2)
    xy, wh, score = y.split((2, 2, 1), 4)
    return torch.cat([xy.sigmoid() * 2, (wh.sigmoid() * 2) ** 2, score.sigmoid()], 4).view(b, -1, 5)


for _name, _operations, _build in (
    ("basic", "BasicBlock", lambda: resnet.BasicBlock(C, C)),
    ("bottleneck", "Bottleneck", lambda: resnet.Bottleneck(C, 2)),
    ("conv_norm_relu", "Conv2dNormActivation", lambda: ops.Conv2dNormActivation(C, 6, 3)),
    (
        "conv_norm_hardswish",
        "Conv2dNormActivation",
        lambda: ops.Conv2dNormActivation(C, 6, 3, activation_layer=nn.Hardswish),
    ),
    ("inverted_residual", "InvertedResidual", lambda: _inverted(1, 2, C)),
    ("inverted_residual_stride", "InvertedResidual", lambda: _inverted(2, 1, 12)),
    ("mobilenet_v3", "InvertedResidual SqueezeExcitation", lambda: _mobilenet_v3("HS", True)),
    ("mobilenet_v3_relu", "InvertedResidual", lambda: _mobilenet_v3("RE", False)),
    ("squeeze_excitation", "SqueezeExcitation", lambda: ops.SqueezeExcitation(C, 4)),
    (
        "squeeze_excitation_silu",
        "SqueezeExcitation",
        lambda: ops.SqueezeExcitation(C, 4, activation=nn.SiLU),
    ),
    ("convnext", "CNBlock", lambda: convnext.CNBlock(C, 0.5, 0.0)),
    ("convnext_layer_norm", "LayerNorm2d", lambda: convnext.LayerNorm2d(C)),
    ("shuffle_unit", "ShuffleUnit", lambda: shufflenetv2.InvertedResidual(C, C, 1)),
    ("shuffle_unit_stride", "ShuffleUnit", lambda: shufflenetv2.InvertedResidual(C, 16, 2)),
    ("dense_layer", "DenseLayer", lambda: densenet._DenseLayer(C, 4, 2, 0.0)),
    ("dense_block", "DenseBlock", lambda: densenet._DenseBlock(2, C, 2, 4, 0.0)),
    ("dense_transition", "Transition", lambda: densenet._Transition(C, 4)),
    ("inception", "Inception", lambda: Inception(C, 4, 4, 6, 2, 4, 4)),
    ("inception_a", "InceptionA", lambda: inception.InceptionA(C, 4)),
    ("fire", "Fire", lambda: squeezenet.Fire(C, 4, 6, 6)),
    (
        "regnet",
        "ResBottleneckBlock",
        lambda: regnet.ResBottleneckBlock(C, C, 1, nn.BatchNorm2d, nn.ReLU, 4, 1.0, 0.25),
    ),
    ("fpn", "FeaturePyramidNetwork", _fpn),
    ("aspp", "ASPP", lambda: ASPP(C, [2, 3], 6)),
    ("mlp", "MLP", lambda: Body(lambda m, x: m.mlp(x.flatten(1)), mlp=ops.MLP(512, [16, 6]))),
    (
        "stochastic_depth",
        "StochasticDepth",
        lambda: Body(
            lambda m, x: x + m.drop(m.conv(x)),
            drop=ops.StochasticDepth(0.2, "row"),
            conv=nn.Conv2d(C, C, 1),
        ),
    ),
    ("drop_block", "DropBlock2d", lambda: ops.DropBlock2d(0.2, 3)),
    (
        "frozen_batch_norm",
        "FrozenBatchNorm2d",
        lambda: nn.Sequential(nn.Conv2d(C, 6, 3), ops.FrozenBatchNorm2d(6), nn.ReLU()),
    ),
    (
        "deform_conv",
        "DeformConv2d",
        lambda: Body(
            lambda m, x: m.conv(x, m.offset(x)),
            conv=ops.DeformConv2d(C, 6, 3, padding=1),
            offset=nn.Conv2d(C, 18, 3, padding=1),
        ),
    ),
    ("unet", "ConvTranspose2d cat", _unet),
    (
        "csp",
        "chunk cat add",
        lambda: Body(
            _csp,
            split=nn.Conv2d(C, C, 1),
            body=nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.SiLU()),
            join=nn.Conv2d(12, 6, 1),
        ),
    ),
    (
        "spp",
        "MaxPool2d cat",
        lambda: Body(
            lambda m, x: (lambda a, b: torch.cat([x, a, b, m.pool(b)], 1))(
                m.pool(x), m.pool(m.pool(x))
            ),
            pool=nn.MaxPool2d(5, 1, 2),
        ),
    ),
    (
        "ghost",
        "cat getitem",
        lambda: Body(
            _ghost, primary=nn.Conv2d(C, 7, 1), cheap=nn.Conv2d(7, 7, 3, padding=1, groups=7)
        ),
    ),
    ("rep_vgg", "add BatchNorm2d", _rep_vgg),
    ("pre_activation", "BatchNorm2d ReLU add", _pre_activation),
    (
        "residual_relu6",
        "add ReLU",
        lambda: _residual(nn.Conv2d(C, C, 3, padding=1), nn.ReLU6(), nn.Conv2d(C, C, 1)),
    ),
    (
        "yolo_decode",
        "view permute split sigmoid",
        lambda: Body(_yolo_decode, head=nn.Conv2d(C, 10, 1)),
    ),
    (
        "espcn",
        "Conv2d Tanh PixelShuffle",
        lambda: nn.Sequential(
            nn.Conv2d(C, 6, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.PixelShuffle(2),
        ),
    ),
    (
        "dncnn",
        "Conv2d sub",
        lambda: Body(
            lambda m, x: x - m.body(x),
            body=nn.Sequential(
                nn.Conv2d(C, 6, 3, padding=1),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.Conv2d(6, C, 3, padding=1),
            ),
        ),
    ),
    (
        "classifier",
        "AdaptiveAvgPool2d Linear",
        lambda: nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(C, 6)
        ),
    ),
    (
        "classifier_softmax",
        "Linear Softmax",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(512, 6), nn.Softmax(1)),
    ),
    (
        "classifier_one_sigmoid",
        "Linear Sigmoid",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(512, 1), nn.Sigmoid()),
    ),
):
    family.add(
        _name,
        _operations,
        _build,
        quick=_name
        in (
            "basic",
            "inverted_residual",
            "mobilenet_v3",
            "shuffle_unit",
            "unet",
            "fpn",
            "pre_activation",
        ),
    )
