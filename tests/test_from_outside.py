"""A technique, a target and a task of a user's, in one file each, in a study of theirs."""

import sys

import pytest
import torch

import bitladder
from bitladder.errors import StudyError, TargetError
from bitladder.pipeline.planning import plan
from bitladder.study import Study
from small_study import NETWORK, STUDY

TECHNIQUE = '''
"""A technique of nobody's: every bias times a factor."""
from typing import ClassVar

import torch

from bitladder import techniques
from bitladder.options import Technique
from bitladder.options.technique import Phase


class Scale(Technique):
    phase: ClassVar[Phase] = "simulated"

    factor: float = 1.0


@techniques.register(Scale)
def scale(options, model, context):
    with torch.no_grad():
        for module in model.module.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.mul_(options.factor)
    context.notes.append(f"biases times {options.factor:g}")
    return model
'''

TARGET = '''
"""A target of nobody's: the file's nodes by numpy, as the onnx package defines them."""
from bitladder.target_specs import TargetSpec


def open_file(artifact, *, threads, version):
    if version == "v2":
        from bitladder.errors import TargetError

        raise TargetError("v2 is not there yet")
    return Session(artifact)


class Session:
    fallbacks = ("everything computed in float",)

    def __init__(self, artifact):
        from onnx.reference import ReferenceEvaluator

        self.runtime = ReferenceEvaluator(str(artifact))
        self.steps = {}

    def run(self, *inputs):
        given = dict(zip(self.runtime.input_names, inputs, strict=True))
        return dict(zip(self.runtime.output_names, self.runtime.run(None, given), strict=True))

    def close(self):
        pass


TARGET = TargetSpec("byhand", "By hand", open_file, versions=("v1", "v2"), containers=(8, 16))
NAMESAKE = TargetSpec("htp", "Another", open_file)
'''

TASK = '''
"""A task of nobody's: classes, of which the right one is to be among the first three."""
import torch

from bitladder.tasks import ScoreMeter, Task
from bitladder.tasks.targets import label, labels


class TopThree(Task):
    name, quality, unit, higher_is_better = "top_three", "top-3 accuracy", "share", True

    def loss(self, outputs, target):
        return torch.nn.functional.cross_entropy(outputs["output"], target)

    def meter(self):
        return ScoreMeter(self.quality, score, unit="share")

    def agreement(self, outputs, reference):
        first, other = (one["output"].argmax(1) for one in (outputs, reference))
        return (first == other).float()


def score(outputs, target):
    best = outputs["output"].topk(3, 1).indices
    return (best == target[:, None]).any(1).float()
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of somebody who has three files and a network."""
    monkeypatch.chdir(tmp_path)
    names = ("toy_technique", "toy_target", "toy_task", "small_nets")
    for name, text in zip(names, (TECHNIQUE, TARGET, TASK, NETWORK), strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def _study(**changes):
    content = {
        **STUDY,
        "precisions": [8],
        "task": "toy_task:TopThree",
        "recipe": [*STUDY["recipe"][:3], {"toy_technique:Scale": {"factor": 0.5}}],
        "verify": ["onnxruntime", {"toy_target:TARGET": {"images": 40, "version": "v1"}}],
        **changes,
    }
    return Study.model_validate(content)


def test_a_study_runs_with_all_three(folder):
    options = bitladder.RunOptions(output=folder / "out", store=folder / "store", in_process=True)
    results = bitladder.run(_study(), options=options, progress=False)
    [cell] = results.cells
    assert cell.error is None
    rungs = {rung.technique: rung for rung in cell.rungs}
    assert rungs["toy_technique:Scale"].notes == ("biases times 0.5",)
    quality = rungs["float"].quality
    assert (quality.name, quality.unit, quality.count) == ("top-3 accuracy", "share", 300)
    assert quality.low < quality.value < quality.high
    found = cell.verified["byhand_v1"]
    assert found.comparison.quality.count == found.comparison.equal.count == 40
    assert found.comparison.agreement.value >= 0.9
    assert "everything computed in float" in found.notes
    [row] = results.table().to_dict("records")
    assert row["byhand_v1"] == pytest.approx(found.comparison.quality.value, abs=1e-6)
    page = (folder / "out" / "report.html").read_text()
    assert "top-3 accuracy" in page
    assert "byhand v1" in page


def test_their_sources_are_in_the_keys_of_what_they_change(folder):
    def keys():
        [cell] = plan(_study())
        return {stage.label: stage.key for stage in cell.stages}

    before = keys()
    changed = {}
    for name in ("toy_technique", "toy_target", "toy_task"):
        text = (folder / f"{name}.py").read_text()
        (folder / f"{name}.py").write_text(text + "\nCHANGED = True\n")
        changed[name] = {label for label, key in keys().items() if key != before[label]}
        (folder / f"{name}.py").write_text(text)
    assert keys() == before
    assert changed["toy_task"] == set(before)
    assert changed["toy_technique"] == {label for label in before if not label.startswith("train")}
    [label] = changed["toy_target"]
    assert label.startswith("verify")
    assert label.endswith("on byhand_v1")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("toy_target:NOTHING", "has no attribute 'NOTHING'"),
        ("toy_target:Session", "it is no TargetSpec"),
        ("toy_target:NAMESAKE", "'htp' is bitladder's; give it another name"),
        ("nowhere:TARGET", "No module named 'nowhere'"),
        ({"toy_target:TARGET": {"version": "v3"}}, "has v1, v2, not v3"),
        ({"onnxruntime": {"version": "v3"}}, "has none, not v3"),
    ],
)
def test_a_target_that_cannot_be_used_is_told_before_anything_runs(folder, target, said):
    with pytest.raises((StudyError, ValueError), match=said):
        _study(verify=[target])


def test_a_file_is_verified_on_it_by_name_and_by_itself(folder, network, images):
    from bitladder.target_specs import find

    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    quantized = bitladder.quantize(network, images, 8, recipe)
    path = quantized.export(folder / "m.onnx", target="toy_target:TARGET")
    assert path.read_bytes() == quantized.export(folder / "o.onnx").read_bytes()
    for target in ("toy_target:TARGET", find("toy_target:TARGET")):
        found = bitladder.verify(path, images[:8], target=target, simulation=quantized)
        assert found.target == "byhand"
        assert found.comparison.equal.value >= 0.8
    with pytest.raises(TargetError, match="v2 is not there yet"):
        bitladder.verify(path, images, target="toy_target:TARGET", version="v2")
    with pytest.raises(TargetError, match="unknown version of byhand 'v9'"):
        bitladder.verify(path, images, target="toy_target:TARGET", version="v9")
    assert torch.get_default_dtype() is torch.float32
