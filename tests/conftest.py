"""A small network with every structure that matters, images that it can learn, a small disk."""

import subprocess

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from bitladder.data.splits import TensorSplit

CLASSES = 4
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # other processes may have the cores


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Decoded images of tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITLADDER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture
def network():
    """An untrained ``Branches`` whose batch norms are not trivial, in evaluation mode."""
    torch.manual_seed(0)
    model = Branches()
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            model(torch.randn(16, 1, 12, 12))
    return model.eval()


def _split(images, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    pixels = torch.randint(0, 60, (images, 1, 12, 12), generator=generator)
    for index, label in enumerate(labels.tolist()):  # the class is how bright a quarter is
        row, column = divmod(label, 2)
        pixels[index, 0, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 40 * (label + 1)
    return TensorSplit(pixels.clamp(0, 255).byte(), labels)


@pytest.fixture(scope="session")
def splits():
    """(train, validation): 256 and 128 images 1x12x12 of 4 classes that differ in brightness."""
    return _split(256, 1), _split(128, 2)


@pytest.fixture
def images(splits):
    """128 calibration images (N, C, H, W)."""
    return splits[0].float_images(torch.arange(128))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for 4 MB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4000k", "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small disk needs the command mount")
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
