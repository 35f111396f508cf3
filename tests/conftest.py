"""A small network with every structure that matters, images that it can learn, a small disk."""

import subprocess

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from small_network import Branches, split

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # other processes may have the cores


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Decoded images of tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITLADDER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(scope="session")
def splits():
    """(train, validation): 256 and 128 images 1x12x12 of 4 classes that differ in brightness."""
    return split(256, 1), split(128, 2)


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
