"""Recipes: every named one is in order, and orders that cannot work say why."""

import pytest

from bitladder.errors import StudyError
from bitladder.options import RECIPES, TECHNIQUES, dump_recipe, parse_recipe


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
