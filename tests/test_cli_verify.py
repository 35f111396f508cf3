"""``bitladder verify`` on several targets: one that is missing or refuses stops none."""

import json

import pytest
import torch
from typer.testing import CliRunner

import bitladder
from bitladder import target_specs
from bitladder.cli import app
from bitladder.errors import TargetError
from bitladder.target_specs import TargetSpec

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


def open_refusing(artifact, *, threads, version):
    raise TargetError(f"{artifact.name}: it takes no such file")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    from small_network import Branches

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(12), Branches(10)).eval()
    images = torch.rand(16, 1, 28, 28)
    made = bitladder.quantize(network, images, 8, RECIPE, progress=False)
    return made.export(tmp_path_factory.mktemp("files") / "m.onnx")


@pytest.fixture
def known(monkeypatch):
    """ONNX Runtime, one that refuses the file and one that is not installed."""
    found = {
        "onnxruntime": target_specs.known()["onnxruntime"],
        "picky": TargetSpec("picky", "Picky", open_refusing),
        "absent": TargetSpec("absent", "Absent", open_refusing, packages=("no-such",), extra="no"),
    }
    monkeypatch.setattr(target_specs, "known", lambda: found)
    return found


def _verify(path, target, *more):
    arguments = ["verify", str(path), "--limit", "20", "--target", target, "--size", "28", *more]
    return CliRunner().invoke(app, arguments)


def test_all_measures_what_is_there_and_tells_the_rest_in_a_line_each(path, known):
    done = _verify(path, "all", "--json")
    [found] = json.loads(done.stdout)
    assert found["target"] == "onnxruntime"
    told = [line for line in done.stderr.splitlines() if line.startswith("not measured: ")]
    assert told == [
        "not measured: absent: Absent is not installed: pip install 'bitladder[no]'",
        "not measured: picky: m.onnx: it takes no such file",
    ]
    assert done.exit_code == 1
    del known["picky"]
    assert _verify(path, "all").exit_code == 0


def test_the_others_are_measured_where_one_of_a_list_refuses(path, known):
    done = _verify(path, "picky,onnxruntime")
    assert done.exit_code == 1
    assert "onnxruntime" in done.stdout
    assert "not measured: picky: m.onnx: it takes no such file" in done.stderr


def test_a_target_alone_that_refuses_is_the_error(path, known):
    assert isinstance(_verify(path, "picky").exception, TargetError)


def test_an_unknown_target_is_told_before_any_runs(path, known):
    refused = _verify(path, "onnxruntime,npu")
    assert "unknown target 'npu'" in str(refused.exception)
    assert not refused.stdout


def test_images_that_are_through_are_told(path):
    told = []
    bitladder.verify(path, torch.rand(300, 1, 28, 28), progress=told.append)
    assert [(one.technique, one.share, one.done) for one in told] == [
        ("onnxruntime", 250 / 300, False),
        ("onnxruntime", 1.0, True),
    ]


def test_what_is_not_installed_says_what_to_install():
    spec = target_specs.known()["onnxruntime"]
    assert spec.missing is None
    lacking = TargetSpec("mine", "Mine", open_refusing, packages=("no-such", "onnx"))
    assert lacking.missing == "Mine is not installed: pip install no-such"
