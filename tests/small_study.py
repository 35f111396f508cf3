"""A study that takes seconds: a network of two layers on a part of the embedded images."""

from bitladder.pipeline.execute import Observer

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, num_classes),
    )

def broken(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, num_classes), nn.Dropout(1.0), Zero())

class Zero(nn.Module):
    def forward(self, x):
        return 0 * x
"""

STUDY = {
    "name": "small",
    "datasets": [{"name": "embedded", "train": 1500, "validation": 300}],
    "models": ["small_nets:net"],
    "precisions": [8, 4],
    "train": {"epochs": 3, "batch_size": 100, "lr": 1e-2},
    "recipe": [
        "fold_batch_norm",
        "relu6_to_relu",
        {"calibrate": {"images": 200, "method": "min_max"}},
        {"finetune": {"epochs": 1, "batch_size": 100, "lr": 1e-3}},
    ],
}


class Recorder(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.begun, self.outcomes, self.heard, self.said = [], [], [], []

    def begin(self, stages):
        self.begun = list(stages)

    def progress(self, label, progress):
        self.heard.append((label, progress))

    def finished(self, outcome):
        self.outcomes.append(outcome)

    def message(self, text):
        self.said.append(text)
