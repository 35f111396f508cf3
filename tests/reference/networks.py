"""Small random networks with the structures of known ones; outputs are many values an image."""

import torch
from torch import nn
from torch.nn import functional


def _unit(given, out, size, stride=1, groups=1, activation=nn.ReLU, **options):
    padding = options.pop("padding", size // 2)
    convolution = nn.Conv2d(given, out, size, stride, padding, groups=groups, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), activation())


class ResNetLike(nn.Module):
    """Max pooling, residual sums of both kinds, global pooling, a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(_unit(1, 8, 5, stride=2), nn.MaxPool2d(3, 2, 1))
        self.first = nn.Sequential(_unit(8, 8, 3), _unit(8, 8, 3, activation=nn.Identity))
        self.second = nn.Sequential(_unit(8, 12, 3, 2), _unit(12, 12, 3, activation=nn.Identity))
        self.shortcut = _unit(8, 12, 1, 2, activation=nn.Identity)
        self.relus = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = self.stem(x)
        x = self.relus[0](self.first(x) + x)
        x = self.relus[1](self.second(x) + self.shortcut(x))
        return self.head(torch.flatten(self.pool(x), 1))


class MobileNetLike(nn.Module):
    """ReLU6, depthwise, dilated and strided convolutions, linear bottlenecks, average pooling."""

    def __init__(self):
        super().__init__()
        self.stem = _unit(1, 8, 3, 2, activation=nn.ReLU6)
        self.block = nn.Sequential(
            _unit(8, 16, 1, activation=nn.ReLU6),
            _unit(16, 16, 3, groups=16, activation=nn.ReLU6),
            _unit(16, 8, 1, activation=nn.Identity),
        )
        self.dilated = _unit(8, 12, 3, padding=2, dilation=2, groups=4, activation=nn.ReLU6)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.head = nn.Conv2d(12, 4, (1, 3), padding=(0, 1))

    def forward(self, x):
        x = self.stem(x)
        x = self.dilated(x + self.block(x))
        return torch.flatten(self.head(self.pool(x)), 1)


class ShuffleNetLike(nn.Module):
    """Halves of channels, concatenation, channel shuffle, a mean."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(_unit(1, 8, 3, 2), nn.MaxPool2d(3, 2, 1))
        self.branch = nn.Sequential(
            _unit(4, 4, 1), _unit(4, 4, 3, groups=4, activation=nn.Identity), _unit(4, 4, 1)
        )
        self.last = _unit(8, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        kept, changed = x.chunk(2, 1)
        x = torch.cat([kept, self.branch(changed)], 1)
        images, channels, height, width = x.shape
        x = x.view(images, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        x = self.last(x.view(images, channels, height, width))
        return self.head(x.mean([2, 3]))


class GatedUNetLike(nn.Module):
    """A product of branches, nearest neighbours, concatenation of scales."""

    def __init__(self):
        super().__init__()
        self.stem = _unit(1, 8, 3)
        self.down = _unit(8, 8, 3, 2)
        self.gate = _unit(8, 8, 1, activation=nn.ReLU6)
        self.head = nn.Conv2d(16, 2, 3, stride=3)

    def forward(self, x):
        x = self.stem(x)
        low = self.down(x)
        low = functional.interpolate(low * self.gate(low), scale_factor=2.0, mode="nearest")
        return torch.flatten(self.head(torch.cat([x, low], 1)), 1)


NETWORKS = {
    "resnet": ResNetLike,
    "mobilenet": MobileNetLike,
    "shufflenet": ShuffleNetLike,
    "gated_unet": GatedUNetLike,
}


def make(name, seed):
    """A network whose batch norms are not trivial, in evaluation mode, and images for it."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    images = torch.rand(24, 1, 20, 20)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            network(images)
    return network.eval(), images
