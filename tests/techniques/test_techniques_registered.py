"""Every technique that is registered is found, applied, saved, rebuilt and restored bit for bit."""

import copy
import pkgutil
from typing import ClassVar

import pytest
import torch
from torch import nn

import bitladder
from bitladder import techniques
from bitladder.errors import QuantizationError, StudyError
from bitladder.options import TECHNIQUES, Technique, dump_recipe, parse_recipe, parse_techniques
from bitladder.options.technique import Phase
from bitladder.techniques import registry
from bitladder.techniques.structure import difference, structure_of
from every_layer import CASES, Zoo, context_for, lively


@pytest.mark.parametrize("name", TECHNIQUES)
def test_what_a_technique_changes_is_saved_rebuilt_and_restored(name, splits, tmp_path):
    model = lively(Zoo())
    context = context_for(model, splits, tmp_path)
    recipe = parse_recipe(CASES[name])
    applied = copy.deepcopy(model)
    for step in recipe:
        applied = techniques.apply(step, applied, context)
    applied.eval().save(tmp_path / "saved.safetensors")
    again = parse_techniques(dump_recipe(recipe))
    rebuilt = techniques.rebuild(again, copy.deepcopy(model), context)
    assert difference(structure_of(rebuilt), structure_of(applied)) is None
    rebuilt.restore(tmp_path / "saved.safetensors")
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(*context.calibration), applied(*context.calibration))


def test_every_technique_has_its_file_and_its_function():
    files = {file.name for file in pkgutil.iter_modules(techniques.__path__)}
    assert set(TECHNIQUES) <= files
    assert {kind.name for kind in registry._APPLY if kind in TECHNIQUES.values()} == set(TECHNIQUES)


class Toy(Technique):
    """What a user may write."""

    phase: ClassVar[Phase] = "simulated"

    factor: float = 2.0
    """What every bias is multiplied with."""
    split: bool = False
    """Put another operation in, too."""


@techniques.register(Toy)
def _scale(options, model, context):
    with torch.no_grad():
        for module in model.module.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.mul_(options.factor)
    if options.split:
        graph = model.module.graph
        [output] = graph.find_nodes(op="output")
        model.module.add_submodule("more", nn.ReLU())
        with graph.inserting_before(output):
            output.args = (graph.call_module("more", (output.args[0],)),)
        model.module.recompile()
    context.notes.append(f"times {options.factor:g}")
    return model


PATH = f"{__name__}:Toy"
RECIPES = {
    "an instance": Toy(factor=3.0),
    "a path": {PATH: {"factor": 3.0}},
    "a class that is defined here": {Toy.name: {"factor": 3.0}},
}


@pytest.mark.parametrize("how", RECIPES)
def test_a_user_s_technique_is_a_step_like_any_other(how, splits, tmp_path):
    model = lively(Zoo())
    images = splits[0].float_images(torch.arange(32))
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    plain = bitladder.quantize(model, images, "w8a8", recipe)
    ours = bitladder.quantize(model, images, "w8a8", [*recipe, RECIPES[how]])
    assert [rung.technique for rung in ours.rungs][3] == PATH
    assert ours.rungs[3].notes == ("times 3",)
    bias, other = (q.simulated.module.head.bias for q in (ours, plain))
    step = plain.simulated.module.head.param_quantizers["weight"].get_scale().max()
    assert torch.allclose(bias, 3 * other, atol=float(step))
    assert not torch.allclose(bias, other, atol=float(step))
    ours.save(tmp_path / "q.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", lively(Zoo()))
    assert dump_recipe(loaded.recipe) == dump_recipe(ours.recipe)
    assert dump_recipe(ours.recipe)[-1] == {PATH: {"factor": 3.0, "split": False}}
    assert torch.equal(loaded(images), ours(images))


def test_a_change_of_the_structure_that_nobody_rebuilds_is_refused(splits):
    images = splits[0].float_images(torch.arange(32))
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}, Toy(split=True)]
    with pytest.raises(QuantizationError) as caught:
        bitladder.quantize(lively(Zoo()), images, "w8a8", recipe)
    said = str(caught.value)
    assert "\n" not in said
    assert f"'{PATH}' changes the structure (operation more is new)" in said
    assert "@bitladder.techniques.register_rebuild(Toy)" in said


class Swap(Technique):
    """Changes the float network, and says how to do it again."""

    name: ClassVar[str] = "swap_for_the_test"
    phase: ClassVar[Phase] = "float"


@techniques.register(Swap)
def _swap(options, model, context):
    model = copy.deepcopy(model)
    model.stem[2] = nn.ReLU()
    return model


def test_a_float_technique_is_looked_at_as_it_will_be_traced(splits, tmp_path, monkeypatch):
    model = lively(Zoo())
    images = splits[0].float_images(torch.arange(32))
    recipe = [Swap(), "fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    with pytest.raises(QuantizationError, match=r"operation stem.2 was ReLU6\(.*\) and is ReLU\("):
        bitladder.quantize(model, images, "w8a8", recipe)
    monkeypatch.setitem(registry._REBUILD, Swap, _swap)
    quantized = bitladder.quantize(model, images, "w8a8", recipe)
    quantized.save(tmp_path / "q.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", model)
    assert torch.equal(loaded(images), quantized(images))


def test_a_technique_without_a_function_says_so(splits, tmp_path):
    class Nothing(Technique):
        """Nobody applies it."""

        name: ClassVar[str] = "nothing_for_the_test"
        phase: ClassVar[Phase] = "simulated"

    context = context_for(lively(Zoo()), splits, tmp_path)
    with pytest.raises(QuantizationError, match=r"@bitladder\.techniques\.register\(Nothing\)"):
        techniques.apply(Nothing(), context.reference, context)


def test_a_kind_of_a_technique_is_applied_like_it():
    class Careful(TECHNIQUES["finetune"]):
        """Fine-tuning with another learning rate."""

        name: ClassVar[str] = "careful_for_the_test"

        lr: float = 1e-5
        """Adam's learning rate."""

    assert (
        registry._registered(registry._APPLY, Careful()) is registry._APPLY[TECHNIQUES["finetune"]]
    )
    with pytest.raises(StudyError, match="'adaround' comes too late after 'careful_for_the_test'"):
        parse_recipe(["fold_batch_norm", "calibrate", "careful_for_the_test", "adaround"])


def test_bitladder_s_names_are_its_own():
    with pytest.raises(StudyError, match="technique 'calibrate' is bitladder's"):
        type("Mine", (Technique,), {
            "__module__": __name__,
            "__annotations__": {"name": ClassVar[str], "phase": ClassVar[Phase]},
            "name": "calibrate", "phase": "float",
        })  # fmt: skip
    assert TECHNIQUES["calibrate"].__module__ == "bitladder.options.techniques"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_at_all:Toy", "technique 'no_such_module_at_all:Toy': "),
        (f"{__name__}:Missing", "Missing"),
        (f"{__name__}:RECIPES", "is no subclass of Technique"),
        ("bitladder.options:Technique", "give it a phase"),
        ("calibrat", "did you mean 'calibrate'"),
    ],
)
def test_what_is_no_technique_is_told(name, message):
    with pytest.raises(StudyError) as caught:
        parse_techniques([{name: {}}])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
