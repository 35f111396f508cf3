"""Write the table and the charts of docs/outliers.md from the results of studies/outliers.

python scripts/make_outlier_tables.py
"""

from collections.abc import Iterator

import altair as alt
import pandas as pd
from pages import ROOT, filled, header, interval, percent, points

PAGE = ROOT / "docs" / "outliers.md"
RESULTS = ROOT / "results" / "outliers"
FIGURES = ROOT / "docs" / "figures"
NETWORKS = {"mobilenet_v2": "MobileNetV2", "shufflenet_v2_x0_5": "ShuffleNetV2 x0.5"}
STUDIES = {
    "procedure": "the 2021 report's procedure as its code ran it",
    "evaluation": "... calibrated on evaluation images",
    "no_bias_correction": "without bias correction",
    "no_equalization": "without equalization",
    "scale_a_channel": "one scale per channel for weights",
    "mean_squared_error": "ranges with the least squared error",
    "logits": "the logits' range by cross-entropy",
    "finetune": "the simulated network itself trained",
    "all_repairs": "all repairs: `studies/report.yaml`",
}
WORST = 10  # quantizers of a network in the chart and the table


def main() -> None:
    """Write the charts and the page."""
    FIGURES.mkdir(exist_ok=True)
    repairs().save(FIGURES / "outliers-repairs.svg")
    layers().save(FIGURES / "outliers-layers.svg")
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the tables as the results have them."""
    return filled(PAGE, "make_outlier_tables.py", tables())


def tables() -> Iterator[str]:
    """The ablation, and the quantizers that cost most alone."""
    found = ablation()
    yield from header("at 4 bit", *(f"{network}, 95 %, loss" for network in NETWORKS.values()))
    for name, meaning in STUDIES.items():
        rows = found[found["study"] == name].set_index("model")
        figures = [
            f"{percent(row['value'])} ({interval(row['low'], row['high'])}), {points(row['loss'])}"
            for row in (rows.loc[network] for network in NETWORKS)
        ]
        yield f"| {meaning} | {' | '.join(figures)} |"
    yield "\nThe ten quantizers that cost most alone, in dB of the logits' signal to noise:\n"
    yield from header("network", "layer", "kind", "dB", "accuracy alone")
    for _, row in worst().iterrows():
        figures = f"{row['sqnr_db']:.1f} | {percent(row['value'])}"
        yield f"| {NETWORKS[row['model']]} | `{row['layer']}` | {row['kind']} | {figures} |"
    yield ""


def ablation() -> pd.DataFrame:
    """One row a study and network: the last rung's accuracy and what it loses from float."""
    rows = []
    for name in STUDIES:
        rungs = pd.read_csv(RESULTS / name / "rungs.csv")
        for model, cell in rungs.groupby("model"):
            last = cell.iloc[-1]
            loss = cell.iloc[0]["value"] - last["value"]
            rows.append([name, model, last["value"], last["value_low"], last["value_high"], loss])
    return pd.DataFrame(rows, columns=["study", "model", "value", "low", "high", "loss"])


def worst() -> pd.DataFrame:
    """The quantizers with the least signal to noise, the worst first, for each network."""
    found = pd.read_csv(RESULTS / "explain" / "explain.csv")
    found = found.sort_values("sqnr_db")
    return pd.concat(found[found["model"] == model].head(WORST) for model in NETWORKS)


def repairs() -> alt.FacetChart:
    """Accuracy of each study with its interval, the float network as a line."""
    found = ablation().assign(
        meaning=lambda rows: rows["study"].map(STUDIES).str.replace("`", ""),
        network=lambda rows: rows["model"].map(NETWORKS),
        float_network=lambda rows: rows["value"] + rows["loss"],
    )
    order = [text.replace("`", "") for text in STUDIES.values()]
    y = alt.Y("meaning", sort=order, title=None).axis(labelLimit=320)
    scale = alt.Scale(domain=[0.6, 0.92], zero=False, nice=False)
    title = "accuracy on 5,000 validation images, with its 95 % interval"
    base = alt.Chart(found)
    layered = alt.layer(
        base.mark_rule(color="#767676", strokeDash=[4, 3]).encode(
            x=alt.X("float_network", scale=scale, title=title).axis(format="%")
        ),
        base.mark_bar(color="#0b62a4", height=6).encode(
            y=y, x=alt.X("low", scale=scale), x2="high"
        ),
        base.mark_tick(color="#0b62a4", height=14, thickness=2).encode(
            y=y, x=alt.X("value", scale=scale)
        ),
    )
    return layered.properties(width=300).facet(column=alt.Column("network", title=None))


def layers() -> alt.FacetChart:
    """Signal to noise of the logits with one quantizer alone."""
    found = worst().assign(
        network=lambda rows: rows["model"].map(NETWORKS),
        place=lambda rows: rows["layer"].str.removeprefix("model.") + ", " + rows["kind"],
    )
    chart = (
        alt.Chart(found)
        .mark_bar()
        .encode(
            x=alt.X("sqnr_db", title="signal to noise of the logits (dB)"),
            y=alt.Y("place", sort=alt.EncodingSortField("sqnr_db"), title=None).axis(
                labelLimit=240
            ),
            color=alt.Color("kind", title=None).scale(
                domain=["weight", "output"], range=["#0b62a4", "#c75b12"]
            ),
        )
    )
    facet = chart.properties(width=260).facet(column=alt.Column("network", title=None))
    return facet.resolve_scale(y="independent")


if __name__ == "__main__":
    main()
