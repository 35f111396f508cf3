"""Recipes and seeds as axes, and the search that runs no more than the answer needs."""

from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest

import bitladder as bl
from bitladder.errors import StudyError
from bitladder.options import Precision
from bitladder.pipeline import RunOptions, plan
from bitladder.pipeline.search import decide, is_wider
from bitladder.pipeline.seeds import over
from bitladder.study import Study, load
from small_study import NETWORK, STUDY, Recorder

RECIPES = ["recipes=[ptq,{name: plain, steps: [fold_batch_norm, calibrate]},qat]"]


def _cells(*overrides):
    return plan(load(None, [*RECIPES, *overrides]))


def _search(cells, within, losses):
    """Run a search whose cells lose what is said, and tell which ran in which order."""
    ran = []
    while True:
        found = decide(cells, within, partial(_result, losses=losses, ran=ran))
        waiting = [cell for cell in found.wanted if cell.name not in ran]
        if not waiting:
            return ran, [cell.name for cell in found.dropped]
        ran += [cell.name for cell in waiting]


def _result(cell, losses, ran):
    lost = losses(cell)
    quality = SimpleNamespace(unit="share")
    return SimpleNamespace(
        status=("failed" if lost is None else "complete") if cell.name in ran else "pending",
        rungs=[SimpleNamespace(quality=quality)],
        loss=None if lost is None else SimpleNamespace(value=lost / 100),
    )


def _brief(names):
    return [" ".join(name.split("/")[2:]) for name in names]


def test_cells_are_all_axes_with_names_of_their_own():
    cells = _cells("seeds=[1,2]", "precisions=[8,4]")
    assert len({cell.name for cell in cells}) == len(cells) == 2 * 3 * 2
    assert len({stage.label for cell in cells for stage in cell.stages}) == len(
        {stage.key for cell in cells for stage in cell.stages}
    )
    kinds = Counter(
        kind for kind, _ in {(s.kind.name, s.key) for cell in cells for s in cell.stages}
    )
    assert kinds["train"] == 2  # once a seed
    assert kinds["quantize"] == 2 * (2 + 3)  # at 8 bit ptq is plain


def test_recipes_share_the_stages_that_they_begin_with():
    longer = "{name: longer, steps: [fold_batch_norm, calibrate, finetune]}"
    cells = plan(
        load(
            None,
            [f"recipes=[{{name: plain, steps: [fold_batch_norm, calibrate]}},{longer}]"],
        )
    )
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        assert first.keys[:2] == second.keys[:2]
        assert first.keys[2] != second.keys[2]


def test_one_recipe_and_one_seed_keep_their_names_and_forms():
    short = load(None, ["recipe=ptq", "seed=7", "precisions=[8]"])
    [cell] = plan(short)
    assert cell.name.count("/") == 2
    assert cell.recipe.name == "ptq"
    several = load(None, ["recipes=[ptq]", "seeds=[7]", "precisions=[8]"])
    assert plan(several)[0].keys == cell.keys
    assert Study.model_validate(load(None).model_dump(exclude_unset=True)) == load(None)


@pytest.mark.parametrize("overrides", [["seeds=[1,2]"], RECIPES, ["within=1.0"], []])
def test_a_study_is_read_again_as_it_was(tmp_path, overrides):
    study = load(None, overrides)
    (tmp_path / "again.yaml").write_text(study.to_yaml())
    again = load(tmp_path / "again.yaml")
    assert again.to_yaml() == study.to_yaml()
    assert [cell.keys for cell in plan(again)] == [cell.keys for cell in plan(study)]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"recipe": "ptq", "recipes": ["qat"]}, "'recipe' or 'recipes', not both"),
        ({"seed": 1, "seeds": [1]}, "'seed' or 'seeds', not both"),
        ({"recipes": ["ptq", "ptq"]}, "'ptq' is there twice"),
        ({"recipes": ["nothing"]}, "nothing"),
        ({"recipes": [{"name": "a/b", "steps": ["calibrate"]}]}, "name"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"within": -1}, "greater than or equal to 0"),
        ({"within": float("nan")}, "finite"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, keys, said):
    import yaml

    content = {k: v for k, v in STUDY.items() if k not in ("recipe", "models")}
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({**content, "models": ["resnet18"], **keys}))
    with pytest.raises(StudyError, match=said):
        load(path)


def test_the_first_recipe_within_answers_and_dearer_ones_are_not_run():
    cells = _cells("precisions=[8,6,4]")
    losses = {"w8a8 ptq": 0.2, "w6a6 ptq": 3, "w6a6 plain": 0.9, "w4a4 ptq": 9, "w4a4 plain": 9}
    ran, dropped = _search(cells, 1.0, lambda c: losses.get(_brief([c.name])[0], 0.5))
    assert _brief(ran) == [
        *("w8a8 ptq", "w6a6 ptq", "w6a6 plain", "w4a4 ptq", "w4a4 plain", "w4a4 qat"),
    ]
    assert _brief(dropped) == ["w8a8 plain", "w8a8 qat", "w6a6 qat"]


def test_what_is_narrower_than_a_failure_is_not_run_and_what_is_not_comparable_is():
    cells = _cells("precisions=[w4a4,w4a8,w8a4,w8a8]")
    lost = {"w4a8": 5.0, "w8a4": 0.1, "w8a8": 0.0}
    ran, dropped = _search(cells, 1.0, lambda c: lost[str(c.precision)])
    assert {name.split()[0] for name in _brief(ran)} == {"w8a8", "w4a8", "w8a4"}
    assert sum(name.startswith("w4a4") for name in _brief(dropped)) == 3
    assert is_wider(Precision(8, 4), Precision(4, 4))
    assert not is_wider(Precision(8, 4), Precision(4, 8))
    assert is_wider(Precision(4, 4, 8), Precision(4, 4))


def test_the_mean_of_the_seeds_decides_and_a_failed_cell_has_none():
    cells = _cells("precisions=[8,4]", "seeds=[1,2]")
    ran, _ = _search(cells, 1.0, lambda c: {1: 1.8, 2: 0.1}[c.seed])
    assert _brief(ran) == [
        "w8a8 ptq seed1", "w8a8 ptq seed2", "w4a4 ptq seed1", "w4a4 ptq seed2",
    ]  # fmt: skip
    ran, dropped = _search(cells, 1.0, lambda c: None if c.recipe.name == "ptq" else 0.1)
    assert "w8a8 plain seed1" in _brief(ran)
    assert "w8a8 qat seed1" in _brief(dropped)


def test_interval_of_means_is_students():
    found = over("x", [1.0, 2.0, 4.0])
    assert found["x"] == pytest.approx(7 / 3, abs=1e-6)
    assert found["x_deviation"] == pytest.approx(1.527525, abs=1e-6)
    # t of 2 degrees of freedom at 97.5 % is 4.302653
    assert found["x_high"] == pytest.approx(7 / 3 + 4.302653 * 1.527525 / 3**0.5, abs=1e-5)
    assert over("x", [1.0]) == {"x": 1.0, "x_deviation": None, "x_low": None, "x_high": None}


@pytest.fixture
def small(tmp_path, monkeypatch):
    (tmp_path / "small_nets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return {k: v for k, v in STUDY.items() if k != "recipe"}


def test_a_search_runs_less_and_says_so_and_comes_again_from_the_store(small, tmp_path):
    plain = {"name": "plain", "steps": STUDY["recipe"][:3]}
    tuned = {"name": "tuned", "steps": STUDY["recipe"]}
    study = Study.model_validate(
        {**small, "precisions": [8, 2], "recipes": [plain, tuned], "seeds": [1, 2], "within": 2.0}
    )
    options = RunOptions(output=tmp_path / "out", store=tmp_path / "store", in_process=True)
    observer = Recorder()
    results = bl.run(study, options=options, observer=observer)
    states = {cell.cell.name.split("/", 2)[2]: cell.status for cell in results.cells}
    assert states["w8a8/plain/seed1"] == states["w8a8/plain/seed2"] == "complete"
    assert states["w8a8/tuned/seed1"] == states["w8a8/tuned/seed2"] == "not needed"
    assert any("2 cells are not needed" in line for line in observer.said)
    ran = {outcome.stage.label for outcome in observer.outcomes}
    assert not any("w8a8 tuned" in label for label in ran)
    table = results.table()
    assert set(table["recipe"]) == {"plain", "tuned"}
    assert set(table["seed"]) == {1, 2}
    seeds = results.seeds()
    row = seeds[(seeds["precision"] == "w8a8") & (seeds["recipe"] == "plain")].iloc[0]
    both = table[(table["precision"] == "w8a8") & (table["recipe"] == "plain")]["quantized"]
    assert row["quantized"] == pytest.approx(both.mean(), abs=1e-6)
    assert row["seeds"] == 2

    again = Recorder()
    repeated = bl.run(study, options=options, observer=again)
    assert not any(outcome.produced for outcome in again.outcomes)
    assert [cell.status for cell in repeated.cells] == [cell.status for cell in results.cells]
    from bitladder.report.page import write_report

    page = write_report(tmp_path / "out")
    assert "not needed" in page.read_text()
