"""Nothing but the door names what is AIMET's, and what is missing there is told in one line."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from aimet_torch.quantization import encoding_analyzer
from aimet_torch.quantization.affine.quantizer import AffineQuantizerBase, QuantizeDequantize

import bitladder
from bitladder import simulation
from bitladder.aimet_names import PACKAGE, SUPPORTED, quantsim_configs
from bitladder.errors import QuantizationError
from bitladder.options import Precision
from bitladder.simulation import aimet as door
from bitladder.simulation.aimet import names

SOURCE = Path(bitladder.__file__).parent
DOOR = SOURCE / "simulation" / "aimet"
OUTSIDE = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if DOOR not in path.parents and path != SOURCE / "aimet_names.py"
]
PRIVATE = {
    part
    for listed in (*names.NAMES.values(), *names.OF_OBJECTS.values())
    for name in listed
    for part in name.split(".")
    if part.startswith("_")
}


def _words(path):
    """Names, attributes and texts of a file, its documentation left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", None) or ""
        elif isinstance(node, ast.Attribute):
            yield f".{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_other_module_names_what_is_aimet_s(path):
    words = list(_words(path))
    assert not [word for word in words if PACKAGE in word]
    own = {f".{name}" for name in PRIVATE}
    assert not own & set(words)
    assert not [word for word in words if re.fullmatch(r"\.(param|input|output)_quantizers", word)]
    assert not [word for word in words if "_quantizers." in word]


def test_the_walk_finds_what_it_looks_for(tmp_path):
    path = tmp_path / "other.py"
    path.write_text("from aimet_torch.utils import x\nlayer.param_quantizers\nq._symmetric\n")
    words = list(_words(path))
    assert {"aimet_torch.utils", ".param_quantizers", "._symmetric"} <= set(words)
    assert "_symmetric" in PRIVATE


@pytest.fixture
def unchecked():
    names.aimet.cache_clear()
    yield
    names.aimet.cache_clear()


def _complaint():
    with pytest.raises(QuantizationError) as caught:
        door.quantized_layers(torch.nn.ReLU())
    return str(caught.value)


def test_a_name_that_is_gone_is_told_in_one_line(unchecked, monkeypatch):
    monkeypatch.delattr(encoding_analyzer, "_MinMaxRange")
    said = _complaint()
    assert said.count("\n") == 0
    assert f"aimet-torch {version('aimet-torch')} lacks" in said
    assert "aimet_torch.quantization.encoding_analyzer._MinMaxRange;" in said
    assert f"pip install 'aimet-torch{SUPPORTED}'" in said


def test_all_names_are_checked_before_any_is_used(unchecked, monkeypatch):
    monkeypatch.delattr(AffineQuantizerBase, "_compute_encodings")
    monkeypatch.delattr(encoding_analyzer, "adjust_min_max")
    said = _complaint()
    assert "QuantizeDequantize._compute_encodings and 1 more" in said


def test_what_an_object_no_longer_has_is_told(unchecked, monkeypatch):
    own = QuantizeDequantize.__init__

    def without(self, *given, **settings):
        own(self, *given, **settings)
        del self.zero_point_shift

    monkeypatch.setattr(QuantizeDequantize, "__init__", without)
    assert "QuantizeDequantize.zero_point_shift" in _complaint()


def test_a_package_that_is_not_there_is_told(unchecked, monkeypatch):
    def no_version(name):
        raise names.PackageNotFoundError(name)

    monkeypatch.setattr(names, "version", no_version)
    monkeypatch.setitem(sys.modules, "aimet_torch.seq_mse", None)
    assert _complaint().startswith("aimet-torch is not installed; bitladder works with")


def test_what_is_installed_is_what_is_supported_and_asked_for():
    packaging = pytest.importorskip("packaging.specifiers")
    assert version("aimet-torch") in packaging.SpecifierSet(SUPPORTED)
    project = SOURCE.parents[1] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("not a source tree")
    asked = tomllib.loads(project.read_text())["project"]["dependencies"]
    assert f"aimet-torch{SUPPORTED}" in asked


def test_every_quantizer_says_where_it_is():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    simulated = simulation.SimulatedModel(
        simulation.prepare(network), Precision.parse("w8a8"), shapes=[(3, 8, 8)]
    )
    found = {i.name: (i.layer, i.parameter, i.kind) for i, _ in simulated.quantizers()}
    assert found == {
        "0.param_quantizers.weight": ("0", "weight", "weight"),
        "0.input_quantizers.0": ("0", None, "input"),
        "1.output_quantizers.0": ("1", None, "output"),
    }
    assert found.keys() == {name for name, _ in simulated.sim.named_quantizers()}
    ends = door.range_parameters(simulated)
    assert ends == {f"module.{name}.{end}": end for name in found for end in ("min", "max")}
    assert ends.keys() < {name for name, _ in simulated.named_parameters()}


def test_the_configs_are_aimet_s():
    assert {"default", "htp_v73"} <= set(quantsim_configs())
