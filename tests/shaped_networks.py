"""Small networks of every shape that a network may have: inputs, outputs, ranks, types."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu


@dataclass
class Found:
    boxes: Tensor
    scores: Tensor
    extra: Tensor | None = None


class Pair(NamedTuple):
    near: Tensor
    far: Tensor


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(1, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, image, depth, scale=1.0):
        return self.head(relu(self.one(image) * scale + self.other(depth)).mean((2, 3)))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mask = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = relu(self.body(x))
        return {"classes": self.head(x.mean((2, 3))), "mask": self.mask(x), "none": None}


class Nested(nn.Module):
    """A tuple of a tuple, in which a tensor stands twice and an input once."""

    def __init__(self):
        super().__init__()
        self.body, self.small = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=2)

    def forward(self, x):
        large = relu(self.body(x))
        small = relu(self.small(large))
        return (large, (small, [small, x]))


class Detection(nn.Module):
    """Heads of two scales, flattened to one row an anchor, as a dataclass."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.boxes = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))
        self.scores = nn.ModuleList(nn.Conv2d(8, 6, 1) for _ in range(2))

    def forward(self, x):
        near = self.body(x)
        levels = [near, relu(self.down(near))]
        boxes = [head(level).flatten(2) for head, level in zip(self.boxes, levels, strict=True)]
        scores = [head(level).flatten(2) for head, level in zip(self.scores, levels, strict=True)]
        scores = torch.cat(scores, 2).permute(0, 2, 1).sigmoid()
        return Found(torch.cat(boxes, 2).permute(0, 2, 1), scores)


class Audio(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 8, 5, stride=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.head = nn.Conv1d(8, 3, 1)

    def forward(self, signal):
        x = self.body(signal)
        return Pair(self.head(x), x.mean(2))


class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv3d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, volume):
        return self.head(relu(self.body(volume)).mean((2, 3, 4)))


class Tokens(nn.Module):
    """Token ids and an image."""

    def __init__(self):
        super().__init__()
        self.words, self.image = nn.Embedding(12, 8), nn.Conv2d(3, 8, 3)
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, tokens, image):
        text = relu(self.mix(self.words(tokens)))
        return self.head(text.mean(1) + self.image(image).mean((2, 3)))


class Masked(nn.Module):
    """Token ids and which of them count."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(12, 6), nn.Linear(6, 3)

    def forward(self, tokens, mask):
        batch, length = tokens.shape
        words = self.words(tokens) * mask.unsqueeze(-1).float()
        return self.head(words.reshape(batch, length, 6)).transpose(1, 2)


class Recorded(nn.Module):
    """Whose forward computes with sizes and lists, and returns a list in a dataclass."""

    def __init__(self):
        super().__init__()
        self.body, self.near = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 3)

    def forward(self, x, y):
        first, other = list(self.body(x + y).chunk(2, 1))
        count, channels, height, width = first.shape
        far = (other + torch.zeros(count, channels, 1, 1)).reshape(count, channels, height * width)
        return Found(self.near(first) if height > 2 else first, [far, first.mean((2, 3))])


class Any(nn.Module):
    """Any number of inputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(2, 4, 3)

    def forward(self, *inputs):
        return [self.body(torch.cat(inputs[:2], 1)), inputs[2] * 2.0]


class NoParameters(nn.Module):
    def forward(self, x):
        return {"up": interpolate(x, scale_factor=2), "pooled": torch.max_pool2d(x, 2) + 1.0}


class SuperResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.out, self.shuffle = nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.out(self.body(x))) + interpolate(x, scale_factor=2)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.last = nn.Conv2d(12, 3, 1)

    def forward(self, image):
        first = self.first(image)
        up = self.up(self.deep(self.pool(first)))
        return {"out": self.last(torch.cat([first, up], 1))}


def _floats(*shapes):
    def make(count):
        generator = torch.Generator().manual_seed(5)
        return tuple(torch.randn(count, *shape, generator=generator) for shape in shapes)

    return make


def _masked(count):
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, 12, (count, 5), generator=generator)
    return tokens, torch.rand(count, 5, generator=generator) > 0.3


def _tokens(count):
    generator = torch.Generator().manual_seed(6)
    return torch.randint(0, 12, (count, 5), generator=generator), *_floats((3, 8, 8))(count)


NETWORKS = {
    "two_inputs": (TwoInputs, _floats((3, 8, 8), (1, 8, 8))),
    "dictionary": (Dictionary, _floats((3, 8, 8))),
    "nested": (Nested, _floats((3, 9, 9))),
    "detection": (Detection, _floats((3, 8, 8))),
    "audio": (Audio, _floats((2, 40))),
    "volume": (Volume, _floats((1, 5, 6, 7))),
    "tokens": (Tokens, _tokens),
    "masked": (Masked, _masked),
    "recorded": (Recorded, _floats((3, 6, 6), (3, 6, 6))),
    "any": (Any, _floats((1, 6, 6), (1, 6, 6), (3,))),
    "no_parameters": (NoParameters, _floats((2, 6, 6))),
    "super_resolution": (SuperResolution, _floats((1, 8, 8))),
    "unet": (UNet, _floats((1, 8, 8))),
}
INPUTS = {
    "two_inputs": ["image", "depth"],
    "audio": ["signal"],
    "volume": ["volume"],
    "tokens": ["tokens", "image"],
    "masked": ["tokens", "mask"],
    "recorded": ["x", "y"],
    "any": ["input_0", "input_1", "input_2"],
    "unet": ["image"],
}
"""What files call their inputs; all others have ``x``."""


def network(name, seed=1):
    """A network in evaluation mode whose batch norms have seen images, and its inputs."""
    kind, inputs = NETWORKS[name]
    torch.manual_seed(seed)
    model = kind().train()
    with torch.no_grad():
        model(*inputs(32))
    return model.eval(), inputs
