"""LiteRT as a target: whole networks against ONNX Runtime's precise session, and its own sums."""

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bitladder import deploy
from bitladder.deploy.litert import read_tflite, translate, write_tflite
from bitladder.errors import TargetError
from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, prepare
from bitladder.targets import integer_session, open_precise, open_target
from bitladder.targets.litert import LitertIntegerSession, LitertSession
from bitladder.techniques.fold_batch_norm import fold_batch_norm
from bitladder.verification import verify
from small_network import Branches, only, split
from targets.integer_graphs import Graph

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def images():
    found = split(64, 3)
    return next(iter(found.batches(64)))[0]


def _exported(precision, images, path, int4=None, **calibrate):
    torch.manual_seed(0)
    folded, _ = fold_batch_norm(Branches().eval())
    simulated = SimulatedModel(
        folded,
        Precision.parse(precision),
        shapes=[tuple(images.shape[1:])],
        options=Calibrate(method="min_max", **calibrate),
    )
    simulated.calibrate(images)
    deploy.Traced(simulated.eval()).write_qdq(path, int4=int4)
    return path


@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w4a4", "w6a6"])
def test_a_whole_network_is_near_onnx_runtime_in_every_logit(precision, images, tmp_path):
    path = _exported(precision, images, tmp_path / "model.onnx")
    session = open_target("litert", path, threads=1)
    found = only(session.run(images.numpy()))
    exact = open_precise("onnxruntime", path, threads=1)
    assert session.fallbacks == ()
    assert session.steps == exact.steps
    wanted = only(exact.run(images.numpy()))
    assert len(np.unique(wanted, axis=0)) > 10
    assert np.array_equal(wanted, only(integer_session(path).run(images.numpy())))
    # XNNPACK's ADD alone parts from these integers, seldom, by one step.
    assert np.abs(found - wanted).max() <= 1.5 * only(session.steps)
    assert (found == wanted).all(1).mean() > 0.9


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w4a4", "w6a6"])
def test_a_whole_network_is_its_own_integer_arithmetic_in_every_logit(
    precision, kernels, images, tmp_path
):
    path = _exported(precision, images, tmp_path / "model.onnx")
    found = only(LitertSession(path, kernels=kernels, threads=1).run(images.numpy()))
    wanted = LitertIntegerSession(path, kernels=kernels)
    assert len(np.unique(found, axis=0)) > 10
    assert np.array_equal(found, only(wanted.run(images.numpy())))


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_activations_of_16_bit_are_their_own_integer_arithmetic(kernels, images, tmp_path):
    path = _exported("w8a16", images, tmp_path / "model.onnx", targets=("litert",))
    session = LitertSession(path, kernels=kernels, threads=1)
    assert session.fallbacks == ()
    found = only(session.run(images.numpy()))
    own = LitertIntegerSession(path, kernels=kernels)
    assert np.array_equal(found, only(own.run(images.numpy())))
    near = only(integer_session(path).run(images.numpy()))
    assert np.abs(found - near).max() <= 40 * only(session.steps)


def test_activations_of_16_bit_off_zero_are_refused_with_a_remedy(images, tmp_path):
    path = _exported("w8a16", images, tmp_path / "model.onnx")
    with pytest.raises(TargetError, match=r"targets: \[litert\]"):
        open_target("litert", path)


def test_weights_of_4_bit_are_packed_and_computed_in_every_logit(images, tmp_path):
    sizes = []
    for int4 in (False, True):
        path = _exported("w4a8", images, tmp_path / "model.onnx", int4=int4)
        write_tflite(onnx.load(path), tflite := tmp_path / "model.tflite")
        found = only(LitertSession(tflite, threads=1).run(images.numpy()))
        assert np.array_equal(found, only(LitertIntegerSession(tflite).run(images.numpy())))
        weights = [one for one in read_tflite(tflite).tensors if one.dtype in ("INT8", "INT4")]
        assert any(one.dtype == "INT4" for one in weights) == int4
        sizes.append(sum(one.bytes for one in weights))
    assert 1.9 < sizes[0] / sizes[1] < 2.1


def test_litert_s_own_analyzer_reads_the_file(images, tmp_path):
    analyzer = pytest.importorskip("ai_edge_litert._pywrap_analyzer_wrapper")
    path = _exported("w8a8", images, tmp_path / "model.onnx")
    write_tflite(onnx.load(path), tflite := tmp_path / "model.tflite")
    told = analyzer.ModelAnalyzer(str(tflite), True, False)
    operators = re.findall(r"Op#\d+ ([A-Z0-9_]+)\(", told)
    described = read_tflite(tflite)
    assert operators == [one.kind for one in described.operators]
    tensors = re.findall(r"T#\d+\(([^)]*)\) shape", told)
    assert tensors[: len(described.tensors)] == [one.name for one in described.tensors]


def test_litert_is_compared_with_its_own_arithmetic(images, tmp_path):
    path = _exported("w8a8", images, tmp_path / "model.onnx")
    found = verify(path, images, target="litert", threads=1)
    assert found.comparison.integer.equal.value == 1
    assert found.notes == ()


def test_the_reference_kernels_round_twice(images, tmp_path):
    path = _exported("w8a8", images, tmp_path / "model.onnx")
    plain = LitertSession(path, kernels="reference", threads=1)
    wanted = only(open_precise("onnxruntime", path, threads=1).run(images.numpy()))
    found = only(plain.run(images.numpy()))
    assert np.abs(found - wanted).max() <= 4 * only(plain.steps)


def test_a_file_with_channels_in_groups_of_five_dimensions_transposes_once_a_shuffle(tmp_path):
    graph = Graph((1, 8, 6, 6), np.uint8, 0)
    grid = graph.grid(6.0)
    x = graph.op("Reshape", graph.on("image", grid), graph.const(np.asarray([-1, 2, 4, 6, 6])))
    x = graph.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = graph.op("Reshape", x, graph.const(np.asarray([-1, 8, 6, 6])))
    model = _model(graph, graph.on(x, grid))
    write_tflite(model, path := tmp_path / "m.tflite")
    values = graph.random.normal(0, 1, graph.shape).astype(np.float32)
    onnx.save(model, tmp_path / "m.onnx")
    wanted = only(open_precise("onnxruntime", tmp_path / "m.onnx").run(values))
    assert np.array_equal(only(open_target("litert", path).run(values)), wanted)
    kinds = [one.kind for one in read_tflite(path).operators]
    assert kinds.count("TRANSPOSE") <= 1 + 2  # of the shuffle, and where NCHW enters and leaves


def _model(graph, output):
    nodes = [*graph.nodes, onnx.helper.make_node("Identity", [output], ["logits"])]
    free = ["n", *graph.shape[1:]]
    kind = onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("image", kind, free)],
        [onnx.helper.make_tensor_value_info("logits", kind, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in graph.tensors.items()],
    )
    imports = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(made, opset_imports=imports, ir_version=10)


@pytest.mark.parametrize("seed", range(4))
def test_xnnpack_adds_with_multipliers_of_21_bits_and_rounds_half_up(seed, tmp_path):
    """``(a m_a + b m_b + 2^(t-1)) >> t`` with ``m = rint(s / s_out 2^t)``, one t for both."""
    graph = Graph((1, 1, 256, 256), np.uint8, seed)
    grids = [graph.grid(width) for width in (6.0, graph.random.uniform(2, 9))]
    a, b = (graph.on("image", grid) for grid in grids)
    out = graph.grid(graph.random.uniform(6, 14))
    model = _model(graph, graph.on(graph.op("Add", a, b), out))
    (tmp_path / "m.tflite").write_bytes(translate(model))
    images = graph.random.normal(0, 1.5, graph.shape).astype(np.float32)
    found = only(open_target("litert", tmp_path / "m.tflite", threads=1).run(images))
    (sa, za), (sb, zb), (sc, zc) = (
        (graph.tensors[scale], int(graph.tensors[zero])) for scale, zero in (*grids, out)
    )
    qa, qb = (
        np.clip(np.rint(images / s) + z, 0, 255).astype(np.int64) - z
        for s, z in ((sa, za), (sb, zb))
    )
    ratios = np.float32(sa / sc), np.float32(sb / sc)
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    by_a, by_b = (int(np.rint(float(ratio) * 2.0**shift)) for ratio in ratios)
    whole = (qa * by_a + qb * by_b + (1 << (shift - 1))) >> shift
    wanted = (np.clip(whole + zc, 0, 255) - zc).astype(np.float32) * sc
    steps = np.rint(np.abs(found - wanted) / sc)
    # The input's own QUANTIZE may part where a value lies halfway between two integers.
    assert (steps > 0).mean() <= 2e-5
    assert steps.max() <= 1


def test_a_file_that_litert_cannot_read_is_refused_in_one_line(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"no model")
    for name in ("m.tflite", "none.tflite"):
        with pytest.raises(TargetError, match=r"not a \.tflite|cannot read") as raised:
            open_target("litert", tmp_path / name)
        assert "\n" not in str(raised.value)


def test_images_of_another_shape_are_told(images, tmp_path):
    session = LitertSession(_exported("w8a8", images, tmp_path / "model.onnx"))
    with pytest.raises(TargetError, match=r"LiteRT: .*[Dd]imension"):
        session.run(np.zeros((1, 1, 5, 5), np.float32))


def test_nothing_but_the_runtime_s_own_first_line_is_kept_from_the_standard_error():
    """In a process of its own: the line comes with the first interpreter alone."""
    code = """
import sys
from bitladder.targets.native_output import without_lines
import os
with without_lines(b"INFO: Created"):
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\nWARNING: stays\\n")
    print("also", file=sys.stderr)
print("behind", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stderr.splitlines()) == ["WARNING: stays", "also", "behind"]


def test_the_first_interpreter_is_silent(images, tmp_path):
    path = _exported("w8a8", images, tmp_path / "model.onnx")
    write_tflite(onnx.load(path), tflite := tmp_path / "model.tflite")
    code = f"""
from pathlib import Path
from bitladder.targets.integer.litert import interpreter
interpreter(Path({str(tflite)!r}).read_bytes(), "xnnpack")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


class Gated(nn.Module):
    """A hard tanh beside a gate: a product with a sigmoid, concatenated, averaged and clamped."""

    def __init__(self):
        super().__init__()
        self.left, self.gate = nn.Conv2d(1, 6, 3), nn.Conv2d(1, 6, 3)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        left = nn.functional.hardtanh(self.left(x), -0.2, 0.3)
        joined = torch.cat([left, left * torch.sigmoid(self.gate(x))], 1)
        return torch.tanh(self.last(nn.functional.avg_pool2d(joined, 2)))


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
@pytest.mark.parametrize("precision", ["w8a8", "w8a12", "w8a16"])
def test_grids_that_fit_the_format_leave_nothing_in_float_but_functions_of_16_bit(
    precision, kernels, images, tmp_path
):
    torch.manual_seed(3)
    simulated = SimulatedModel(
        prepare(Gated().eval(), (images,)),
        Precision.parse(precision),
        shapes=[tuple(images.shape[1:])],
        options=Calibrate(method="min_max", targets=("litert",)),
    )
    simulated.calibrate(images)
    deploy.Traced(simulated.eval()).write_qdq(path := tmp_path / "model.onnx")
    session = LitertSession(path, kernels=kernels, threads=1)
    functions = ("1 LOGISTIC computed in float", "1 TANH computed in float")
    assert session.fallbacks == (() if precision == "w8a8" else functions)
    found = only(session.run(images.numpy()))
    own = LitertIntegerSession(path, kernels=kernels)
    assert np.array_equal(found, only(own.run(images.numpy())))
    near = only(open_precise("onnxruntime", path, threads=1).run(images.numpy()))
    assert np.abs(found - near).max() <= 12 * only(session.steps)
    assert len(np.unique(found)) > 40
