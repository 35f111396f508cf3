"""How the price of quantization-aware training grows: batch, resolution, bits, depth; with memory.

python benchmarks/growth.py [--chart docs/figures/growth.svg] [--quick]
"""

from __future__ import annotations

from typing import Any

import altair
import pandas
from measure import alone, arguments, machine, print_table, steps

from bitladder.report.palette import LIGHT, chart_config

_USUAL = {"model": "mobilenet_v2", "batch": 64, "resolution": 32, "precision": "w8a8"}
_VARIED = {
    "batch": [16, 64, 256],
    "resolution": [32, 64, 128, 224],
    "precision": ["w8a8", "w6a6", "w4a4", "w2a2"],
    "model": ["resnet18", "resnet34", "resnet50", "resnet101"],
}
_BATCH_AT = {128: 16, 224: 8}  # so that a step stays short


def cases() -> list[tuple[str, dict[str, object]]]:
    """Each axis with the cases along it."""
    found = []
    for axis, values in _VARIED.items():
        for value in values:
            case = {**_USUAL, axis: value}
            if axis == "resolution":
                case["batch"] = _BATCH_AT.get(int(str(value)), case["batch"])
            found.append((axis, case))
    return found


def measure(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Both steps and the peak memory of a process that does only this."""
    given = (case["model"], case["precision"], case["batch"], case["resolution"], rounds)
    found = alone(steps, *given)
    return {**case, **found, "ratio": found["quantized"] / found["float"]}


def main() -> None:
    given = arguments(__doc__, chart="")
    rows: list[dict[str, Any]] = []
    measured: dict[tuple[object, ...], dict[str, Any]] = {}  # the usual case is on three axes
    for axis, case in cases():
        key = tuple(case.values())
        if key not in measured:
            measured[key] = measure(case, given.rounds)
        rows.append({"axis": axis, **measured[key]})
    print(f"{machine()}; smallest of {given.rounds} steps; peak memory with both networks\n")
    heads = ["varied", "network", "batch", "resolution", "precision"]
    heads += ["float step", "QAT step", "QAT / float", "peak memory"]
    cells = [
        [
            str(row["axis"]),
            *(str(row[key]) for key in _USUAL),
            f"{1000 * row['float']:.0f} ms",
            f"{1000 * row['quantized']:.0f} ms",
            f"{row['ratio']:.2f}",
            f"{row['gigabytes']:.1f} GB",
        ]
        for row in rows
    ]
    print_table(heads, cells)
    if given.chart:
        chart(rows).save(given.chart)


def chart(rows: list[dict[str, object]]) -> altair.HConcatChart:
    """A panel for each axis: QAT step over float step."""
    data = pandas.DataFrame(rows)
    data["value"] = [str(row[str(row["axis"])]) for row in rows]
    bars = (
        altair.Chart(data, width=150, height=160)
        .mark_bar()
        .encode(
            altair.X("value:N", sort=None, title=None).axis(labelAngle=-40),
            altair.Y("ratio:Q", title="QAT step / float step"),
        )
    )
    panels = [
        bars.transform_filter(altair.datum.axis == axis).properties(title=axis) for axis in _VARIED
    ]
    return altair.hconcat(*panels).configure(**chart_config(LIGHT)).resolve_scale(y="shared")


if __name__ == "__main__":
    main()
