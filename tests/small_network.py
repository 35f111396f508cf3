"""The small network of many tests, and images that it can learn."""

import torch
from torch import nn

from bitladder import simulation
from bitladder.data.splits import TensorSplit

CLASSES = 4


class Branches(nn.Module):
    """Depthwise and pointwise convolutions, ReLU6, a residual sum, a concatenation, pooling."""

    def __init__(self, num_classes=CLASSES):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.pointwise = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.stem(x)
        y = x + self.pointwise(self.depthwise(x))
        y = self.pool(torch.cat([x, y], 1))
        return self.head(y.mean([2, 3]))


def split(images, seed):
    """Images 1x12x12 of 4 classes that differ in which quarter is bright, and how."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    pixels = torch.randint(0, 60, (images, 1, 12, 12), generator=generator)
    for index, label in enumerate(labels.tolist()):  # the class is how bright a quarter is
        row, column = divmod(label, 2)
        pixels[index, 0, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 40 * (label + 1)
    return TensorSplit(pixels.clamp(0, 255).byte(), labels)


def only_output(model, inputs):
    """What a network with one output gives for its inputs."""
    [values] = simulation.outputs(model, inputs).values()
    return values


def agreement(reference, quantized):
    """Share of rows of logits with the same class, 0 to 1."""
    return float((reference.argmax(1) == quantized.argmax(1)).double().mean())


def only(by_name):
    """The value of the only output."""
    [value] = by_name.values()
    return value
