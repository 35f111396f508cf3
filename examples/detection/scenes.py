"""Find garments in a scene: pictures composed of Fashion-MNIST's images, and a dense detector."""

import torch
from torch import nn

from bitladder.data import load
from bitladder.options import DatasetOptions, LoaderOptions

SIDE, STRIDE = 64, 8
GROUP = torch.tensor([0, 1, 0, 0, 0, 2, 0, 2, 2, 2])


def scenes():
    """Training and validation scenes (1, 64, 64), each with its boxes and their classes."""
    images = load(DatasetOptions(name="embedded"), LoaderOptions(), seed=1)
    return _compose(images.train, 800, seed=0), _compose(images.validation, 200, seed=1)


def _compose(split, count, seed):
    """Scenes of one to three garments at places that overlap little."""
    generator = torch.Generator().manual_seed(seed)
    pixels, labels = next(iter(split.batches(split.images)))
    pixels = pixels[:, :, 2:30, 2:30]
    found = []
    for _ in range(count):
        scene = torch.zeros(1, SIDE, SIDE)
        boxes, classes = [], []
        quarters = torch.randperm(4, generator=generator)[
            : int(torch.randint(1, 4, (), generator=generator))
        ]
        for quarter in quarters.tolist():
            which = int(torch.randint(0, len(labels), (), generator=generator))
            at = torch.randint(0, 5, (2,), generator=generator)
            top, left = 32 * (quarter // 2) + int(at[0]), 32 * (quarter % 2) + int(at[1])
            scene[:, top : top + 28, left : left + 28] = pixels[which]
            rows, columns = (pixels[which, 0] > 0.1).nonzero(as_tuple=True)
            low, high = torch.stack([columns, rows]).amin(1), torch.stack([columns, rows]).amax(1)
            place = torch.tensor([left, top])
            boxes.append(torch.cat([place + low, place + high + 1]).float())
            classes.append(GROUP[labels[which]])
        found.append((scene, {"boxes": torch.stack(boxes), "labels": torch.stack(classes)}))
    return found


def detector(num_classes):
    """A dense detector without anchors, of one level of stride 8."""
    return Detector(num_classes)


class Detector(nn.Module):
    def __init__(self, classes, width=24):
        super().__init__()
        self.body = nn.Sequential(
            _block(1, width, 2),
            _block(width, 2 * width, 2),
            _block(2 * width, 2 * width, 2),
            _block(2 * width, 2 * width, 1),
        )
        self.scores = nn.Conv2d(2 * width, classes, 1)
        self.boxes = nn.Conv2d(2 * width, 4, 1)
        nn.init.constant_(self.scores.bias, -4.0)  # at first nothing is an object

    def forward(self, image):
        features = self.body(image)
        return {"scores": self.scores(features), "boxes": self.boxes(features)}


def _block(inner, outer, stride):
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    )
