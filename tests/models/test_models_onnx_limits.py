"""ONNX files whose names are no Python names, or whose few bytes ask for memory or time."""

from __future__ import annotations

import math
from collections.abc import Callable
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

_N = helper.make_node
_X = {"x": (1, 4, 9, 10)}
_SHAPE = (2, 4, 9, 10)


@pytest.mark.parametrize("name", ["0", "class", "self", "torch", "a/b:0", "输入", "input"])
def test_inputs_may_have_any_name(name: str, tmp_path: Path) -> None:
    nodes = [_N("Relu", [name], ["r"]), _N("Add", ["r", name], ["y"])]
    network = load(write(tmp_path / "m.onnx", nodes, {name: (1, 4, 9, 10)}))
    assert network.inputs == (name,)
    x = torch.randn(_SHAPE)
    assert torch.equal(network.module(x), x.clamp(min=0) + x)


def test_inputs_whose_names_become_the_same_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Sub", ["a.b", "a_b"], ["y"])],
                 {"a.b": (1, 4), "a_b": (1, 4)})  # fmt: skip
    network = load(path)
    assert network.inputs == ("a.b", "a_b")
    assert torch.equal(network.module(torch.full((2, 4), 3.0), torch.ones(2, 4)),
                       torch.full((2, 4), 2.0))  # fmt: skip


@pytest.mark.parametrize("name", ["graph", "code", "meta", "forward", "training"])
def test_weights_may_be_called_as_what_a_graph_module_has(name: str, tmp_path: Path) -> None:
    nodes = [_N("Conv", ["x", f"{name}.weight"], ["q"], name=name), _N("Mul", ["q", name], ["y"])]
    constants = {f"{name}.weight": np.ones((4, 4, 1, 1), np.float32),
                 name: np.full((4, 1, 1), 2, np.float32)}  # fmt: skip
    network = load(write(tmp_path / "m.onnx", nodes, _X, constants))
    x = torch.randn(_SHAPE)
    torch.testing.assert_close(network.module(x), 2 * x.sum(1, keepdim=True).expand(_SHAPE))


def _constants() -> dict[str, tuple[list[Any], dict[str, Any], int]]:
    """Nodes and constants that make one of so many values."""
    ones = np.ones
    line = 2**16
    doubled = [_N("Concat", ["p" if i == 0 else f"c{i}"] * 2, [f"c{i + 1}"], axis=0)
               for i in range(39)]  # fmt: skip
    return {
        "sum": ([_N("Add", ["p", "q"], ["r"], name="grows")],
                {"p": ones((line, 1), np.float32), "q": ones((1, line), np.float32)}, line**2),
        "gather": ([_N("Gather", ["p", "q"], ["r"], name="grows")],
                   {"p": ones((1, line), np.float32), "q": np.zeros(line, np.int64)}, line**2),
        "resize": ([_N("Resize", ["p", "", "q"], ["r"], name="grows")],
                   {"p": ones((1, 1, 4, 4), np.float32),
                    "q": np.float32([1, 1, 2**14, 2**14])}, line**2),
        "pad": ([_N("Pad", ["p", "q"], ["r"], name="grows")],
                {"p": ones((4, 4), np.float32),
                 "q": np.asarray([line - 4, line - 4, 0, 0])}, line**2),
        "doublings": ([*doubled, _N("Concat", ["c39", "c39"], ["r"], axis=0, name="grows")],
                      {"p": ones(4, np.float32)}, 2**26),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_constants()))
def test_constants_that_grow_are_refused_before_they_are_made(name: str, tmp_path: Path) -> None:
    nodes, constants, count = _constants()[name]
    nodes = [*nodes, _N("ReduceSum", ["r"], ["s"], keepdims=0), _N("Add", ["x", "s"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, _X, constants)
    with pytest.raises(ModelError, match=rf"a constant of {count} values"):
        load(path)


def test_constants_as_large_as_the_file_itself_are_made(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(weight)),
             _N("Transpose", ["c"], ["w"], perm=[1, 0, 2, 3]),
             _N("Conv", ["x", "w"], ["y"])]  # fmt: skip
    module = load(write(tmp_path / "m.onnx", nodes, _X)).module
    [layer] = [one for one in module.modules() if isinstance(one, torch.nn.Conv2d)]
    np.testing.assert_array_equal(layer.weight.detach(), weight.transpose(1, 0, 2, 3))


def test_loops_and_chance_are_no_constants(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [_N("Identity", ["on"], ["on2"]), _N("Identity", ["v"], ["v2"])], "body",
        [info("i", 7, []), info("on", 9, []), info("v", 1, [1])],
        [info("on2", 9, []), info("v2", 1, [1])])  # fmt: skip
    nodes = [_N("Loop", ["times", "true", "one"], ["k"], name="endless", body=body),
             _N("RandomNormal", [], ["n"], name="dice", shape=[1]),
             _N("Sum", ["x", "k", "n"], ["y"])]  # fmt: skip
    constants = {"times": np.int64(2**62), "true": np.bool_(True), "one": np.ones(1, np.float32)}
    path = write(tmp_path / "m.onnx", nodes, _X, constants)
    with pytest.raises(ModelError, match=r"2 operators: Loop 'endless' .*; RandomNormal 'dice'"):
        load(path)


def _chain(path: Path) -> None:
    """Each function calls the one before twice."""
    _functions(path, [[f"f{i - 1}", f"f{i - 1}"] for i in range(1, 40)])


def _circle(path: Path) -> None:
    _functions(path, [["f2"], ["f1"]])


def _functions(path: Path, calls: list[list[str]]) -> None:
    """Functions f1, f2, ... that call these; f0 is Relu."""
    model = onnx.load(str(path))
    local = helper.make_opsetid("own", 1)
    model.opset_import.append(local)
    opsets = [local, helper.make_opsetid("", 18)]
    model.functions.append(
        helper.make_function("own", "f0", ["t0"], ["t1"], [_N("Relu", ["t0"], ["t1"])], opsets)
    )
    for i, called in enumerate(calls, 1):
        nodes = [_N(one, [f"t{j}"], [f"t{j + 1}"], domain="own") for j, one in enumerate(called)]
        model.functions.append(
            helper.make_function("own", f"f{i}", ["t0"], [f"t{len(called)}"], nodes, opsets)
        )
    del model.graph.node[:]
    model.graph.node.append(_N(f"f{len(calls)}", ["x"], ["y"], domain="own"))
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "told"), [(_chain, f"has {2**39} nodes"), (_circle, "call themselves")]
)
def test_functions_without_an_end_are_refused(
    make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.onnx", [_N("Relu", ["x"], ["y"])], _X)
    make(path)
    with pytest.raises(ModelError, match=told):
        load(path)


def test_functions_are_read_as_what_they_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [_N("Relu", ["x"], ["y"])], _X)
    _functions(path, [["f0", "f0"], ["f1"]])
    x = torch.randn(_SHAPE)
    assert torch.equal(load(path).module(x), x.clamp(min=0))


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    weight = np.ones((4, 4, 1, 1), np.float32)
    weight[1, 2] = math.nan
    path = write(tmp_path / "m.onnx", [_N("Conv", ["x", "w"], ["y"])], _X, {"w": weight})
    with pytest.raises(ModelError, match="'w' holds values that are not numbers"):
        load(path)


def test_what_torch_refuses_is_one_line_and_nothing_is_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = [_N("MaxPool", ["x"], ["y"], name="pool", kernel_shape=[2, 2], strides=[0, 0])]
    path = write(tmp_path / "m.onnx", nodes, _X)
    with pytest.raises(ModelError, match=r"MaxPool 'pool' .*stride should not be zero"):
        load(path)
    assert "Traceback" not in "".join(capfd.readouterr())
