"""What a run writes for its report, and the report from the files alone: text, figures, errors."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pandas
import pytest
from typer.testing import CliRunner

from bitladder.answer import SILICON, places, target_title
from bitladder.cli import app
from bitladder.errors import StoreError
from bitladder.pipeline.rows import cell_row
from bitladder.pipeline.stage_records import TrainRecord
from bitladder.report.cells import pairs, read_cells, shared_note
from bitladder.report.contents import read_contents
from bitladder.report.markdown import results_markdown
from bitladder.report.page import render
from bitladder.report.palette import DARK, LIGHT
from bitladder.report.run_folder import read_run
from bitladder.report.stamp import is_current
from bitladder.runs import write_report
from synthetic_run import FAILED, HOSTILE, NOTE, finetuning_history, write_run


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of two cells and its report."""
    folder = tmp_path_factory.mktemp("small")
    results = write_run(
        folder, datasets=["kmnist"], models=["resnet18"], precisions=[8, 4], recipe="qat"
    )
    return results, write_report(folder)


def test_the_curves_are_those_of_the_records_and_of_tensorboard(small):
    results, page = small
    table = pandas.read_csv(page.with_name("curves.csv"))
    trained = table[table["precision"] == "float"].set_index("step")
    for row in results.cells[0].record(TrainRecord).history:
        for name in row.keys() - {"step"}:
            assert trained.loc[row["step"], name] == pytest.approx(row[name])
    for bits in (8, 4):
        tuned = table[table["precision"] == f"w{bits}a{bits}"].set_index("step")
        assert set(tuned["phase"]) == {"finetune"}
        for row in finetuning_history(bits):
            for name in row.keys() - {"step", "epoch"}:
                assert tuned.loc[row["step"], name] == pytest.approx(row[name], abs=1e-6)
    assert len(table) == len(trained) + 2 * len(set(tuned.index))


def test_a_page_is_current_until_a_file_of_its_run_changes(small, tmp_path):
    _, page = small
    assert is_current(page.parent)
    shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True)
    assert is_current(tmp_path)
    with (tmp_path / "results.csv").open("a") as file:
        file.write("\n")
    assert not is_current(tmp_path)
    shutil.copy(page.with_name("results.csv"), tmp_path)
    (tmp_path / "report.html").write_bytes(b"\xff")
    assert not is_current(tmp_path)
    (tmp_path / "report.html").unlink()
    assert not is_current(tmp_path)


def test_the_layers_are_the_explain_stage_s(small):
    _, page = small
    table = pandas.read_csv(page.with_name("layers.csv"))
    assert table.groupby("precision").size().to_dict() == {"w4a4": 48, "w8a8": 48}
    assert (table["value_low"] < table["value"]).all()


def test_the_figures_are_the_charts_of_the_page(small):
    _, page = small
    text = page.read_text()
    [data] = re.findall(r'<script type="application/json" id="run-data">(.*?)</script>', text)
    names = set(json.loads(data)["specs"])
    folder = page.with_name("figures")
    assert names == {path.stem for path in folder.glob("*.svg")}
    assert names == {path.stem for path in folder.glob("*.png")}
    assert names >= {"quality-kmnist", "size-kmnist", "time-kmnist", "ladder-kmnist-resnet18"}
    for path in folder.glob("*.svg"):
        drawing = ElementTree.parse(path)
        assert drawing.getroot().tag.endswith("svg")
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in folder.glob("*.png"))


def test_the_markdown_is_the_table_and_the_answer(small):
    results, page = small
    lines = page.with_name("results.md").read_text().splitlines()
    found = [line for line in lines if line.startswith("| kmnist")]
    answers, rows, runtimes = found[:3], found[3:5], found[5:]
    assert len(runtimes) == 2 * 2
    for row, cell in zip(rows, results.cells, strict=True):
        assert f"{100 * cell.quantized.quality.value:.2f}" in row
        assert f"{cell_row(cell)['packed_mb']:.2f}" in row
    lost = results.cells[0].loss
    for row, title in zip(answers, ("ONNX Runtime", "HTP emulator", "Silicon"), strict=True):
        assert f"| {title}" in row
        assert f"| **w8a8** | w8a8 | 0.10, at most {100 * lost.high:.2f} |" in row
    assert any(NOTE in line for line in lines)


def test_a_row_a_runtime_says_how_near_it_is_where_it_parts_and_why(small):
    results, page = small
    rows = [line for line in page.with_name("results.md").read_text().splitlines()
            if line.startswith("| kmnist, resnet18 | w8a8 |")]  # fmt: skip
    for row, (name, record) in zip(rows, results.cells[0].verified.items(), strict=True):
        compared = record.comparison
        shares = (compared.quality, compared.agreement, compared.equal)
        figures = [target_title(name), f"{compared.equal.count:,}"]
        figures += [f"{100 * share.value:.2f}" for share in shares]
        found = [re.sub(r" \(.*\)", "", one) for one in row.strip("| ").split(" | ")[2:]]
        assert found[:8] == [*figures, "2", "-", "1.25"]
    first = "/conv1/Conv, by 1 step in 2 % of its values"
    assert f"{first}: the simulation's float32 sums" in rows[0]
    assert rows[1].endswith(f"| {first} |")  # every image is equal there, so nothing needs a cause
    text = page.read_text()
    assert text.count('aria-label="A row a runtime"') == 1 + 2  # of the run, and of each cell
    why = f'<td class="notes">{first}: the simulation&#39;s float32 sums'
    assert text.count(why) == 2 * 2 * len(results.cells[1].verified) - 2  # one is equal throughout


def test_markdown_shows_hostile_names_as_text(hostile_folder):
    text = results_markdown(read_contents(hostile_folder))
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for named in ("target | ship", "precision | float"):
        [head] = [number for number, row in enumerate(rows) if named in row]
        table = rows[head : head + 4]  # a row of hostile names has no bar that ends a column
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table}) == 1
    assert HOSTILE.count("|") == 2


def test_the_narrowest_precision_that_silicon_can_ship_is_by_hand(run_folder):
    run = read_run(run_folder)
    assert [cell.precision for cell in pairs(read_cells(run))[0].cells] == ["w4a4", "w6a6", "w8a8"]
    silicon = next(place for place in places(run.rows) if place.target == SILICON)
    assert [one.loss for one in silicon.candidates] == [0.1, 0.4, 1.6]
    found = [silicon.answer(points).chosen for points in (0.0, 0.1, 0.39, 0.4, 1.6)]
    assert [one and one.precision for one in found] == [None, "w8a8", "w8a8", "w6a6", "w4a4"]
    ends = [one.high for one in silicon.candidates]
    sure = [silicon.answer(end, surely=True).chosen.precision for end in ends]
    assert sure == ["w8a8", "w6a6", "w4a4"]
    assert silicon.answer(ends[0] - 0.01, surely=True).chosen is None


def test_the_page_says_how_long_an_image_takes_on_integers_and_in_float(small):
    text = small[1].read_text().replace("&nbsp;", " ")
    assert "1.25 ms an image on one thread, the float network 2.50 ms" in text


def test_saturating_sums_are_on_the_page_and_in_the_markdown(small, tmp_path):
    shutil.copytree(small[1].parent, tmp_path, dirs_exist_ok=True)
    table = pandas.read_csv(tmp_path / "results.csv")
    for name, value in (("", 0.91), ("_low", 0.9), ("_high", 0.92), ("_agreement", 1.0)):
        table[f"onnxruntime_precise{name}"] = value
    table["onnxruntime_precise_worst_lsb"] = 53.0
    for equal in (1.0, 0.02):
        table["onnxruntime_precise_equal"] = equal
        table.to_csv(tmp_path / "results.csv", index=False)
        found = read_contents(tmp_path)
        assert list(found.cells[0].targets) == ["onnxruntime", "htp"]
        texts = (render(found), results_markdown(found))
        accuracy = found.cells[0].targets["onnxruntime"].quality.told
        told = f"16-bit sums saturate: accuracy {accuracy} where exact sums have 91.00 %"
        assert [told in text for text in texts] == [equal < 1] * 2
        assert found.cells[0].targets["onnxruntime"].sound == (equal == 1)


def test_a_target_that_ran_everything_has_its_own_loss_and_one_that_did_not_the_simulation_s(
    run_folder,
):
    table = read_run(run_folder).results.copy()
    for end in ("", "_low", "_high"):
        table.loc[0, f"onnxruntime_loss{end}"] += 0.02
    table.loc[0, "htp"] -= 0.3
    cpu, device, silicon = places(table.to_dict("records"))[:3]
    first = cpu.candidates[0]
    assert (first.loss, first.by_target) == (pytest.approx(0.1 + 2.0), True)
    assert first.high == pytest.approx(100 * table.loc[0, "onnxruntime_loss_high"])
    for place in (device, silicon):
        assert (place.candidates[0].loss, place.candidates[0].by_target) == (0.1, False)
    assert cpu.answer(1.0).chosen.precision == "w6a6"
    assert device.answer(1.0).chosen.precision == "w8a8"


def test_the_page_and_the_markdown_say_whose_the_loss_is(small, tmp_path):
    shutil.copytree(small[1].parent, tmp_path, dirs_exist_ok=True)
    table = pandas.read_csv(tmp_path / "results.csv")
    values = {"": 0.006, "_low": 0.002, "_high": 0.009}
    for end, value in values.items():
        table[f"onnxruntime_loss{end}"] = value
    table.to_csv(tmp_path / "results.csv", index=False)
    found = read_contents(tmp_path)
    page = render(found)
    assert "worst on ONNX Runtime: 0.60 points (0.20 to 0.90)" in page
    assert "loss 0.60 points, at most 0.90 there" in page
    assert "loss 0.10 points" in page
    rows = [line for line in results_markdown(found).splitlines() if "ONNX Runtime | **" in line]
    assert [" | 0.60, at most 0.90 | " in row for row in rows] == [True]


def test_losses_without_intervals_are_told_as_measured(small, tmp_path):
    shutil.copytree(small[1].parent, tmp_path, dirs_exist_ok=True)
    table = pandas.read_csv(tmp_path / "results.csv")
    gone = [name for name in table.columns if re.search(r"loss_(low|high)$", name)]
    table.drop(columns=gone).to_csv(tmp_path / "results.csv", index=False)
    found = read_contents(tmp_path)
    silicon = found.places[-1]
    assert silicon.answer(5.0, surely=True).chosen is None
    assert silicon.answer(5.0).chosen.precision == "w4a4"
    page = render(found)
    assert 'id="reading"' not in page
    assert "loss 0.10 points simulated<" in page


def _seen(html):
    """What a reader sees of a page before its study file and its scripts."""
    return re.sub(
        r"<[^>]*>",
        " ",
        re.sub(r"<style.*?</style>", "", html.partition("<h3>study.yaml")[0], flags=re.DOTALL),
    )


@pytest.mark.parametrize(
    ("folder", "heading", "unit"),
    [("restoration_folder", "PSNR (dB)", "dB"), ("error_folder", "error, less is better", "")],
)
def test_a_study_of_any_quality_is_told_in_its_own_words(request, folder, heading, unit):
    found = read_contents(request.getfixturevalue(folder))
    page, markdown = render(found), results_markdown(found)
    for text in (
        page.rpartition('id="run-data">')[2].partition("</script>")[0],
        _seen(page),
        markdown,
    ):
        assert not re.search(r"accurac|logit|class(es)?\b|\d points", text, re.IGNORECASE)
    titles = {
        figure.chart.to_dict()["layer"][1]["encoding"]["y"]["title"] for figure in found.quality
    }
    assert titles == {heading}
    cell = found.cells[0]
    assert cell.loss.low <= cell.loss.value <= cell.loss.high
    assert cell.loss.loss.split()[1] == (unit or f"({cell.loss.ends.split()[0]}")
    assert cell.loss.loss in _seen(page)
    assert f"| {cell.loss.text} ({cell.loss.ends}) |" in markdown
    shipped = found.places[0].answer(found.slider.allowed).chosen
    assert f"| **{shipped.precision}** | " in markdown
    assert (
        f"| {found.scale.lost(shipped.loss)}, at most {found.scale.lost(shipped.high)} |"
        in markdown
    )


def test_where_less_is_better_a_larger_value_is_a_loss_and_off_the_front(error_folder):
    found = read_contents(error_folder)
    float_error, w8a8, w4a4 = (
        found.cells[0].trained.value,
        *(cell.quantized.value for cell in found.cells[:3:2]),
    )
    assert float_error < w8a8 < w4a4
    for cell in found.cells:
        assert cell.loss.value == pytest.approx(cell.quantized.value - cell.trained.value, abs=2e-6)
    silicon = next(place for place in found.places if place.target == SILICON)
    middle = silicon.candidates[1]
    assert silicon.answer(middle.loss).chosen == middle
    [size] = found.size[:1]
    front = [(row[0], row[1]) for row in size.rows if row[-1] == "yes"]
    best = {}
    for network, precision, value, packed, *_ in size.rows:
        best[network, precision] = (float(value.split()[0]), float(packed))
    expected = [
        place
        for place, (value, packed) in best.items()
        if not any(
            other != place and (v <= value and p <= packed) and (v, p) != (value, packed)
            for other, (v, p) in best.items()
        )
    ]
    assert front == expected


def test_targets_have_names_that_people_know():
    assert target_title("htp_v75") == "HTP emulator v75"
    assert target_title("onnxruntime") == "ONNX Runtime"


def test_notes_that_all_cells_share_are_told_once(run_folder):
    cells = read_cells(read_run(run_folder))
    assert shared_note(cells[:3]) == ""
    assert "8-bit container" in shared_note(cells[1:2])


def test_a_run_of_before_has_no_curves_and_no_layers(run_folder, tmp_path):
    for name in ("results.csv", "rungs.csv", "study.yaml", "environment.json"):
        shutil.copy(run_folder / name, tmp_path)
    content = json.loads((tmp_path / "environment.json").read_text())
    del content["date"], content["machine"]["memory_gib"]
    (tmp_path / "environment.json").write_text(json.dumps(content))
    contents = read_contents(tmp_path)
    assert {figure.name.split("-")[0] for figure in contents.figures} == {
        "quality", "size", "targets", "agreement", "time", "ladder",
    }  # fmt: skip
    assert "Its layers were not measured" in render(contents)


def test_a_run_whose_every_cell_failed_is_told(tmp_path):
    place = ("mnist", "resnet18")
    failed = [(*place, precision, FAILED[3]) for precision in ("w8a8", "w4a4")]
    write_run(tmp_path, datasets=[place[0]], models=[place[1]], precisions=[8, 4], failed=failed)
    page = write_report(tmp_path)
    assert page.read_text().count(FAILED[3]) >= 2
    assert (
        "| none | none | - | - | No cell is complete. |" in page.with_name("results.md").read_text()
    )


def test_a_page_of_27_cells_is_small(tmp_path):
    models = ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v2"]
    write_run(tmp_path, datasets=["mnist", "kmnist", "fashion_mnist"], models=models)
    page = render(read_contents(tmp_path))
    assert len(page.encode()) < 5e6
    assert NOTE in page
    assert not re.search(r"(src|href)=[\"'](?!#)", page.partition("<script")[0])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(colours):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first, second):
        high, low = sorted((luminance(colours[first]), luminance(colours[second])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "soft", "accent", "good", "warn", "bad"):
        assert contrast(text, "paper") >= 4.5, text
    assert contrast("soft", "panel") >= 4.5
    for category in (name for name in colours if re.fullmatch(r"c\d", name)):
        assert contrast(category, "paper") >= 3, category


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("results.csv", None, "there is no results.csv in it"),
        ("results.csv", "a,b\n1,2\n", "the column 'dataset' is missing"),
        ("results.csv", "", "cannot read this table"),
        ("results.csv", b"\xff\xfe\xff", "cannot read this table"),
        ("rungs.csv", None, "cannot read this table"),
        ("study.yaml", "name: [", "not valid YAML"),
        ("study.yaml", "models: x", "it has no name"),
        ("study.yaml", None, "cannot read this file: it is not there"),
        ("environment.json", "{", "not valid JSON"),
        ("environment.json", "{}", "versions and machine are missing"),
    ],
)
def test_a_damaged_folder_is_one_line(run_folder, tmp_path, file, content, message):
    for path in run_folder.iterdir():
        if path.is_file() and path.name != file:
            shutil.copy(path, tmp_path)
    if content is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=re.escape(message)) as raised:
        read_contents(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_command_renders_a_folder_and_says_where(small, tmp_path):
    _, page = small
    copied = tmp_path / "yesterday"
    copied.mkdir()
    for path in page.parent.glob("*.csv"):
        shutil.copy(path, copied)
    for name in ("study.yaml", "environment.json"):
        shutil.copy(page.with_name(name), copied)
    done = CliRunner().invoke(app, ["report", str(copied)])
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == f"report: {copied / 'report.html'}"
    assert (copied / "report.html").read_text() == page.read_text()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert isinstance(done.exception, StoreError)
    assert "no such folder" in str(done.exception)


def test_recipes_are_compared_over_seeds(tmp_path):
    """A row a precision and a column a recipe, not a row a seed."""
    write_run(
        tmp_path, datasets=["mnist"], models=["resnet18"], precisions=[8, 4], curves=False,
        recipe=None, recipes=["ptq", "qat"], seeds=[1, 2, 3],
    )  # fmt: skip
    page = write_report(tmp_path).read_text()
    section = page.partition('id="recipes"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 1 + 1 + 2  # headings, the network, two precisions
    assert section.count("3 seeds") == 4
    assert ">w8a8<" in section
    assert "w8a8 ptq" not in section
    table = (tmp_path / "seeds.csv").read_text().splitlines()[1].split(",")
    assert f"{100 * float(table[11]):.2f}" in section


def test_a_run_of_one_recipe_and_seed_has_no_such_section(run_folder):
    assert 'id="recipes"' not in (run_folder / "report.html").read_text()
