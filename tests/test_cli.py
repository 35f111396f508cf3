"""The commands as a person types them: what they print, where, and with which exit code."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from small_study import NETWORK, STUDY

BITLADDER = Path(sys.executable).with_name("bitladder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A person's folder: a network of their own and a study of it."""
    path = tmp_path_factory.mktemp("person")
    (path / "small_nets.py").write_text(NETWORK)
    (path / "small.yaml").write_text(yaml.safe_dump(STUDY))
    return path


def _bitladder(folder, *arguments, before=None, **environment):
    return subprocess.run(
        [str(BITLADDER), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


@pytest.fixture(scope="module")
def ran(folder):
    return _bitladder(folder, "run", "small.yaml", "--in-process", "--output", "out")


def test_a_run_prints_the_table_and_where_the_files_are(ran, folder):
    assert ran.returncode == 0, ran.stderr
    assert "w8a8" in ran.stdout
    assert "onnxruntime" in ran.stdout
    assert "out/results.csv" in ran.stdout
    assert "out/report.html" in ran.stdout
    assert {path.name for path in (folder / "out").iterdir()} >= {
        "results.csv", "rungs.csv", "curves.csv", "layers.csv", "study.yaml", "environment.json",
        "report.html", "results.md", "figures", "cells", "tensorboard",
    }  # fmt: skip
    cell = folder / "out" / "cells" / "embedded" / "small_nets.net" / "w8a8"
    assert {path.name for path in cell.iterdir()} == {
        "weights.safetensors", "quantized.safetensors", "model.onnx", "model.htp.onnx",
        "float.onnx", "encodings.json",
    }  # fmt: skip


def test_a_cell_is_verified_against_its_own_simulation(ran, folder):
    cell = "out/cells/embedded/small_nets.net/w8a8"
    files = [f"{cell}/model.onnx", "--simulation", f"{cell}/quantized.safetensors"]
    done = _bitladder(
        folder, "verify", *files, "--limit", "250", "--task", "classification", "--json"
    )
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert sum(found["comparison"]["agreement"]["scores"]) >= 247
    assert found["comparison"]["integer"]["worst_lsb"] == 0
    done = _bitladder(folder, "verify", files[0], "--simulation", f"{cell}/weights.safetensors")
    assert done.returncode == 2
    assert "was not written by" in done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)
def test_a_study_writes_and_compares_what_the_htp_loads(ran, folder):
    done = _bitladder(
        folder, "run", "small.yaml", "--in-process", "--output", "htp", "precisions=8",
        "export.dlc=true", "export.context=v75", "verify=[{htp: {images: 20, version: v75}}]",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [cell] = json.loads(done.stdout)["cells"]
    assert cell["htp_v75_agreement"] >= 0.9
    assert cell["dlc_mb"] > 0
    assert cell["context_mb"] > 0
    assert "dlc:" not in cell["notes"]
    files = folder / "htp" / "cells" / "embedded" / "small_nets.net" / "w8a8"
    assert {"model.dlc", "float.dlc", "context.onnx", "context.bin"} <= {
        path.name for path in files.iterdir()
    }


def test_progress_goes_to_the_standard_error_as_plain_lines(ran):
    assert "[9/9] done: verify embedded small_nets:net w4a4" in ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr


def test_json_is_all_that_is_printed(ran, folder):
    done = _bitladder(folder, "run", "small.yaml", "--in-process", "--output", "out", "--json")
    content = json.loads(done.stdout)
    assert [cell["precision"] for cell in content["cells"]] == ["w8a8", "w4a4"]
    assert "cached: train" in done.stderr


def test_a_failed_cell_is_exit_code_1_and_told(folder):
    done = _bitladder(
        folder, "run", "small.yaml", "models=[small_nets:broken]", "precisions=8", "--in-process",
        "--output", "bad",
    )  # fmt: skip
    assert done.returncode == 1
    assert "chance level" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such study file"),
        (["run", "small.yaml", "precision=8"], "did you mean 'precisions'?"),
        (["run", "small.yaml", "train.epoch=8"], "did you mean 'epochs'?"),
        (["run", "small.yaml", "precisions=[1]"], "1 bits is out of range: 2 to 16"),
        (["run", "small.yaml", "precisions=[w8]"], "is not a precision"),
        (["run", "small.yaml", "recipe=[calibrat]"], "did you mean 'calibrate'?"),
        (["run", "small.yaml", "recipe=[finetune]"], "put 'calibrate' before it"),
        (["run", "small.yaml", "epochs"], "is not key=value"),
        (["run", "small.yaml", "datasets=[fashion_mnits]"], "did you mean 'fashion_mnist'?"),
        (["run", "small.yaml", "datasets=[./none]"], "no such folder"),
        (["run", "small.yaml", "models=[resnet81]"], "did you mean 'resnet18'?"),
        (["run", "small.yaml", "models=[small_nets:none]"], "has no attribute 'none'"),
        (["run", "small.yaml", "--output", "small.yaml/out"], "cannot write here"),
        (["run", "small.yaml", "--output", "o2", "--store", "small.yaml/s"], "store"),
        (["plan", "small.yaml", "seed=-1"], "seed"),
        (["report", "none"], "none: not the folder of a run: no such folder"),
        (["report", "."], "there is no results.csv in it"),
        (
            ["run", "small.yaml", "seed=2", "--scheduler", "tcp://127.0.0.1:9"],
            "no Dask scheduler there",
        ),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(folder, arguments, message):
    done = _bitladder(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" stages")]
    assert len(lines) == 1, done.stderr
    assert re.match(r"error BL\d{3}: ", lines[0])
    assert message in lines[0]


def test_explain_names_the_layers_and_draws_them(ran, folder):
    done = _bitladder(folder, "explain", "small.yaml", "--in-process", "--images", "100")
    assert done.returncode == 0, done.stderr
    assert "cached: quantize embedded small_nets:net w4a4" in done.stderr
    assert "calibrate" in done.stdout
    assert " dB" in done.stdout
    for name in ("explain.csv", "ranges.csv", "rungs.csv", "explain.html"):
        assert (folder / "runs" / "small-explain" / name).is_file()
    as_json = _bitladder(folder, "explain", "small.yaml", "--in-process", "--json")
    assert {row["kind"] for row in json.loads(as_json.stdout)} == {"weight", "input", "output"}


def test_verify_compares_a_file_with_itself_and_refuses_what_it_cannot_run(ran, folder):
    cell = folder / "out" / "cells" / "embedded" / "small_nets.net" / "w8a8"
    done = _bitladder(folder, "verify", str(cell / "model.onnx"), "--limit", "100")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
    as_json = _bitladder(folder, "verify", str(cell / "model.onnx"), "--limit", "100", "--json")
    [found] = json.loads(as_json.stdout)
    assert found["comparison"]["equal"]["count"] == 100
    assert found["comparison"]["integer"]["worst_lsb"] == 0
    for arguments, message in (
        (["small.yaml"], "not an ONNX file"),
        ([str(cell / "model.onnx"), "--target", "npu"], "unknown target 'npu'"),
        ([str(cell / "model.onnx"), "--images", "nowhere"], "nowhere"),
        ([str(cell / "model.onnx"), "--size", "48"], "ONNX Runtime"),
    ):
        refused = _bitladder(folder, "verify", *arguments)
        assert refused.returncode == 2, refused.stdout
        assert message in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_plan_names_every_stage_once(folder):
    done = _bitladder(folder, "plan", "small.yaml")
    assert done.returncode == 0
    assert done.stdout.count("train embedded") == 1
    assert done.stdout.count("finetune embedded") == 2
    content = json.loads(_bitladder(folder, "plan", "small.yaml", "--json").stdout)
    assert len(content["stages"]) == 9
    assert content["study"]["train"]["epochs"] == 3


def test_models_lists_the_study_s_networks_or_the_built_in_ones(folder):
    own = json.loads(_bitladder(folder, "models", "small.yaml", "--json").stdout)
    # Two convolutions without bias, their batch norms, and the linear layer: by hand.
    assert [entry["parameters"] for entry in own] == [72 + 16 + 1152 + 32 + 2570]
    table = _bitladder(folder, "models").stdout
    assert "11,181,645" in table
    assert "44.727" in table


def test_doctor_prints_a_line_a_check(folder):
    done = _bitladder(folder, "doctor")
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == 16


def test_version(folder):
    from importlib.metadata import version

    assert _bitladder(folder, "--version").stdout.strip() == version("bitladder")
    command = [sys.executable, "-m", "bitladder", "--version"]
    assert subprocess.check_output(command, text=True).strip() == version("bitladder")


@pytest.mark.parametrize(
    ("words", "found"), [("bitladder ver", ["verify"]), ("bitladder store g", ["gc"])]
)
def test_a_shell_completes_commands(folder, words, found):
    done = _bitladder(
        folder,
        _BITLADDER_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert done.stdout.split() == found


def test_an_output_folder_that_takes_no_more_is_one_line(folder, ran):
    resource = pytest.importorskip("resource", reason="no limits on the size of files here")

    def limited():  # Python ignores the signal that the limit sends: writing fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = ["run", "small.yaml", "--in-process", "--output", "full"]
    done = _bitladder(folder, *command, before=limited)
    assert done.returncode == 2
    assert "cannot write: File too large" in done.stderr
    assert "Traceback" not in done.stderr
