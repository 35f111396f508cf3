"""Forms of operators that exporters of other kinds write, each against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from tests.models.onnx_files import write

from bitladder.errors import ModelError
from bitladder.models.onnx_file import load
from bitladder.structures import NOTES

_N = helper.make_node
_R = np.random.default_rng(0)
_X = {"x": (1, 4, 8, 9)}


def _f(*shape: int) -> Any:
    return _R.standard_normal(shape).astype(np.float32)


def _i(*values: int) -> Any:
    return np.asarray(values, np.int64)


def _check(path: Path, domains: Mapping[str, int] = {}, shape: Any = _X["x"]) -> None:
    """What is read gives ONNX Runtime's outputs for three images of values around zero."""
    if domains:
        model = onnx.load(str(path))
        model.opset_import.extend(helper.make_opsetid(*one) for one in domains.items())
        onnx.save(model, str(path))
    network = load(path)
    images = _R.standard_normal((3, *shape[1:])).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    wanted = np.concatenate([session.run(["y"], {"x": one[None]})[0] for one in images])
    with torch.no_grad():
        found = network.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


_POOL = {"kernel_shape": [3, 3], "ceil_mode": 1}
CASES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "names that Python has for itself": (
        [_N("Conv", ["x", "0.weight:0/\xdf"], ["a"], name="class.for"),
         _N("Add", ["a", "lambda.in"], ["y"], name="return")],
        {"0.weight:0/\xdf": _f(6, 4, 3, 3), "lambda.in": np.float32(2)}, 18),
    "channels flattened into the batch": ([_N("Flatten", ["x"], ["y"], axis=2)], {}, 18),
    **{f"{kind} {pads} {step} {more}": (
        [_N(kind, ["x"], ["y"], pads=pads, strides=[step, step], **_POOL, **more)], {}, 11)
       for kind in ("MaxPool", "AveragePool") for pads in ([0, 0, 1, 1], [1, 0, 0, 1])
       for step in (2, 3) for more in ({}, {"count_include_pad": 1})
       if kind == "AveragePool" or not more},
    "slopes of the last dimension": ([_N("PRelu", ["x", "s"], ["y"])], {"s": _f(9)}, 18),
    "slopes of every place": ([_N("PRelu", ["x", "s"], ["y"])], {"s": _f(4, 8, 9)}, 18),
    "slopes with a batch": ([_N("PRelu", ["x", "s"], ["y"])], {"s": _f(1, 4, 1, 1)}, 18),
    "selu of other factors": ([_N("Selu", ["x"], ["y"], alpha=1.0, gamma=2.0)], {}, 18),
    "hard shrink": ([_N("Shrink", ["x"], ["y"], lambd=0.4)], {}, 18),
    "soft shrink": ([_N("Shrink", ["x"], ["y"], lambd=0.4, bias=0.4)], {}, 18),
    "the largest of values and no limit": (
        [_N("Max", ["n", "x"], ["a"]), _N("Min", ["a", "p"], ["y"])],
        {"n": np.float32(-np.inf), "p": np.asarray([np.inf], np.float32)}, 18),
    "swish": ([_N("Swish", ["x"], ["y"])], {}, 24),
    "swish of a factor": ([_N("Swish", ["x"], ["y"], alpha=1.5)], {}, 24),
    "rms norm": ([_N("RMSNormalization", ["x", "s"], ["y"])], {"s": _f(9)}, 23),
    "reflect around channels": ([_N("Pad", ["x", "p"], ["y"], mode="reflect")],
                                {"p": _i(0, 1, 0, 0, 0, 2, 0, 0)}, 18),
    "reflect around images of channels last": (
        [_N("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": _i(0, 1, 1, 0, 0, 2, 1, 0)}, 18),
    **{f"sums before {how}": ([_N("CumSum", ["x", "a"], ["y"], **how)], {"a": np.int64(-1)}, 18)
       for how in ({"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1})},
    "tokens and images as rows": (
        [_N("Reshape", ["x", "s"], ["a"]), _N("Transpose", ["a"], ["t"], perm=[2, 0, 1]),
         _N("Reshape", ["t", "r"], ["m"]), _N("Gemm", ["m", "w"], ["g"]),
         _N("Reshape", ["g", "u"], ["b"]), _N("Transpose", ["b"], ["y"], perm=[1, 0, 2])],
        {"s": _i(1, 4, 72), "r": _i(72, 4), "w": _f(4, 5), "u": _i(72, 1, 5)}, 18),
    "a block with places twice": (
        [_N("Transpose", ["x"], ["t"], perm=[2, 3, 0, 1]), _N("GatherND", ["t", "i"], ["g"]),
         _N("Transpose", ["g"], ["y"], perm=[2, 3, 0, 1])],
        {"i": np.stack(np.meshgrid([0, 0, 1], [2, 2, 3, 3], indexing="ij"), -1)}, 18),
    "a mask that nothing reads": ([_N("Dropout", ["x"], ["y", "m"])], {}, 13),
    "places that nothing reads": (
        [_N("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], {}, 11),
    "a list of parts": (
        [_N("SplitToSequence", ["x", "s"], ["q"], axis=1), _N("SequenceAt", ["q", "o"], ["a"]),
         _N("SequenceAt", ["q", "l"], ["b"]), _N("SequenceConstruct", ["b", "a"], ["r"]),
         _N("ConcatFromSequence", ["r"], ["y"], axis=1)],
        {"s": _i(1, 3), "o": np.int64(0), "l": np.int64(-1)}, 13),
    "a list of equal parts, stacked": (
        [_N("SplitToSequence", ["x", "s"], ["q"], axis=1),
         _N("ConcatFromSequence", ["q"], ["y"], axis=1, new_axis=1)], {"s": np.int64(2)}, 13),
}  # fmt: skip
_ROI = np.zeros(0, np.float32)
for _name, _how, _by in (
    ("cubic asymmetric", {"mode": "cubic", "coordinate_transformation_mode": "asymmetric"},
     np.float32([1, 1, 1.5, 0.7])),
    ("cubic of Catmull and Rom", {"mode": "cubic", "cubic_coeff_a": -0.5},
     np.float32([1, 1, 2, 2])),
    ("cubic without what is outside", {"mode": "cubic", "exclude_outside": 1},
     np.float32([1, 1, 2, 0.6])),
    ("linear smooth", {"mode": "linear", "antialias": 1}, np.float32([1, 1, 0.6, 1.5])),
    ("cubic smooth", {"mode": "cubic", "antialias": 1}, np.float32([1, 1, 0.6, 0.5])),
    ("linear of channels last", {"mode": "linear"}, np.float32([1, 2, 2, 1])),
    ("nearest of channels last", {"mode": "nearest"}, np.float32([1, 2, 3, 1])),
    ("linear to one value",
     {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}, _i(1, 4, 1, 5)),
    ("not larger", {"mode": "linear", "keep_aspect_ratio_policy": "not_larger", "axes": [2, 3]},
     _i(5, 7)),
    ("not smaller", {"mode": "linear", "keep_aspect_ratio_policy": "not_smaller", "axes": [2, 3]},
     _i(5, 7)),
):  # fmt: skip
    _inputs = ["x", "", "", "by"] if _by.dtype == np.int64 else ["x", "roi", "by"]
    CASES[f"resize {_name}"] = ([_N("Resize", _inputs, ["y"], **_how)],
                                {"by": _by, "roi": _ROI}, 18)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_forms_of_other_exporters_are_read(name: str, tmp_path: Path) -> None:
    nodes, constants, opset = CASES[name]
    _check(write(tmp_path / "m.onnx", nodes, _X, constants, opset=opset))


@pytest.mark.parametrize(
    "node",
    [_N("Gelu", ["x"], ["y"], domain="com.microsoft"),
     _N("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.702),
     _N("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="Relu"),
     _N("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="LeakyRelu",
        activation_params=[0.3])],
    ids=lambda node: node.op_type,
)  # fmt: skip
def test_what_onnx_runtime_writes_when_it_optimises_is_read(node: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node], _X, {"w": _f(6, 4, 3, 3)})
    _check(path, {"com.microsoft": 1})


def test_a_classifier_of_scikit_learn_is_read_without_its_table_of_names(tmp_path: Path) -> None:
    """As skl2onnx writes a scaler and a perceptron: numbers first, names of classes last."""
    ml = "ai.onnx.ml"
    nodes = [_N("Scaler", ["x"], ["c"], domain=ml, offset=[0.1] * 8, scale=[2.0] * 8),
             _N("MatMul", ["c", "w"], ["m"]), _N("Add", ["m", "b"], ["a"]),
             _N("Softmax", ["a"], ["p"]),
             _N("ArgMax", ["p"], ["i"], axis=1), _N("Identity", ["p"], ["y"]),
             _N("ArrayFeatureExtractor", ["names", "i"], ["label"], domain=ml)]  # fmt: skip
    constants = {"w": _f(8, 3), "b": _f(3), "names": _i(7, 8, 9)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (1, 8)}, constants, outputs=("y", "label"))
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid(ml, 1))
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, str(path))
    network = load(path)
    assert network.outputs == ("y", "i")
    assert "ArrayFeatureExtractor 'label'" in network.module.meta[NOTES][0]


def test_a_batch_that_goes_away_is_told_by_the_shapes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Squeeze", ["x"], ["y"])], {"x": (1, 4, 1, 1)})
    with pytest.raises(ModelError, match=r"'y' is \[4\] in ONNX Runtime and \[1, 4\] as read"):
        load(path)


def test_a_list_as_an_output_is_told(tmp_path: Path) -> None:
    nodes = [_N("SequenceConstruct", ["x", "x"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, _X)
    with pytest.raises(ModelError, match="output 'y' is a sequence of tensors; export"):
        load(path)


def test_a_part_without_a_name_is_refused_before_onnx_runtime_breaks_off(tmp_path: Path) -> None:
    """Its kernel of Split reads what is not there, and ends the process."""
    nodes = [_N("Split", ["x", "s"], ["a", "", "y"], axis=1, name="parts")]
    path = write(tmp_path / "m.onnx", nodes, _X, {"s": _i(1, 2, 1)})
    with pytest.raises(ModelError, match="Split 'parts' \\(outputs without a name"):
        load(path)
