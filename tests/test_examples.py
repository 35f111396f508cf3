"""The examples, run as a user runs them: each in its folder, its study by name."""

from pathlib import Path

import pytest

import bitladder

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "quality", "unit", "least", "most", "widths"),
    [  # what the float network reaches at least, and what 8 bits lose at most
        ("segmentation", "mIoU", "share", 0.5, 0.03, (8, 4)),
        ("restoration", "PSNR", "dB", 21.0, 0.5, (8,)),
        ("detection", "mAP", "share", 0.4, 0.05, (8,)),
    ],
)
def test_a_study_of_another_task_goes_the_whole_way(
    name, quality, unit, least, most, widths, monkeypatch, tmp_path
):
    monkeypatch.chdir(EXAMPLES / name)
    options = bitladder.RunOptions(
        output=tmp_path / "out", store=tmp_path / "store", in_process=True
    )
    changes = [f"precisions={list(widths)}", "train.validate_every=1"]
    results = bitladder.run("study.yaml", changes, options=options, progress=False)
    assert not results.failed
    table = results.table().set_index("precision")
    assert list(table.index) == [f"w{width}a{width}" for width in widths]
    for _, row in table.iterrows():
        assert (row["quality"], row["unit"], row["status"]) == (quality, unit, "complete")
        assert row["float"] > least
        assert row["float_low"] < row["float"] < row["float_high"]
        assert row["loss_low"] <= row["loss"] <= row["loss_high"]
        assert row["loss"] == pytest.approx(row["float"] - row["quantized"], abs=1e-5)
        assert row["onnxruntime"] == pytest.approx(row["quantized"], abs=0.02 * row["quantized"])
        assert row["onnxruntime_agreement"] > 0.9
        assert row["onnxruntime_precise_equal"] <= 1
    assert table.loc["w8a8", "loss"] < most
    cell = results.cell(*(f"{table.iloc[0][column]}" for column in ("dataset", "model")), 8)
    loaded = bitladder.QuantizedModel.load(cell.artifact("quantized.safetensors"))
    assert loaded.rungs[0].technique == "float"
    assert loaded.rungs[-1].quality.value == pytest.approx(table.loc["w8a8", "quantized"], abs=1e-5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert quality in page
    assert "accuracy" not in page.lower()
