"""A network with every kind of layer that holds parameters, and recipes that end in training."""

import torch
from torch import nn
from torch.nn import functional

from bitladder import techniques
from bitladder.errors import StudyError
from bitladder.options import RECIPES, TECHNIQUES, Precision, parse_recipe
from bitladder.structures import named
from bitladder.tasks import find

FINETUNE = {"finetune": {"steps": 2, "batch_size": 32, "distill": 0.5}}
SHORT = {
    "adaround": {"iterations": 2, "images": 32},
    "bias_correction": {"images": 32},
    "calibrate": {"images": 64, "method": "min_max"},
    "distill": {"images": 32, "steps": 2, "batch_size": 16},
    "finetune": FINETUNE["finetune"],
    "integer_finetune": {"steps": 3, "batch_size": 32},
    "mixed_precision": {"images": 32, "mean_bits": 5},
    "reconstruct": {"images": 32, "iterations": 2, "batch_size": 8},
    "reestimate_batch_norm": {"images": 64, "batch_size": 32},
    "repair": {"images": 32, "layers": 2, "target": None},
    "sequential_mse": {"images": 32, "candidates": 2},
}


class Zoo(nn.Module):
    """Every kind of layer that holds parameters, batch norms before and behind them."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = self._normed(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.ReLU6())
        self.depthwise = self._normed(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.PReLU(8)
        )
        self.up = self._normed(nn.ConvTranspose2d(8, 8, 2, stride=2, bias=False), nn.ReLU())
        self.grouped = self._normed(nn.ConvTranspose2d(8, 8, 1, groups=2, bias=False), nn.ReLU())
        self.before = nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False), nn.ReLU())
        self.plain = nn.Conv2d(8, 8, 1)
        self.lone = nn.BatchNorm2d(8)
        self.padded = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.gain = Gain()
        self.dense = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        self.normed, self.functional = nn.LayerNorm(16), Functional()
        self.head = nn.Linear(16, classes)

    @staticmethod
    def _normed(layer, activation):
        return nn.Sequential(layer, nn.BatchNorm2d(8), activation)

    def forward(self, x):
        x = self.depthwise(self.stem(x))
        x = self.grouped(functional.max_pool2d(self.up(x), 2)) + x
        x = self.padded(self.lone(self.plain(self.before(x)) + x))
        x = self.dense(self.gain(x).mean([2, 3]))
        return self.head(self.functional(self.normed(x)))


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(8, 1, 1))

    def forward(self, x):
        return x * self.factor


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.eye(16)), nn.Parameter(torch.zeros(16))

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


def lively(model):
    """Batch norms that fold to something, weights of a seed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.train().modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.reset_parameters()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            model(torch.rand(16, 1, 12, 12))
    return model.eval()


def short(recipe):
    """A recipe with its slow steps shortened, and one that fine-tunes at the end."""
    steps = [getattr(step, "name", None) or step for step in recipe]
    steps = [{step: SHORT.get(step, {})} if isinstance(step, str) else step for step in steps]
    return steps if any("finetune" in step for step in steps) else [*steps, FINETUNE]


def _alone(name):
    """The shortest recipe in which a technique stands before fine-tuning."""
    for recipe in (
        [name, "calibrate"],
        ["fold_batch_norm", name, "calibrate"],
        ["fold_batch_norm", "calibrate", name],
        ["calibrate", name],
        ["fold_batch_norm", name],
    ):
        try:
            parse_recipe(short(recipe))
        except StudyError:
            continue
        return short(recipe)
    raise AssertionError(f"no recipe known for {name}")


CASES = {
    **{name: _alone(name) for name in TECHNIQUES},
    **{f"recipe {name}": short(recipe) for name, recipe in RECIPES.items()},
    "per tensor, folded late": [
        {"calibrate": {"weights": "per_tensor", "method": "min_max"}},
        {"reestimate_batch_norm": SHORT["reestimate_batch_norm"]},
        FINETUNE,
    ],
}


def context_for(model, splits, folder, **settings):
    train, _ = splits
    data = techniques.TrainingData(train, None, classes=4, log_dir=folder)
    images = train.float_images(torch.arange(64))
    given = {
        "task": find("classification"),
        "integer_outputs": lambda network, inputs: named(network(*inputs)),
        "seed": 1,
        **settings,
    }
    return techniques.Context(Precision(8, 8), (images,), model, training=data, **given)


def climb(recipe, model, context, look=None):
    """Apply a recipe; ``look(model, parameters before, notes)`` after each step that trains."""
    for step in parse_recipe(recipe):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        context.notes = []
        model = techniques.apply(step, model, context)
        if step.trains and look is not None:
            look(model, before, list(context.notes))
    return model
