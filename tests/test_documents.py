"""README and docs tell the truth: commands exist, figures are the results', keys are all."""

import csv
import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bitladder import target_specs
from bitladder.cli import app
from bitladder.options import TECHNIQUES
from bitladder.pipeline.local_cluster import WORKER_ENVIRONMENT
from bitladder.tasks import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _results(study):
    return ROOT / "results" / study / "results.csv"


def _rows(study):
    with _results(study).open() as file:
        return list(csv.DictReader(file))


def test_the_first_screen_has_the_two_commands():
    first = "\n".join(README.splitlines()[:30])
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in first
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def _commands():
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["bitladder"]:
                yield words[1:]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_command_of_the_readme_exists_with_its_options(words):
    done = CliRunner().invoke(app, [words[0], "--help"])
    assert done.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in done.output


def test_the_table_of_the_readme_is_that_of_the_results():
    rows = {row["precision"]: row for row in _rows("fashion_mnist")}
    lines = [line for line in README.splitlines() if line.startswith("| `w")]
    assert len(lines) == len(rows) == 3
    for line in lines:
        precision, *figures = (cell.strip(" `") for cell in line.strip("|").split("|"))
        row = rows[precision]

        def percent(name, row=row):
            return f"{100 * float(row[name]):.2f}"

        low, high = (100 * float(row[f"quantized_{end}"]) for end in ("low", "high"))
        assert figures == [
            percent("float"),
            percent("calibrate"),
            percent("quantized"),
            f"{low:.1f}-{high:.1f}",
            percent("onnxruntime"),
            percent("onnxruntime_agreement"),
            percent("onnxruntime_integer_equal"),
            percent("htp_agreement"),
            f"{float(row['packed_mb']):.2f} MB",
        ]


def test_the_budget_of_the_report_is_kept_and_its_accuracies_are_reached():
    rows = {row["precision"]: row for row in _rows("fashion_mnist")}
    assert all(row["status"] == "complete" for row in rows.values())
    assert float(rows["w8a8"]["float"]) >= 0.8798
    trained = float(rows["w4a4"]["float"])
    assert float(rows["w4a4"]["quantized"]) >= trained - 0.005


def test_the_tables_of_the_techniques_are_those_of_the_results():
    script = importlib.import_module("make_technique_tables")
    assert script.PAGE.read_text() == script.page()


def test_the_tables_of_the_techniques_take_a_rung_more_and_a_cell_that_lacks_it(
    tmp_path, monkeypatch
):
    script = importlib.import_module("make_technique_tables")
    rungs = [
        "dataset,model,precision,rung,technique,value,value_low,value_high",
        "d,net,w8a8,0,float,0.9,0.89,0.91",
        "d,net,w8a8,1,calibrate,0.8,0.79,0.81",
        "d,net,w8a8,2,integer_biases,0.85,0.84,0.86",
        "d,net,w4a4,0,float,0.9,0.89,0.91",
        "d,net,w4a4,1,calibrate,0.5,0.49,0.51",
    ]
    (tmp_path / "ptq").mkdir()
    (tmp_path / "ptq" / "rungs.csv").write_text("\n".join(rungs))
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    assert list(script.tables()) == [
        "### `ptq`\n",
        "| model | precision | float | calibrate | integer_biases | 95 % | loss |",
        "|---|---|---|---|---|---|---|",
        "| net | w8a8 | 90.00 | 80.00 | 85.00 | 84.0-86.0 | +5.00 |",
        "| net | w4a4 | 90.00 | 50.00 |  | 49.0-51.0 | +40.00 |",
        "",
    ]


def test_the_table_of_the_targets_is_that_of_the_results():
    script = importlib.import_module("make_target_table")
    assert script.PAGE.read_text() == script.page()
    title, _, first, *_ = script.lines(_results("fashion_mnist"))
    row = _rows("fashion_mnist")[0]
    cells = dict(zip(title.split(" | ")[:7], first.split(" | ")[:7], strict=True))
    assert cells["ONNX Runtime"] == f"{100 * float(row['onnxruntime']):.2f}"
    assert cells["agrees"] == f"{100 * float(row['onnxruntime_agreement']):.2f}"


@pytest.mark.parametrize("study", ["report", "targets"])
def test_every_cell_agrees_with_the_runtime_or_says_where_it_does_not(study):
    rows = _rows(study)
    assert len(rows) == {"report": 27, "targets": 18}[study]
    for row in rows:
        assert row["status"] == "complete"
        for target in ("onnxruntime", "htp"):
            said = f"{target}: agrees on" in row["notes"]
            assert said == (float(row[f"{target}_agreement"]) < 0.995)
        assert float(row["onnxruntime_agreement"]) >= 0.995


def test_the_integer_arithmetic_gives_every_logit_of_every_cell_that_has_one():
    rows = [row for row in _rows("targets") if row["onnxruntime_integer_equal"]]
    assert len(rows) == 15
    for row in rows:
        assert int(row["onnxruntime_images"]) == 5000
        assert float(row["onnxruntime_integer_equal"]) == 1
        assert float(row["onnxruntime_integer_worst_lsb"]) == 0


def test_the_table_of_the_runtimes_is_that_of_the_results():
    script = importlib.import_module("make_runtimes_table")
    assert script.PAGE.read_text() == script.page()
    title, _, first, *_ = script.lines(_results("runtimes"))
    row = _rows("runtimes")[0]
    cells = dict(zip(title.split(" | "), first.split(" | "), strict=True))
    assert cells["runtime"] == "ONNX Runtime"
    assert cells["accuracy"] == f"{100 * float(row['onnxruntime']):.2f}"
    assert cells["equal"] == f"{100 * float(row['onnxruntime_integer_equal']):.2f}"


def test_three_of_four_runtimes_give_every_output_of_the_integer_arithmetic():
    """LiteRT's is its own; OpenVINO has no integers for activations of 16 bit.

    In one cell it is some steps off in 1.2 % of the images, for a reason that was not found yet.
    """
    known = {("mobilenet_v2", "w4a8")}  # as the page says below its table
    for row in _rows("runtimes"):
        assert row["status"] == "complete"
        for target, images in (
            ("onnxruntime", 5000),
            ("openvino", 5000),
            ("litert", 5000),
            ("htp", 200),
        ):
            assert int(row[f"{target}_images"]) == images
            exact = target != "htp" and (target, row["activation_bits"]) != ("openvino", "16")
            if target == "openvino" and (row["model"], row["precision"]) in known:
                assert float(row["openvino_integer_equal"]) > 0.98
            elif exact:
                assert float(row[f"{target}_integer_equal"]) == 1


def test_the_tables_of_the_results_page_are_those_of_the_results():
    script = importlib.import_module("make_result_tables")
    assert script.PAGE.read_text() == script.page()


def test_the_tables_of_the_outliers_are_those_of_the_results():
    script = importlib.import_module("make_outlier_tables")
    assert script.PAGE.read_text() == script.page()


def test_at_4_bit_the_loss_is_what_the_documents_claim():
    rows = {(row["model"], row["precision"]): row for row in _rows("techniques/qat")}
    assert (
        "every network is within 0.8 points of float at `w4a4`"
        in (ROOT / "docs" / "techniques.md").read_text()
    )
    for model in ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"):
        assert float(rows[model, "w4a4"]["loss"]) <= 0.008


def test_the_study_reference_is_what_the_options_say():
    script = importlib.import_module("make_study_reference")
    assert (ROOT / "docs" / "studies.md").read_text() == script.page()


def test_workers_started_by_hand_get_the_environment_of_local_ones():
    lines = re.findall(r"^export (.*)$", (ROOT / "docs" / "clusters.md").read_text(), re.MULTILINE)
    told = dict(word.split("=", 1) for line in lines for word in line.split())
    assert told == WORKER_ENVIRONMENT


def _anchors(document):
    """What links can name of a page: its headings as the site writes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def test_links_between_documents_lead_somewhere():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
            path, _, anchor = link.partition("#")
            place = document.parent / path if path else document
            assert place.exists(), f"{document.name}: {link}"
            if anchor:
                assert anchor in _anchors(place), f"{document.name}: {link}"


def _tables():
    """By the heading of a table of files: the paths in it."""
    found = {}
    for section in (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        paths = re.findall(r"^\| `([^`]+)` \|", text, re.M)
        if paths:
            found[heading] = paths
    return found


def test_the_files_to_touch_are_those_that_there_are():
    names = {
        "Add a technique": list(TECHNIQUES),
        "Add a target": list(target_specs.known()),
        "Add a task": list(TASKS),
    }
    tables = _tables()
    assert tables.keys() == names.keys()
    for heading, paths in tables.items():
        for path in paths:
            for name in names[heading]:
                if path.startswith("examples/") and name == "classification":
                    continue  # the quick study is its example
                assert (ROOT / path.replace("NAME", name)).exists(), (path, name)
