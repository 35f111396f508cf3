"""``bitladder models``: how large networks are."""

from __future__ import annotations

from bitladder.cli.arguments import Json, StudyArguments, split_study
from bitladder.cli.output import print_json
from bitladder.console import console


def models(study: StudyArguments = None, as_json: Json = False) -> None:
    """List the size of networks at a study's input; without a study, of the built-in ones."""
    from rich.table import Table

    from bitladder import data
    from bitladder.models import MODELS, build, summarize
    from bitladder.options import ModelOptions
    from bitladder.study import load

    path, overrides = split_study(study)
    loaded = load(path, overrides)
    images = data.load(loaded.datasets[0], loaded.data, seed=loaded.seed)
    listed = loaded.models if study else [ModelOptions(name=name) for name in MODELS]
    summaries = []
    for options in listed:
        network = build(options, classes=images.classes, shape=images.shape, seed=loaded.seed)
        summaries.append(summarize(options.name, network, images.shape))
    if as_json:
        print_json(summaries)
        return
    size = "x".join(str(length) for length in images.shape)
    table = Table(title=f"{images.name}: {size}, {images.classes} classes", title_justify="left")
    table.add_column("model")
    for column in ("parameters", "MB", "MACs"):
        table.add_column(column, justify="right")
    for summary in summaries:
        table.add_row(
            summary.name,
            f"{summary.parameters:,}",
            f"{summary.size_mb:.3f}",
            f"{summary.macs:,}",
        )
    console().print(table)
