"""Figures in sentences of README and docs are those of the committed results and of the code."""

import csv
import re
from pathlib import Path

import pytest

from bitladder import answer, examination, measurement
from bitladder.data import findings
from bitladder.data.findings import colour, duplicates, labels, outliers
from bitladder.models import build, onnx_file, summarize
from bitladder.options import ModelOptions
from bitladder.pipeline import cell_result, runner

ROOT = Path(__file__).parents[1]
MOBILE, SHUFFLE = "mobilenet_v2", "shufflenet_v2_x0_5"
GREY = (1, 32, 32)


def _page(name):
    return (ROOT / name).read_text()


def _rows(*path):
    with ROOT.joinpath("results", *path).open() as file:
        return list(csv.DictReader(file))


def _rungs(*folder):
    """Accuracy in points by network, precision and technique."""
    return {
        (row["model"], row.get("precision", "w4a4"), row["technique"]): 100 * float(row["value"])
        for row in _rows(*folder, "rungs.csv")
    }


def _claims(page, *sentences):
    for sentence in sentences:
        assert sentence in _page(page), sentence


def test_the_first_screen_of_the_readme():
    row = _rows("fashion_mnist", "results.csv")[0]
    cells = [one for one in _rows("targets", "results.csv") if one["onnxruntime_integer_equal"]]
    assert {one["onnxruntime_integer_equal"] for one in cells} == {"1.0"}
    assert {one["onnxruntime_images"] for one in cells} == {"5000"}
    _claims(
        "README.md",
        f"The float network takes {float(row['float_mb']):.2f} MB.",
        f"{int(row['onnxruntime_images']):,} validation images, {row['htp_images']} of them",
        f"every logit of {len(cells)} files on 5,000 images each is equal on ONNX Runtime",
    )


def test_what_the_outliers_say():
    names = ("procedure", "logits", "scale_a_channel", "no_equalization", "finetune",
             "all_repairs", "evaluation")  # fmt: skip
    rungs = {name: _rungs("outliers", name) for name in names}

    def at(study, model, technique="integer_biases"):
        return rungs[study][model, "w4a4", technique]

    def gain(study, model, over="procedure"):
        return at(study, model) - at(over, model)

    def step(study, model, technique, before):
        return at(study, model, technique) - at(study, model, before)

    def corrected(study):
        return [step(study, model, "bias_correction", "calibrate") for model in (MOBILE, SHUFFLE)]

    with_range, without = corrected("logits"), corrected("procedure")
    free = step("no_equalization", MOBILE, "integer_biases", "bias_correction")
    held = [step("all_repairs", model, "integer_biases", "reestimate_batch_norm")
            for model in (MOBILE, SHUFFLE)]  # fmt: skip
    losses = [at("all_repairs", model, "float") - at("all_repairs", model)
              for model in (MOBILE, SHUFFLE)]  # fmt: skip
    lost = at("procedure", MOBILE, "float") - at("procedure", MOBILE)
    _claims(
        "docs/outliers.md",
        f"gains {gain('logits', MOBILE):.1f} points on MobileNetV2 and "
        f"{gain('logits', SHUFFLE):.1f} on ShuffleNetV2",
        f"its rung gains {with_range[0]:.1f} and {with_range[1]:.1f} points; without it, it costs "
        f"{-without[0]:.1f} and {-without[1]:.1f}",
        f"costs ShuffleNetV2 {gain('scale_a_channel', SHUFFLE):.1f} points and MobileNetV2, which "
        f"is equalized, {gain('scale_a_channel', MOBILE):.1f}",
        f"is worth {-gain('no_equalization', MOBILE):.1f} points to MobileNetV2 with one scale",
        f"costs ShuffleNetV2 {gain('no_equalization', SHUFFLE):.1f}",
        f"recovers {gain('finetune', MOBILE):.1f} and {gain('finetune', SHUFFLE):.1f} points",
        f"the networks end {losses[0]:.1f} and {losses[1]:.1f} points below float",
        f"they are {-gain('evaluation', MOBILE):.1f} and {-gain('evaluation', SHUFFLE):.1f} points",
        f"ShuffleNetV2 by {step('procedure', SHUFFLE, 'integer_biases', 'bias_correction'):+.1f}",
        f"MobileNetV2 without equalization by {free:+.1f}",
        f"they move the networks by {abs(held[0]):.1f} and {abs(held[1]):.1f}",
        f"loses {lost:.1f} points on MobileNetV2 by this procedure",
    )


def test_what_the_techniques_gain():
    ptq, qat, free, report = (
        _rungs("techniques", name) for name in ("ptq", "qat", "data_free", "report")
    )

    def ada(model, bits):
        return ptq[model, bits, "adaround"] - ptq[model, bits, "calibrate"]

    def loss(rungs, model, bits, technique="integer_biases"):
        return rungs[model, bits, "float"] - rungs[model, bits, technique]

    models = {model for model, *_ in ptq}
    mild, plain = ("w8a8", "w6a6", "w4a8"), [loss(ptq, m, "w8a8", "calibrate") for m in models]
    assert max(loss(ptq, model, bits) for model in models for bits in mild) < 0.4
    assert max(loss(qat, model, bits) for model in models for bits in mild) < 0.4
    assert 0.2 < max(map(abs, plain)) < 0.3
    lower = qat[SHUFFLE, "w4a4", "integer_biases"] - report[SHUFFLE, "w4a4", "integer_biases"]
    corrected = [free[MOBILE, "w4a4", last] - free[MOBILE, "w4a4", "calibrate"]
                 for last in ("bias_correction", "integer_biases")]  # fmt: skip
    trained = [qat[model, "w4a4", "integer_biases"] - qat[model, "w4a4", "calibrate"]
               for model in (MOBILE, SHUFFLE)]  # fmt: skip
    _claims(
        "docs/techniques.md",
        "is within 0.4 points of float on every network at `w8a8`, `w6a6` and `w4a8`",
        f"{ada(MOBILE, 'w4a8'):.1f} points on MobileNetV2 at `w4a8`, {ada(SHUFFLE, 'w4a8'):.1f} on "
        f"ShuffleNetV2, {ada(MOBILE, 'w4a4'):.1f} and {ada(SHUFFLE, 'w4a4'):.1f} at `w4a4`",
        f"ends {lower:.1f} points lower on ShuffleNetV2 at `w4a4`",
        f"gains up to {corrected[0]:.1f} points where nothing is trained (MobileNetV2, `w4a4`), of "
        f"which the int32 biases of the file leave {corrected[1]:.1f}",
        f"Of the {loss(ptq, MOBILE, 'w4a4', 'calibrate'):.1f} and "
        f"{loss(ptq, SHUFFLE, 'w4a4', 'calibrate'):.1f} points that plain simulation loses",
        f"training with batch norms kept {trained[0]:.1f} and {trained[1]:.1f} (tables below)",
        "the plain simulation is within 0.3 points of float",
    )


def test_the_layers_that_cost_most_at_4_bit():
    rows = _rows("explain", "explain.csv")
    noise = {(row["model"], row["layer"], row["kind"]): float(row["sqnr_db"]) for row in rows}
    least = min(noise[key] for key in noise if key[0] == SHUFFLE and key[2] == "weight")
    assert least > 27
    heads = [noise[SHUFFLE, f"model.stage{stage}.0.branch1.4", "output"] for stage in (3, 4)]
    logits = [noise[MOBILE, "model.classifier.1", "output"], noise[SHUFFLE, "model.fc", "output"]]
    first = noise[SHUFFLE, "model.conv1.2", "output"]
    depthwise = noise[MOBILE, "model.features.1.conv.0.0", "weight"]
    _claims(
        "docs/techniques.md",
        f"({logits[0]:.1f} and {logits[1]:.1f} dB of signal to noise",
        f"the first depthwise convolution `features.1.conv.0.0` ({depthwise:.0f} dB)",
        f"the first activation `conv1.2` ({first:.0f} dB)",
        f"`stage3.0.branch1.4` ({heads[0]:.0f} dB), and that of stage 4 ({heads[1]:.0f} dB)",
        "its weights cost less than 27 dB anywhere",
    )


def test_the_bullets_above_the_results():
    rows = _rows("report", "results.csv")
    least = min(float(row["onnxruntime_agreement"]) for row in rows)
    [missed] = [row for row in rows if (row["dataset"], row["model"], row["precision"]) ==
                ("kmnist", MOBILE, "w6a6")]  # fmt: skip
    lost = round((float(missed["float"]) - float(missed["quantized"])) * 1000)
    _claims(
        "docs/results.md",
        f"One row of {len(rows)} is short",
        f"at 6 bit loses {lost} images of 1,000",
        f"on at least {100 * least:.2f} % of the images of every cell",
    )


def test_the_table_of_litert_is_that_of_the_results():
    rows = _rows("litert", "networks.csv") + _rows("litert", "networks_16.csv")
    for row in rows:
        shares = [f"{100 * float(row[name]):.1f}" for name in ("equal", "onnxruntime_equal")]
        cells = [row["model"], f"`{row['precision']}`", row["kernels"], row["images"], *shares,
                 row["onnxruntime_worst_lsb"], f"{int(row['bytes']) / 1e6:.2f}"]  # fmt: skip
        _claims("docs/targets.md", f"| {' | '.join(cells)} |")
    assert len(re.findall(r"\| (xnnpack|reference) \| \d", _page("docs/targets.md"))) == len(rows)


def test_the_table_of_the_gpu_is_that_of_the_results():
    section = _page("docs/performance.md").partition("## On a GPU")[2]
    shown = re.findall(r"\| ([\d.]+) ms \| ([\d.]+) \| +([\d.]*) +\|", section)
    rows = {
        (f"{float(row['float']):.0f}", *(_short(row[name]) for name in ("bitladder", "aimet")))
        for row in _rows("gpu", "times.csv")
        if row["unit"] == "ms" and row["float"]
    }
    assert len(shown) == 21
    assert {(f"{float(a):.0f}", b, c) for a, b, c in shown} <= rows


def _short(text):
    return "" if not text else f"{float(text):.2f}" if float(text) < 15 else f"{float(text):.0f}"


def test_the_sizes_of_the_networks():
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \|", _page("docs/models.md"), re.M
    )
    assert len(rows) == 5
    for name, parameters, size, macs in rows:
        network = build(ModelOptions(name=name), classes=10, shapes=[GREY], seed=0)
        found = summarize(name, network, [GREY])
        assert (f"{found.parameters:,}", f"{found.size_mb:.3f}", f"{found.macs:,}") == (
            parameters, size, macs)  # fmt: skip


@pytest.mark.parametrize(
    ("page", "claim"),
    [
        ("docs/concepts.md", f"which correlate by {duplicates._ALIKE} or more"),
        ("docs/concepts.md", f"brightness or contrast {outliers._FAR:.0f} robust deviations"),
        ("docs/concepts.md", f"more than {100 * colour._FEW:.0f} % of those of three channels"),
        ("docs/concepts.md", f"by {100 * labels._LEAST:.0f} % of the images or more"),
        ("docs/concepts.md", f"grow by more than {100 * examination._GROWS:.0f} % from half"),
        (
            "docs/concepts.md",
            f"{findings.MOST:,} images of a split, a run at {runner._LOOKED_AT:,}",
        ),
        ("docs/concepts.md", f"is at least {100 * cell_result.AGREES:.1f} %"),
        ("docs/tasks.md", f"{measurement.RESAMPLES:,} resamples"),
        ("docs/models.md", f"within {onnx_file.comparison.TOLERANCE:.0e}".replace("e-0", "e-")),
        (
            "docs/concepts.md",
            f"Differences below {100 * answer._BYTES_NOISE:.0f} % of bytes and "
            f"{100 * answer._TIME_NOISE:.0f} % of time",
        ),
    ],
)
def test_a_limit_that_a_page_names_is_that_of_the_code(page, claim):
    _claims(page, claim)
