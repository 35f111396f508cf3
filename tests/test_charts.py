"""The charts of the page in a notebook, and what results say there."""

import pytest

from bitladder import charts
from bitladder.errors import StudyError
from bitladder.pipeline.rows import cell_row
from synthetic_run import write_run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("charts"), datasets=["mnist"], models=["resnet18"],
        precisions=[8, 4],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "place"),
    [
        (charts.quality, ()),
        (charts.size, ("mnist",)),
        (charts.time, ()),
        (charts.targets, ()),
        (charts.ladder, ("mnist", "resnet18")),
        (charts.curves, ("mnist", "resnet18")),
        (charts.layers, ("mnist", "resnet18", "w4a4")),
    ],
)
def test_every_chart_of_the_page_is_an_altair_chart_of_results_and_of_a_folder(
    results, draw, place
):
    import altair

    chart = draw(results, *place)
    assert isinstance(chart, altair.TopLevelMixin)
    assert chart.to_dict() == draw(results.output, *place).to_dict()


def test_what_is_not_there_is_one_line(results):
    with pytest.raises(StudyError, match="unknown data set 'mnst'"):
        charts.quality(results, "mnst")
    with pytest.raises(StudyError, match="unknown network"):
        charts.ladder(results, "mnist", "resnet")
    with pytest.raises(StudyError, match="unknown precision"):
        charts.layers(results, "mnist", "resnet18", "w2a2")


def test_results_answer_for_each_target_and_refuse_others(results):
    found = results.answer(within=2.0)
    assert list(found["target"]) == ["onnxruntime", "htp", "silicon"]
    assert list(found["ship"]) == ["w8a8", "w8a8", "w4a4"]  # only silicon gains by 4 bits
    assert "gains nothing here against w8a8" in found["why"][0]
    assert list(results.answer("silicon", within=0.01)["ship"]) == [None]
    sure = results.answer("silicon", within=1.7, surely=True)
    assert list(sure["ship"]) == ["w8a8"]  # w4a4 loses 1.6, and up to 1.98
    with pytest.raises(StudyError, match="unknown target 'qnn'"):
        results.answer("qnn")


def test_the_flips_are_those_of_the_loss(results):
    flips = results.flips()
    narrow = flips[flips["precision"] == "w4a4"]
    lost = results.cells[1].loss
    assert list(narrow["image"]) == list(lost.lost)
    assert (narrow["change"] == "lost").all()
    assert (narrow["float"] == narrow["truth"]).all()
    assert (narrow["quantized"] == (narrow["truth"] + 1) % 10).all()
    confusion = results.confusion()
    assert confusion["added"].sum() == len(flips)
    classes = results.classes()
    mine = classes[classes["precision"] == "w4a4"]
    assert (mine["images"] * mine["loss"]).sum() == pytest.approx(len(lost.lost), abs=0.05)
    assert mine["images"].sum() == 5000


def test_one_recipe_loses_nothing_against_itself(results):
    found = results.compare()
    assert list(found["loss"]) == [0.0, 0.0]
    with pytest.raises(StudyError, match="unknown recipe"):
        results.compare(["none of these"])


def test_a_notebook_shows_the_table_with_names_as_text(results):
    shown = results._repr_html_()
    assert f"{cell_row(results.cells[0])['loss']:.4g}" in shown
    assert shown.startswith("<table")
