"""Take the noise off an image: images of Fashion-MNIST, and a network that finds the noise."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from bitladder.data import load
from bitladder.options import DatasetOptions, LoaderOptions

DEVIATION = 0.15


def noisy():
    """Training and validation images (1, 32, 32) with noise, each with the clean one."""
    images = load(
        DatasetOptions(name="embedded", train=1500, validation=300), LoaderOptions(), seed=1
    )
    generator = torch.Generator().manual_seed(0)
    parts = []
    for split in (images.train, images.validation):
        clean, _ = next(iter(split.batches(split.images)))
        noise = DEVIATION * torch.randn(clean.shape, generator=generator)
        parts.append(TensorDataset((clean + noise).clamp(0, 1), clean))
    return tuple(parts)


def denoiser():
    """A small DnCNN (Zhang 2017, arXiv 1608.03981): the image less the noise that is found."""
    return Denoiser()


class Denoiser(nn.Module):
    def __init__(self, width=16, depth=4):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, image):
        return image - self.body(image)
