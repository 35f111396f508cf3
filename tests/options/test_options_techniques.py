"""Recipes: every named one is in order, and orders that cannot work say why."""

import pytest

from bitladder.errors import StudyError
from bitladder.options import (
    RECIPES,
    TECHNIQUES,
    Precision,
    dump_recipe,
    parse_recipe,
    suited,
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_survives_being_written_and_read(name):
    recipe = parse_recipe(name)
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_says_what_it_does_and_what_its_options_mean(name):
    technique = TECHNIQUES[name]
    assert technique.name == name
    assert technique.__doc__
    assert all(field.description for field in technique.model_fields.values())


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("qta", "unknown recipe 'qta'; did you mean 'qat'"),
        (["calibrat"], "unknown technique 'calibrat'; did you mean 'calibrate'"),
        (["fold_batch_norm"], "never simulates the network: add 'calibrate'"),
        (["finetune", "calibrate"], "put 'calibrate' before it"),
        (["bias_correction", "calibrate"], "put 'fold_batch_norm' before it"),
        (["fold_batch_norm", "bias_correction", "calibrate"], "put 'calibrate' before it"),
        (["cross_layer_equalization", "calibrate"], "put 'fold_batch_norm' before it"),
        (["calibrate", "finetune"], "batch norms stay in the network: put 'fold_batch_norm'"),
        (
            ["fold_batch_norm", "calibrate", "reestimate_batch_norm"],
            "leaves 'reestimate_batch_norm' nothing to do",
        ),
        (
            ["fold_batch_norm", "calibrate", "finetune", "adaround"],
            "'adaround' comes too late after 'finetune'",
        ),
        (
            ["fold_batch_norm", "cross_layer_equalization", "relu6_to_relu", "calibrate"],
            "'relu6_to_relu' comes too late after 'cross_layer_equalization'",
        ),
        (
            ["fold_batch_norm", "calibrate", {"mixed_precision": {"mean_bits": 4, "bits": [4]}}],
            "at least two widths",
        ),
        (
            ["calibrate", "finetune", "integer_finetune", "reestimate_batch_norm"],
            "'integer_finetune' works on folded layers: put 'fold_batch_norm'",
        ),
        (["calibrate", "fold_batch_norm"], "put it before 'calibrate'"),
        (["calibrate", "calibrate"], "put it before 'calibrate'"),
        ([{"calibrate": {"image": 5}}], "unknown option 'image'; did you mean 'images'"),
        ([{"calibrate": {"images": 0}}], "calibrate.images"),
        ([{"calibrate": {}, "finetune": {}}], "is not a technique or"),
        ([], "the name of one or a list of techniques"),
        (5, "the name of one or a list of techniques"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(recipe, message):
    with pytest.raises(StudyError) as raised:
        parse_recipe(recipe)
    assert message in str(raised.value)


def test_ptq_leaves_out_what_wide_weights_do_not_need():
    names = [step.name for step in suited(RECIPES["ptq"], Precision(8, 8))]
    assert names == ["fold_batch_norm", "calibrate"]
    assert suited(RECIPES["ptq"], Precision(7, 8)) == RECIPES["ptq"]
    asked = parse_recipe(["fold_batch_norm", "calibrate", "adaround"])
    assert suited(asked, Precision(8, 8)) == asked  # who asks for it gets it
