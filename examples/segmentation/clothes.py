"""Which garment is at a pixel: images of Fashion-MNIST with masks, and a small U-Net."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from bitladder.data import load
from bitladder.options import DatasetOptions, LoaderOptions

BACKGROUND, CLASSES = 0, 4
# Fashion-MNIST's ten classes as three: tops, trousers, and what is worn at the ends of them.
GROUP = torch.tensor([1, 2, 1, 1, 1, 3, 1, 3, 3, 3])


def masked():
    """Training and validation images (1, 32, 32), each with its mask (32, 32)."""
    images = load(
        DatasetOptions(name="embedded", train=1500, validation=300), LoaderOptions(), seed=1
    )
    return tuple(_with_masks(split) for split in (images.train, images.validation))


def _with_masks(split):
    pixels, labels = next(iter(split.batches(split.images)))
    there = pixels[:, 0] > 0.1
    masks = torch.where(there, GROUP[labels][:, None, None], BACKGROUND)
    dataset = TensorDataset(pixels, masks)
    dataset.classes = CLASSES
    return dataset


def unet(num_classes):
    """A U-Net of two levels."""
    return UNet(num_classes)


class UNet(nn.Module):
    def __init__(self, classes, width=12):
        super().__init__()
        self.first = _block(1, width)
        self.down = nn.Sequential(nn.MaxPool2d(2), _block(width, 2 * width))
        self.bottom = nn.Sequential(nn.MaxPool2d(2), _block(2 * width, 4 * width))
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.middle = _block(4 * width, 2 * width)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = _block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image):
        fine = self.first(image)
        coarse = self.down(fine)
        lifted = self.middle(torch.cat([self.up(self.bottom(coarse)), coarse], 1))
        return self.head(self.last(torch.cat([self.up2(lifted), fine], 1)))


def _block(inner, outer):
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    )
