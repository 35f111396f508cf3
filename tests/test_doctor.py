"""Each part is reported in one line, and only what stops every study is a failure."""

import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from bitladder import doctor
from bitladder.doctor import Check
from bitladder.simulation.kernel import build

_EXAMINE = """
import dataclasses, json, sys
from bitladder.doctor import examine
checks = examine(None)
outcomes = [next(checks)]
assert "torch" not in sys.modules
outcomes += checks
assert "aimet_torch.quantsim" in sys.modules
print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
"""


@pytest.fixture(scope="module")
def examined():
    """The checks of this machine, made in a process that has loaded nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", _EXAMINE], capture_output=True, text=True, check=True
    )


@pytest.fixture(scope="module")
def checks(examined):
    return {entry["name"]: Check(**entry) for entry in json.loads(examined.stdout)}


def test_nothing_but_the_checks_is_printed(examined):
    assert examined.stderr == ""
    assert examined.stdout.startswith("[{")


def test_a_machine_with_everything_installed_passes(checks):
    assert [check for check in checks.values() if check.status == "failed"] == []
    assert all("\n" not in check.detail and check.detail for check in checks.values())
    assert len(checks) == 16


def test_aimet_and_onnxruntime_were_really_run(checks):
    assert checks["AIMET"] == Check("AIMET", "ok", "simulated one batch of ResNet18")
    assert checks["ONNX Runtime"].status == "ok"


def test_versions_are_the_installed_ones(checks):
    for package in doctor.PACKAGES:
        assert checks[package].detail == version(package)


def test_a_missing_package_is_a_failure_that_says_what_to_install():
    check = doctor.check_package("no-such-package")
    assert check.status == "failed"
    assert "pip install no-such-package" in check.detail


BROKEN = """
import json, sys
sys.modules["aimet_torch.quantsim"] = None
from bitladder.doctor import examine
print(json.dumps({check.name: (check.status, check.detail) for check in examine(None)}))
"""


def test_a_broken_aimet_is_a_failure_and_the_other_checks_go_on():
    """In a process of its own: what is half imported stays so."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, check=True
    )
    checks = json.loads(done.stdout.splitlines()[-1])
    status, detail = checks["AIMET"]
    assert status == "failed"
    assert "lacks aimet_torch." in detail
    assert "pip install" in detail
    assert checks["ONNX Runtime"][0] == "ok"


def test_the_integer_products_are_right_by_numpy():
    found, expected = doctor._product(activation=7, weight=3, exact=False)
    product = np.full((4, 64), 7, np.int64) @ np.full((64, 16), 3, np.int64)
    assert found == expected == product[0, 0]


@pytest.mark.parametrize(
    ("default", "exact", "status", "text"),
    [
        (2_072_640, 2_072_640, "ok", "exact"),
        (1_048_544, 2_072_640, "warning", "session.x64quantprecision=1"),
        (1_048_544, 1_048_544, "warning", "differ from the simulation"),
    ],
)
def test_saturating_int8_products_are_a_warning(monkeypatch, default, exact, status, text):
    def product(*, activation, weight, exact_):
        return (exact if exact_ else default), activation * weight * 64

    monkeypatch.setattr(
        doctor,
        "_product",
        lambda *, activation, weight, exact: product(
            activation=activation, weight=weight, exact_=exact
        ),
    )
    check = doctor.check_int8()
    assert check.status == status
    assert text in check.detail


def test_a_missing_qnn_provider_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    check = doctor.check_qnn()
    assert check.status == "warning"
    assert "bitladder[qnn]" in check.detail


def test_a_qnn_provider_that_crashes_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "_QNN_PROBE", "import os; os.abort()")
    assert doctor.check_qnn().status == "warning"
    monkeypatch.setattr(doctor, "_QNN_PROBE", "raise OSError('libQnn.so: not found')")
    assert doctor.check_qnn().detail.endswith("OSError: libQnn.so: not found")


def test_a_missing_compiler_is_a_warning(monkeypatch):
    build.library.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    check = doctor.check_kernel()
    build.library.cache_clear()
    assert check.status == "warning"
    assert "no-such-compiler" in check.detail
    assert "AIMET's slower path" in check.detail


def test_data_sets_are_named_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "FOLDERS", {"mnist": "MNIST"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BITLADDER_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    check = doctor.check_data(None)
    assert check.status == "ok"
    assert "not here: mnist" in check.detail
    (tmp_path / "mine" / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "mine" / "MNIST" / "raw" / "train-images-idx3-ubyte").touch()
    assert f"mnist in {tmp_path / 'mine'}" in doctor.check_data(tmp_path / "mine").detail


def test_a_broken_installation_without_its_images_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "EMBEDDED", tmp_path)
    assert doctor.check_data(None).status == "failed"


def test_little_memory_is_a_warning(monkeypatch):
    psutil = pytest.importorskip("psutil")

    class Memory:
        total, available = 8e9, 1.5e9

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    check = doctor.check_memory()
    assert check.status == "warning"
    assert check.detail.startswith("1.5 of 8.0 GB free")
