"""Every package and every switch that can change a number is in the key of the stages it serves."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

import bitladder
from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import plan
from bitladder.pipeline.versions import SWITCHES, Versions
from bitladder.study import Study
from bitladder.user_code import installed
from import_graph import third_party

# Cannot change a number, and why.
HARMLESS = {
    "filelock": "locks files of the store",
    "huggingface_hub": "downloads files of weights; what is in them is not its doing",
    "pydantic": "checks options; their values are in the key",
    "safetensors": "writes and reads tensors bit by bit",
    "yaml": "reads the study; its values are in the key",
    "psutil": "measures memory",
    "rich": "draws progress",
    "flatbuffers": "reads and writes bytes",
}
# Reached through another package, so no import of ours shows it.
INDIRECT: dict[str, str] = {}
MODULES = {
    "ai-edge-litert": "ai_edge_litert",
    "aimet-torch": "aimet_torch",
    "onnxruntime-qnn": "onnxruntime_qnn",
    "pillow": "PIL",
}
SWITCHES_THAT_DO_NOT_COUNT = {
    "BITLADDER_DATA": "where data sets are; their pixels are in the key",
    "BITLADDER_STORE": "where the store is",
    "BITLADDER_CACHE": "where decoded images are; what they are made of is in their name",
    "BITLADDER_KERNEL": "counts as 'kernel'",
    "CXX": "counts as 'kernel'",
    "XDG_CACHE_HOME": "where the kernel is kept",
    "OMP_NUM_THREADS": "the doctor tells it; a stage computes on one thread",
}
SPEC = {
    "model": {"name": "a_timm_name"},
    "recipe": [{"mixed_precision": {}}, {"repair": {"target": "htp"}}],
    "rest": [{"integer_finetune": {}}],
    "export": {"dlc": True, "context": None},
    "target": {"name": "htp"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_stage_s_code_imports_is_in_its_key_or_cannot_change_a_number(kind):
    listed = {MODULES.get(name, name) for name in KINDS[kind].packages}
    reached = third_party(KINDS[kind])
    used = reached - HARMLESS.keys() - _unused(kind)
    missing = used - listed
    assert not missing, f"add {missing} to the packages of its kind, or say why it is harmless"
    assert listed - reached <= INDIRECT.keys(), "no stage of this kind imports it any more"


def _unused(kind):
    """What the code of a stage reaches and never runs, since files import whole rooms."""
    if kind in ("explain", "test"):
        return {"onnx", "onnxruntime", "onnxruntime_qnn", "ai_edge_litert", "openvino"}
    if kind in ("quantize", "finetune"):
        return {"onnxruntime_qnn", "ai_edge_litert", "openvino"}
    return {"ai_edge_litert", "openvino"} if kind == "export" else set()


def test_only_the_technique_that_asks_for_integer_outputs_exports():
    """The ONNX packages count in ``quantize`` and ``finetune`` for these alone."""
    folder = Path(bitladder.__file__).parent / "techniques"
    users = {path.stem for path in folder.glob("*.py") if "integer_outputs" in path.read_text()}
    assert users == {"registry", "integer_finetune"}
    users = {path.stem for path in folder.glob("*.py") if "target_outputs" in path.read_text()}
    assert users == {"registry", "repair"}
    solving = {path.stem for path in folder.glob("*.py") if "scipy" in path.read_text()}
    assert solving == {"mixed_precision"}


def test_every_switch_that_the_code_reads_counts_or_cannot_change_a_number():
    read = set()
    for path in Path(bitladder.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Subscript) else ""
            if text.startswith(("os.environ.get(", "os.environ[", "os.getenv(")):
                given = node.args[0] if isinstance(node, ast.Call) else node.slice
                read.add(getattr(given, "value", None))
    read.discard(None)  # the lists themselves, and the user's variables
    assert "BITLADDER_KERNEL" in read
    assert read <= set(SWITCHES) | SWITCHES_THAT_DO_NOT_COUNT.keys()


def _stages(**changes):
    study = {"name": "s", "datasets": ["embedded"], "models": ["resnet18"], "precisions": [8]}
    [cell] = plan(Study.model_validate({**study, **changes}))
    return {stage.kind.name: stage for stage in cell.stages}


HTP = {"verify": ["htp"], "export": {"dlc": True}}
TIMM = {"models": ["efficientnet_lite0"]}
MIXED = {
    "recipe": ["fold_batch_norm", "calibrate", {"mixed_precision": {"mean_bits": 4}}]
}  # fmt: skip
REPAIRED = {"recipe": ["fold_batch_norm", "calibrate", {"repair": {"layers": 1}}]}
SIMULATED = {"recipe": ["fold_batch_norm", "calibrate", {"repair": {"layers": 1, "target": None}}]}


@pytest.mark.parametrize(
    ("package", "changes", "first"),
    [
        ("torch", {}, "train"),
        ("pillow", {}, "train"),
        ("numpy", {}, "train"),
        ("lightning", {}, "train"),
        ("aimet-torch", {}, "quantize"),
        ("triton", {}, "quantize"),
        ("onnxruntime", {}, "export"),
        ("timm", {}, None),
        ("timm", TIMM, "train"),
        ("scipy", {}, None),
        ("scipy", MIXED, "quantize"),
        ("onnxruntime", REPAIRED, "quantize"),
        ("onnxruntime", SIMULATED, "export"),
        ("onnxruntime-qnn", {}, None),
        ("onnxruntime-qnn", HTP, "export"),
        ("onnxruntime-qnn", {"verify": ["htp"]}, "verify"),
        ("onnxruntime-qnn", {"export": {"context": "v75"}}, "export"),
    ],
)
def test_another_version_makes_the_stages_anew_that_use_it(monkeypatch, package, changes, first):
    before = _stages(**changes)
    monkeypatch.setattr(installed, "_first", {})
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0" if name == package else real(name)
    )
    after = _stages(**changes)
    kinds = list(before)
    changed = kinds if first is None else kinds[: kinds.index(first)]
    assert all(before[kind].key == after[kind].key for kind in changed)
    assert all(before[kind].key != after[kind].key for kind in kinds if kind not in changed)


@pytest.mark.parametrize(
    ("name", "value", "first"),
    [
        ("BITLADDER_KERNEL", "0", "quantize"),
        ("CXX", "no-such-compiler", "quantize"),
        ("MKL_CBWR", "COMPATIBLE", "train"),
        ("ATEN_CPU_CAPABILITY", "default", "train"),
        ("BITLADDER_DATA", "/elsewhere", None),
    ],
)
def test_a_switch_makes_the_stages_anew_that_follow_it(monkeypatch, name, value, first):
    before = _stages()
    monkeypatch.setenv(name, value)
    after = _stages()
    kinds = list(before)
    same = kinds if first is None else kinds[: kinds.index(first)]
    assert [kind for kind in kinds if before[kind].key == after[kind].key] == same


def test_what_was_upgraded_under_a_process_that_has_loaded_it_is_no_version(monkeypatch):
    real = importlib.metadata.version
    Versions().of(KINDS["verify"], SPEC)
    import numpy  # noqa: F401 - it is loaded

    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99" if name == "numpy" else real(name)
    )
    found = Versions().of(KINDS["verify"], SPEC)["numpy"]
    assert found == f"99 ({real('numpy')} is loaded: start it again)"
