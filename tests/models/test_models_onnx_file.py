"""Every operator that is read, against ONNX Runtime, at the file's batch and at three times it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from tests.models.onnx_files import write

from bitladder.errors import ModelError
from bitladder.models.onnx_file import load
from bitladder.structures import NOTES

_N = helper.make_node
_R = np.random.default_rng(0)


def _f(*shape: int) -> Any:
    return _R.standard_normal(shape).astype(np.float32)


def _p(*shape: int) -> Any:
    return _R.random(shape).astype(np.float32) + 0.5


def _i(*values: int) -> Any:
    return np.asarray(values, np.int64)


_X = {"x": (1, 4, 9, 10)}
_BN = {"s": _p(4), "b": _f(4), "m": _f(4), "v": _p(4)}
# Name: nodes, constants, and what else differs from an image (1, 4, 9, 10) and opset 18.
CASES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "conv": ([_N("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])],
             {"w": _f(6, 4, 3, 3), "b": _f(6)}, {}),
    "conv groups dilated": ([_N("Conv", ["x", "w"], ["y"], group=2, dilations=[2, 1])],
                            {"w": _f(6, 2, 3, 3)}, {}),
    "conv uneven": ([_N("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 0])], {"w": _f(6, 4, 3, 3)}, {}),
    "conv same": ([_N("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
                  {"w": _f(6, 4, 3, 3)}, {}),
    "conv same lower": ([_N("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])],
                        {"w": _f(6, 4, 3, 3)}, {}),
    "conv 1d": ([_N("Conv", ["x", "w"], ["y"], pads=[1, 1])], {"w": _f(6, 4, 3)},
                {"inputs": {"x": (1, 4, 9)}}),
    "conv 3d": ([_N("Conv", ["x", "w"], ["y"])], {"w": _f(6, 4, 3, 2, 2)},
                {"inputs": {"x": (1, 4, 5, 5, 5)}}),
    "conv transpose": ([_N("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2],
                           pads=[1, 1, 1, 1], output_padding=[1, 1])],
                       {"w": _f(4, 3, 3, 3), "b": _f(3)}, {}),
    "conv transpose uneven": ([_N("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2],
                                  pads=[0, 1, 1, 0])], {"w": _f(4, 3, 3, 3)}, {}),
    "conv transpose same": ([_N("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2],
                                auto_pad="SAME_UPPER")], {"w": _f(4, 3, 3, 3)}, {}),
    "max pool": ([_N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2],
                     pads=[1, 1, 1, 1])], {}, {}),
    "max pool ceil": ([_N("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 2],
                          ceil_mode=1)], {}, {}),
    "max pool uneven": ([_N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2],
                            pads=[0, 0, 1, 1])], {}, {}),
    "max pool begins uneven": ([_N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2],
                                   pads=[1, 1, 0, 0])], {}, {}),
    "average pool": ([_N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
                     {}, {}),
    "average pool counted": ([_N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3],
                                 pads=[0, 1, 1, 0], count_include_pad=1)], {}, {}),
    "average pool uneven": ([_N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2],
                                pads=[1, 0, 0, 1])], {}, {}),
    "global average pool": ([_N("GlobalAveragePool", ["x"], ["y"])], {}, {}),
    "global max pool": ([_N("GlobalMaxPool", ["x"], ["y"])], {}, {}),
    "lp pool": ([_N("LpPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])], {}, {}),
    **{kind: ([_N(kind, ["x"], ["y"])], {}, {})
       for kind in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish",
                    "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "HardSigmoid",
                    "Neg", "Abs", "Exp", "Sqrt", "Reciprocal", "Erf", "Floor", "Ceil", "Round",
                    "Sign", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Log", "Asin", "Acos",
                    "Identity", "Dropout", "Softmax", "LogSoftmax", "Flatten", "Transpose",
                    "LpNormalization")},
    "mean variance": ([_N("MeanVarianceNormalization", ["x"], ["y"], axes=[2, 3])], {}, {}),
    "gelu": ([_N("Gelu", ["x"], ["y"], approximate="tanh")], {}, {"opset": 20}),
    "prelu": ([_N("PRelu", ["x", "s"], ["y"])], {"s": _p(4, 1, 1)}, {}),
    "hard sigmoid of pytorch": ([_N("HardSigmoid", ["x"], ["y"], alpha=1 / 6)], {}, {}),
    "clip": ([_N("Clip", ["x", "a", "b"], ["y"])],
             {"a": np.float32(0), "b": np.float32(0.5)}, {}),
    "clip one side": ([_N("Clip", ["x", "", "b"], ["y"])], {"b": np.float32(0.5)}, {}),
    "clip of opset 7": ([_N("Clip", ["x"], ["y"], min=0.0, max=6.0)], {}, {"opset": 7}),
    "softmax of opset 11": ([_N("Softmax", ["x"], ["y"], axis=1)], {}, {"opset": 11}),
    "batch norm": ([_N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])], _BN, {}),
    "instance norm": ([_N("InstanceNormalization", ["x", "s", "b"], ["y"])],
                      {"s": _p(4), "b": _f(4)}, {}),
    "layer norm": ([_N("LayerNormalization", ["x", "s", "b"], ["y"], axis=-1)],
                   {"s": _p(10), "b": _f(10)}, {}),
    "group norm of opset 21": ([_N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)],
                               {"s": _p(4), "b": _f(4)}, {"opset": 21}),
    "lrn": ([_N("LRN", ["x"], ["y"], size=3, alpha=0.1)], {}, {}),
    **{f"{kind} of two": ([_N(kind, ["x", "z"], ["y"])], {"z": _p(4, 1, 1)}, {})
       for kind in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")},
    **{f"{kind} of a number": ([_N(kind, ["z", "x"], ["y"])], {"z": np.float32(1.5)}, {})
       for kind in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")},
    **{f"{kind} of three": ([_N(kind, ["x", "z", "x"], ["y"])], {"z": _p(4, 1, 1)}, {})
       for kind in ("Sum", "Mean", "Max")},
    "mod": ([_N("Mod", ["x", "z"], ["y"], fmod=1)], {"z": np.float32(0.3)}, {}),
    **{f"{kind} and where": ([_N(kind, ["x", "z"], ["c"]), _N("Where", ["c", "x", "q"], ["y"])],
                             {"z": np.float32(0.5), "q": np.float32(-1)}, {})
       for kind in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal")},
    "logic": ([_N("Greater", ["x", "z"], ["a"]), _N("Not", ["a"], ["n"]),
               _N("Or", ["a", "n"], ["o"]), _N("Xor", ["o", "a"], ["e"]),
               _N("And", ["e", "n"], ["d"]), _N("Cast", ["d"], ["y"], to=1)],
              {"z": np.float32(0.5)}, {}),
    "matmul": ([_N("MatMul", ["x", "w"], ["y"])], {"w": _f(10, 7)}, {}),
    "matmul with bias": ([_N("MatMul", ["x", "w"], ["h"]), _N("Add", ["h", "b"], ["y"])],
                         {"w": _f(10, 7), "b": _f(7)}, {}),
    "matmul of two": ([_N("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
                       _N("MatMul", ["x", "t"], ["y"])], {}, {}),
    "gemm": ([_N("Flatten", ["x"], ["f"]),
              _N("Gemm", ["f", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0)],
             {"w": _f(5, 360), "b": _f(5)}, {}),
    "einsum": ([_N("Einsum", ["x", "w"], ["y"], equation="bchw,wo->bcho")], {"w": _f(10, 3)}, {}),
    "reshape that fixes one image": ([_N("Reshape", ["x", "s"], ["y"])],
                                     {"s": _i(1, 2, 2, 9, 10)}, {}),
    "reshape with what is left": ([_N("Reshape", ["x", "s"], ["y"])], {"s": _i(0, -1, 10)}, {}),
    "shuffle that fixes one image": (
        [_N("Reshape", ["x", "s"], ["a"]), _N("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3, 4]),
         _N("Reshape", ["t", "u"], ["y"])], {"s": _i(1, 2, 2, 9, 10), "u": _i(1, 4, 9, 10)}, {}),
    "heads merged into the batch": (
        [_N("Reshape", ["x", "s"], ["a"]), _N("Softmax", ["a"], ["h"]),
         _N("Reshape", ["h", "u"], ["y"])], {"s": _i(4, 9, 10), "u": _i(1, 4, 90)}, {}),
    "a batch of one moved by reshape": (
        [_N("Transpose", ["x"], ["t"], perm=[1, 0, 2, 3]), _N("Reshape", ["t", "s"], ["y"])],
        {"s": _i(1, 4, 90)}, {}),
    "shape arithmetic": (
        [_N("Shape", ["x"], ["n"]), _N("Gather", ["n", "zero"], ["b"]),
         _N("Concat", ["b", "rest"], ["s"], axis=0), _N("Reshape", ["x", "s"], ["y"])],
        {"zero": _i(0), "rest": _i(-1)}, {"inputs": {"x": ("N", 4, 9, 10)}}),
    "squeeze": ([_N("GlobalAveragePool", ["x"], ["g"]), _N("Squeeze", ["g", "a"], ["y"])],
                {"a": _i(2, 3)}, {}),
    "unsqueeze": ([_N("Unsqueeze", ["x", "a"], ["y"])], {"a": _i(-1, 1)}, {}),
    "expand": ([_N("GlobalAveragePool", ["x"], ["g"]), _N("Expand", ["g", "s"], ["y"])],
               {"s": _i(1, 4, 3, 5)}, {}),
    "tile": ([_N("Tile", ["x", "r"], ["y"])], {"r": _i(1, 2, 1, 3)}, {}),
    "depth to space": ([_N("DepthToSpace", ["x"], ["y"], blocksize=2)], {}, {}),
    "depth to space crd": ([_N("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")], {}, {}),
    "space to depth": ([_N("SpaceToDepth", ["x"], ["y"], blocksize=2)], {},
                       {"inputs": {"x": (1, 3, 4, 6)}}),
    "concat": ([_N("Relu", ["x"], ["r"]), _N("Concat", ["x", "r"], ["y"], axis=1)], {}, {}),
    "concat of a constant": ([_N("Concat", ["z", "x"], ["y"], axis=1)], {"z": _f(1, 1, 9, 10)}, {}),
    "split": ([_N("Split", ["x", "s"], ["a", "b"], axis=1), _N("Mul", ["a", "t"], ["d"]),
               _N("Concat", ["b", "d"], ["y"], axis=1)],
              {"s": _i(1, 3), "t": np.float32(2)}, {}),
    **{f"pad {mode}": ([_N("Pad", ["x", "p"], ["y"], mode=mode)],
                       {"p": _i(0, 0, 1, 2, 0, 0, 2, 1)}, {})
       for mode in ("constant", "reflect", "edge")},
    "pad that cuts": ([_N("Pad", ["x", "p"], ["y"])], {"p": _i(0, 1, -1, 0, 0, 0, 0, -2)}, {}),
    "slice": ([_N("Slice", ["x", "s", "e", "a", "t"], ["y"])],
              {"s": _i(1, -3), "e": _i(8, 100), "a": _i(2, 3), "t": _i(3, 1)}, {}),
    "slice backwards": ([_N("Slice", ["x", "s", "e", "a", "t"], ["y"])],
                        {"s": _i(-1), "e": _i(-1000), "a": _i(3), "t": _i(-2)}, {}),
    "gather": ([_N("Gather", ["x", "i"], ["y"], axis=1)], {"i": _i(3, 0, 0)}, {}),
    "gather one": ([_N("Gather", ["x", "i"], ["y"], axis=2)], {"i": np.int64(-1)}, {}),
    "gather elements": ([_N("GatherElements", ["x", "i"], ["y"], axis=3)],
                        {"i": np.zeros((1, 4, 9, 2), np.int64)}, {"batch_fixed": True}),
    "trilu": ([_N("Trilu", ["x"], ["y"], upper=0)], {}, {}),
    **{f"{kind} of places": ([_N(kind, ["x", "a"], ["y"])], {"a": _i(2, 3)}, {})
       for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                    "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum")
       if kind != "ReduceProd"},
    "reduce of opset 11": ([_N("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)], {},
                           {"opset": 11}),
    "argmax": ([_N("ArgMax", ["x"], ["i"], axis=1), _N("Cast", ["i"], ["y"], to=1)], {}, {}),
    "topk": ([_N("TopK", ["x", "k"], ["y", "i"], axis=-1)], {"k": _i(3)}, {}),
    "cumsum": ([_N("CumSum", ["x", "a"], ["y"])], {"a": np.int64(2)}, {}),
    "upsample of opset 9": ([_N("Upsample", ["x", "s"], ["y"], mode="nearest")],
                            {"s": np.float32([1, 1, 2, 2])}, {"opset": 9}),
    **{f"resize {name}": ([_N("Resize", ["x", "", "s"], ["y"], **how)],
                          {"s": np.float32([1, 1, *factors])}, {})
       for name, how, factors in (
           ("nearest", {"mode": "nearest"}, (2, 3)),
           ("nearest asymmetric", {"mode": "nearest", "nearest_mode": "floor",
                                   "coordinate_transformation_mode": "asymmetric"}, (2, 2)),
           ("nearest to less", {"mode": "nearest"}, (0.5, 0.7)),
           ("nearest ceil", {"mode": "nearest", "nearest_mode": "ceil"}, (1.5, 1.3)),
           ("linear", {"mode": "linear"}, (2, 1.5)),
           ("linear aligned", {"mode": "linear",
                               "coordinate_transformation_mode": "align_corners"}, (2, 2)),
           ("cubic", {"mode": "cubic", "cubic_coeff_a": -0.75}, (2, 2)))},
    "resize to sizes": ([_N("Resize", ["x", "", "", "s"], ["y"], mode="linear")],
                        {"s": _i(1, 4, 13, 7)}, {}),
}  # fmt: skip


def _sequence(kind: str, gates: int, direction: str, **how: Any) -> Any:
    ends = 2 if direction == "bidirectional" else 1
    nodes = [_N(kind, ["x", "w", "r", "b"], ["s"], hidden_size=5, direction=direction, **how),
             _N("Transpose", ["s"], ["t"], perm=[2, 0, 1, 3]),
             _N("Reshape", ["t", "k"], ["y"])]  # fmt: skip
    constants = {"w": _f(ends, gates * 5, 3), "r": _f(ends, gates * 5, 5),
                 "b": _f(ends, 2 * gates * 5), "k": _i(0, 0, -1)}  # fmt: skip
    nodes.insert(0, _N("Transpose", ["z"], ["x"], perm=[1, 0, 2]))
    return nodes, constants, {"inputs": {"z": (1, 7, 3)}}


for _direction in ("forward", "reverse", "bidirectional"):
    CASES[f"lstm {_direction}"] = _sequence("LSTM", 4, _direction)
    CASES[f"gru {_direction}"] = _sequence("GRU", 3, _direction, linear_before_reset=1)
    CASES[f"rnn {_direction}"] = _sequence("RNN", 1, _direction)
for _rule in ("asymmetric", "half_pixel_symmetric", "pytorch_half_pixel"):
    for _sizes in ((1, 4, 18, 20), (1, 4, 3, 5), (1, 4, 13, 7), (1, 4, 9, 30)):
        CASES[f"linear {_rule} {_sizes[2]}x{_sizes[3]}"] = (
            [_N("Resize", ["x", "", "", "n"], ["y"], mode="linear",
                coordinate_transformation_mode=_rule)], {"n": _i(*_sizes)}, {})  # fmt: skip
CASES["upsample linear"] = (
    [_N("Upsample", ["x", "f"], ["y"], mode="linear")],
    {"f": np.asarray([1, 1, 3, 2], np.float32)}, {"opset": 9})  # fmt: skip
CASES["linear symmetric by factors"] = (
    [_N("Resize", ["x", "", "f"], ["y"], mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric")],
    {"f": np.asarray([1, 1, 1.3, 0.7], np.float32)}, {"opset": 19})  # fmt: skip
CASES["reflect signal"] = (
    [_N("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": _i(0, 2, 0, 3)},
    {"inputs": {"x": (1, 9)}})  # fmt: skip
_BLOCK = np.stack(np.meshgrid([0], [1, 3], [0, 1, 2], indexing="ij"), -1)
CASES["gather block"] = (
    [_N("GatherND", ["x", "i"], ["y"])],
    {"i": _BLOCK},
    {"inputs": {"x": (1, 4, 9, 10)}},
)
CASES["gather block backwards"] = (
    [_N("GatherND", ["x", "i"], ["y"])],
    {"i": np.asarray([[[0, -1], [0, 1]]])},
    {},
)
CASES["scatter constants"] = (
    [_N("ScatterND", ["x", "i", "u"], ["y"])],
    {"i": _BLOCK, "u": _f(1, 2, 3, 10)},
    {},
)
CASES["scatter what is computed"] = (
    [_N("Slice", ["x", "a", "e", "d"], ["s"]), _N("Exp", ["s"], ["u"]),
     _N("ScatterND", ["x", "i", "u"], ["y"])],
    {"a": _i(1), "e": _i(3), "d": _i(1), "i": np.asarray([[[0, 1], [0, 3]]])}, {})  # fmt: skip
for _kind, _gates in (("LSTM", 4), ("GRU", 3)):
    _nodes, _constants, _more = _sequence(
        _kind, _gates, "bidirectional", **({"linear_before_reset": 1} if _gates == 3 else {})
    )
    for _at in range(len(_nodes)):
        if _nodes[_at].op_type == _kind:
            _nodes[_at].input.extend(["", "", "h0"][len(_nodes[_at].input) - 3 :])
    CASES[f"{_kind} begins at a constant"] = (_nodes, _constants | {"h0": _f(2, 1, 5)}, _more)


@pytest.mark.parametrize("name", [n for n in CASES if not CASES[n][2].get("batch_fixed")])
def test_what_is_read_is_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    """``load`` compares by itself; here its result is checked again, on other values."""
    import onnxruntime

    nodes, constants, more = CASES[name]
    inputs = more.get("inputs", _X)
    path = write(tmp_path / "m.onnx", nodes, inputs, constants, opset=more.get("opset", 18))
    network = load(path)
    [(given, shape)] = inputs.items()
    images = _R.random((3, *shape[1:])).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    with torch.no_grad():
        found = network.module(torch.from_numpy(images)).numpy()
    assert network.inputs == (given,)
    assert network.outputs == ("y",)
    wanted = [session.run(["y"], {given: one[None]})[0] for one in images]
    for one, value in zip(wanted, found, strict=True) if found.shape[0] == 3 else ():
        np.testing.assert_allclose(value, one[0], rtol=1e-4, atol=2e-5)


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    nodes = [_N("Det", ["x"], ["a"], name="first"), _N("NonZero", ["x"], ["n"]),
             _N("Relu", ["x"], ["r"]),
             _N("LRN", ["r"], ["y"], name="second", size=4)]  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, _X, outputs=("y", "a"))
    with pytest.raises(ModelError, match=r"2 operators: Det 'first'.*; LRN 'second' \(size 4"):
        load(path)


def test_an_end_that_picks_by_values_is_left_out_with_a_note(tmp_path: Path) -> None:
    """As detectors end: boxes and scores are computed, and suppression picks some of them."""
    nodes = [_N("Conv", ["x", "w"], ["h"]), _N("Reshape", ["h", "s"], ["scores"]),
             _N("Conv", ["x", "v"], ["g"]), _N("Reshape", ["g", "t"], ["boxes"]),
             _N("NonMaxSuppression", ["boxes", "scores", "most"], ["picked"], name="nms"),
             _N("Gather", ["boxes", "picked"], ["y"]), _N("Tanh", ["g"], ["kept"])]  # fmt: skip
    constants = {"w": _f(2, 4, 1, 1), "v": _f(4, 4, 1, 1), "s": _i(0, 2, -1), "t": _i(0, -1, 4),
                 "most": _i(5)}  # fmt: skip
    network = load(write(tmp_path / "m.onnx", nodes, _X, constants, outputs=("y", "kept")))
    assert network.outputs == ("kept", "boxes", "scores")
    [note] = network.module.meta[NOTES]
    assert "NonMaxSuppression 'nms'" in note
    assert "gives 'kept', 'boxes', 'scores'" in note
    with torch.no_grad():
        found = network.module(torch.rand(3, *_X["x"][1:]))
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "kept": (3, 4, 9, 10), "boxes": (3, 90, 4), "scores": (3, 2, 90)
    }  # fmt: skip


def test_a_block_of_images_and_what_is_no_block_are_refused(tmp_path: Path) -> None:
    nodes = [_N("GatherND", ["x", "i"], ["y"], name="places")]
    path = write(tmp_path / "m.onnx", nodes, _X, {"i": np.asarray([[0, 1, 2], [0, 3, 1]])})
    with pytest.raises(ModelError, match=r"GatherND 'places' \(indices that are no block\)"):
        load(path)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [({"x": ("n", 4), "h": (2, "n", 4)}, r"'h' \[2, n, 4\] does not have the images"),
     ({"x": (1, 4), "h": (2, 1, 4)}, r"'h' \[2, 1, 4\] does not have the images"),
     ({"x": ("n", 4), "h": ()}, r"'h' \[\] is one number for all images")],
)  # fmt: skip
def test_inputs_without_images_first_are_named(shapes: Any, told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Add", ["x", "h"], ["y"])], shapes)
    with pytest.raises(ModelError, match=told):
        load(path)


def _cancelled(path: Path, factor: float = 1.0) -> Path:
    """A variance as E[x*x] - E[x]*E[x] of values around 30."""
    nodes = [_N("Add", ["x", "far"], ["z"]), _N("Mul", ["z", "z"], ["q"]),
             _N("ReduceMean", ["q", "a"], ["e"], keepdims=0),
             _N("ReduceMean", ["z", "a"], ["m"], keepdims=0), _N("Mul", ["m", "m"], ["p"]),
             _N("Sub", ["e", "p"], ["v"]), _N("Mul", ["v", "f"], ["y"])]  # fmt: skip
    constants = {"far": np.float32(30), "a": _i(2, 3), "f": np.float32(factor)}
    return write(path, nodes, {"x": (1, 4, 32, 32)}, constants)


def test_what_float32_itself_cannot_compute_is_no_wrong_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitladder.models.onnx_file import comparison

    path = _cancelled(tmp_path / "m.onnx")
    monkeypatch.setattr(comparison, "_in_float64", lambda *given: None)
    with pytest.raises(ModelError, match="is not ONNX Runtime's"):
        load(path)
    monkeypatch.undo()
    load(path)
    wrong = load(_cancelled(tmp_path / "w.onnx", 1.1))
    with pytest.raises(ModelError, match="is not ONNX Runtime's"):
        comparison.compare(path, onnx.load(path), wrong, 1)


def test_a_file_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    nodes = [_N("QuantizeLinear", ["x", "s", "z"], ["q"]),
             _N("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, _X, {"s": np.float32(0.1), "z": np.int8(0)})
    with pytest.raises(ModelError, match="is quantized already"):
        load(path)


def test_open_sizes_are_asked_for_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Relu", ["x"], ["y"])], {"x": ("N", 3, "H", "W")})
    with pytest.raises(ModelError, match=r"input 'x' \[N, 3, H, W\] leaves sizes open: 3x\?x\?"):
        load(path)
    assert load(path, [(3, 8, 9)]).shapes == ((3, 8, 9),)
    assert load(path, {"x": (3, 8, 9)}).shapes == ((3, 8, 9),)
    with pytest.raises(ModelError, match=r"takes 3x\?x\? and not 4x8x9"):
        load(path, [(4, 8, 9)])


def _damaged(name: str, path: Path) -> None:
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    if name == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
        return
    if name == "text":
        path.write_text("not a network at all\n" * 9)
        return
    if name == "empty":
        path.write_bytes(b"")
        return
    if name == "no data":
        tensor.ClearField("raw_data")
    elif name == "enormous":
        tensor.dims[0] = 2**40
    elif name == "external":
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="gone.bin")
    elif name == "outside":
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../etc/passwd")
    elif name == "no outputs":
        del model.graph.output[:]
    elif name == "grows":
        model.graph.node.insert(0, _N("ConstantOfShape", ["huge"], ["w2"]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(_i(2**20, 2**20), "huge"))
    elif name == "unread name":
        model.graph.node[0].input[0] = "nowhere"
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "name",
    ["cut off", "text", "empty", "no data", "enormous", "external", "outside", "no outputs",
     "grows", "unread name"],
)  # fmt: skip
def test_bad_files_give_one_line(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Conv", ["x", "w"], ["y"])], _X, {"w": _f(6, 4, 3, 3)})
    _damaged(name, path)
    with pytest.raises(ModelError) as told:
        load(path)
    assert "m.onnx" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot read"):
        load(tmp_path / "gone.onnx")


def test_parameters_keep_their_names(tmp_path: Path) -> None:
    nodes = [_N("Conv", ["x", "features.0.weight", "features.0.bias"], ["h"], name="/conv/Conv"),
             _N("Mul", ["h", "gamma"], ["y"])]  # fmt: skip
    constants = {"features.0.weight": _f(6, 4, 3, 3), "features.0.bias": _f(6),
                 "gamma": _f(6, 1, 1)}  # fmt: skip
    network = load(write(tmp_path / "m.onnx", nodes, _X, constants))
    state = network.module.state_dict()
    assert set(state) == set(constants)
    np.testing.assert_array_equal(state["features.0.weight"], constants["features.0.weight"])


def test_an_if_of_known_sizes_is_the_branch_that_is_taken(tmp_path: Path) -> None:
    then = helper.make_graph([_N("Relu", ["x"], ["t"])], "t", [], [onnx.ValueInfoProto(name="t")])
    other = helper.make_graph([_N("Neg", ["x"], ["e"])], "e", [], [onnx.ValueInfoProto(name="e")])
    for graph in (then, other):
        graph.output[0].type.tensor_type.elem_type = 1
    nodes = [_N("Shape", ["x"], ["n"]), _N("Gather", ["n", "one"], ["c"]),
             _N("Equal", ["c", "four"], ["q"]),
             _N("If", ["q"], ["y"], then_branch=then, else_branch=other)]  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, _X, {"one": np.int64(1), "four": np.int64(4)})
    found = load(path).module(-torch.ones(2, 4, 9, 10))
    assert torch.equal(found, torch.zeros(2, 4, 9, 10))
