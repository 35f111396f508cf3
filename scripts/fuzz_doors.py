"""Valid small files of every kind that scripts/fuzz.py damages, and what reads them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from bitladder import data, study
from bitladder.deploy import read_encodings
from bitladder.deploy.litert import read_tflite, write_tflite
from bitladder.dlc import describe
from bitladder.dlc import read as read_dlc
from bitladder.models import load_weights, onnx_file
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.saved_network import read_saved
from bitladder.targets import graph_inputs
from bitladder.targets.litert import LitertSession
from bitladder.targets.onnxruntime_cpu import OnnxRuntimeSession

_IMAGE = (1, 8, 8)


@dataclass(frozen=True)
class Door:
    """A kind of file.

    Attributes:
        name: what its file is called.
        make: writes valid ones into a folder and returns them.
        read: everything that reads such a file.
    """

    name: str
    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def network() -> nn.Module:
    """A network of a few layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)
    ).eval()


def _float_onnx(folder: Path) -> list[Path]:
    weights = {
        "w": np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 1, 3, 3),
        "b": np.ones(3, np.float32),
        "shape": np.asarray([-1, 108], np.int64),
        "m": np.linspace(-1, 1, 432, dtype=np.float32).reshape(108, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Reshape", ["r", "shape"], ["f"], name="reshape"),
        helper.make_node("MatMul", ["f", "m"], ["y"], name="matmul"),
    ]
    plain = _save(folder / "float.onnx", nodes, weights, ["n", 4])
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Pad", ["p", "pads"], ["q"], mode="constant"),
        helper.make_node("Shape", ["q"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Add", ["q", "z"], ["a"]),
        helper.make_node("Mul", ["a", "two"], ["m"]),
        helper.make_node("Resize", ["m", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Concat", ["u", "x"], ["k"], axis=1),
        helper.make_node("ReduceMean", ["k"], ["y"], axes=[2, 3], keepdims=0),
    ]
    weights = {
        "pads": np.asarray([0, 0, 0, 0, 0, 0, 0, 0], np.int64),
        "scales": np.asarray([1, 1, 2, 2], np.float32),
    }
    return [plain, _save(folder / "shapes.onnx", nodes, weights, ["n", 2], opset=13)]


def _save(path: Path, nodes: list[Any], weights: Any, out: list[Any], opset: int = 18) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *_IMAGE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def _qdq_onnx(folder: Path) -> list[Path]:
    """A grid and a pool."""
    grid = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *grid], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *grid], ["d"]),
        helper.make_node("MaxPool", ["d"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("QuantizeLinear", ["p", *grid], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", *grid], ["y"]),
    ]
    weights = {"scale": np.float32(0.25), "zero": np.asarray(3, np.uint8)}
    return [_save(folder / "qdq.onnx", nodes, weights, ["n", 1, 4, 4], opset=20)]


def _read_float(path: Path) -> None:
    graph_inputs(path)
    onnx_file.image_input(path)
    onnx_file.load(path)


def _read_qdq(path: Path) -> None:
    graph_inputs(path)
    session = OnnxRuntimeSession(path, threads=1)
    session.run(np.zeros((1, *_IMAGE), np.float32))
    LitertSession(path, threads=1)


def _tflite(folder: Path) -> list[Path]:
    [source] = _qdq_onnx(folder)
    write_tflite(onnx.load(source), folder / "m.tflite")
    return [folder / "m.tflite"]


def _read_tflite(path: Path) -> None:
    read_tflite(path)
    session = LitertSession(path, threads=1)
    session.run_once([np.zeros(one["shape"], one["dtype"]) for one in session.inputs])


def _dlc(folder: Path) -> list[Path]:
    from bitladder.targets import write_dlc

    source = _float_onnx(folder)[0]
    write_dlc(source, folder / "m.dlc")
    return [folder / "m.dlc"]


def _encodings(folder: Path) -> list[Path]:
    path = folder / "m.encodings"
    path.write_text(
        '{"producer": {"package": "x"}, "version": "2.0.0", "encodings": [{"name": "w", '
        '"output_dtype": "int8", "y_scale": [0.5, 0.25], "axis": 0}, {"name": "x", '
        '"output_dtype": "uint8", "y_scale": 0.1, "y_zero_point": 3}]}'
    )
    return [path]


def _checkpoints(folder: Path) -> list[Path]:
    state = network().state_dict()
    torch.save(state, folder / "plain.pth")
    torch.save({"epoch": 3, "model": state, "args": {"lr": 0.1}}, folder / "nested.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    return [folder / name for name in ("plain.pth", "nested.pth", "old.pth")]


def _safetensors(folder: Path) -> list[Path]:
    from safetensors.torch import save_file

    state = {name: value.clone() for name, value in network().state_dict().items()}
    save_file(state, folder / "m.safetensors", metadata={"bitladder": '{"format": 2}'})
    return [folder / "m.safetensors"]


def _read_weights(path: Path) -> None:
    load_weights(network(), path)


def _read_safetensors(path: Path) -> None:
    _either(lambda: read_saved(path), lambda: _read_weights(path))


def _either(*readers: Callable[[], Any]) -> None:
    """Each reader in turn, also after one that refuses the file; the last refusal is raised."""
    from bitladder.errors import BitladderError

    refusal: BitladderError | None = None
    for read in readers:
        try:
            read()
        except BitladderError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _studies(folder: Path) -> list[Path]:
    path = folder / "s.yaml"
    path.write_text(
        "name: s\ndatasets: [embedded, {name: embedded, size: 32, train: 100}]\n"
        "models: [resnet18, {name: mobilenet_v2, pretrained: false}]\nprecisions: [8, w4a8]\n"
        "seed: 3\ntrain: &t\n  epochs: 2\n  lr: 0.001\n  early_stopping: {patience: 3}\n"
        "recipe:\n  - fold_batch_norm\n  - calibrate: {method: mse, images: 100}\n"
        "  - mixed_precision: {bits: [2, 4, 8], mean_bits: 5.5}\nexport: {dlc: true}\n"
        "verify: [onnxruntime, {htp: {images: 20}}]\n"
    )
    return [path]


def _read_study(path: Path) -> None:
    from bitladder.pipeline import plan

    plan(study.load(path))


def _images(folder: Path) -> list[Path]:
    values = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    image = Image.fromarray(values)
    names = ["i.png", "i.jpg", "i.gif", "i.tif", "i.webp", "i.bmp", "i.ppm", "i.tga", "i.jp2"]
    made = []
    for name in names:
        try:
            image.save(folder / name)
        except (OSError, KeyError):  # this Pillow cannot write it
            continue
        made.append(folder / name)
    deep = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(40, 30))
    deep.save(folder / "deep.png")
    return [*made, folder / "deep.png"]


def _read_image(path: Path) -> None:
    """The image among good ones, as a data set and as images without targets."""
    root = path.parent / "set"
    for place in ("a/good.png", "b/good.png", f"a/{path.name}"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    for place in ("a/good.png", "b/good.png"):
        Image.new("RGB", (16, 16)).save(root / place)
    path.replace(root / "a" / path.name)
    os.environ["BITLADDER_CACHE"] = str(path.parent / "cache")
    options = DatasetOptions(name=str(root), size=16, train=2, validation=1)
    _either(
        lambda: data.images_without_targets(str(root), 3, 16, 16, 9),
        lambda: data.load(options, LoaderOptions(workers=0), seed=1),
    )


DOORS = {
    door.name: door
    for door in (
        Door("onnx", _float_onnx, _read_float),
        Door("qdq", _qdq_onnx, _read_qdq),
        Door("tflite", _tflite, _read_tflite),
        Door("dlc", _dlc, lambda path: describe(read_dlc(path))),
        Door("encodings", _encodings, read_encodings),
        Door("checkpoint", _checkpoints, _read_weights),
        Door("safetensors", _safetensors, _read_safetensors),
        Door("study", _studies, _read_study),
        Door("image", _images, _read_image),
    )
}
"""Every kind of file from outside, by name."""
