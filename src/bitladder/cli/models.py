"""``bitladder models``: how large networks are."""

from __future__ import annotations

from bitladder.cli.arguments import Json, StudyArguments, split_study
from bitladder.cli.output import print_json
from bitladder.console import console


def models(study: StudyArguments = None, as_json: Json = False) -> None:
    """List the size of networks at a study's input; without a study, of the built-in ones."""
    from rich.table import Table

    from bitladder import data, tasks
    from bitladder.models import MODELS, build, summarize
    from bitladder.options import ModelOptions
    from bitladder.study import load

    path, overrides = split_study(study)
    loaded = load(path, overrides)
    task = tasks.find(loaded.task.name)
    images = data.load(loaded.datasets[0], loaded.data, seed=loaded.seed, task=task)
    listed = loaded.models if study else [ModelOptions(name=name) for name in MODELS]
    summaries = []
    for options in listed:
        network = build(
            options, classes=images.classes, shapes=images.shapes, seed=loaded.seed, task=task
        )
        summaries.append(summarize(options.name, network, images.shapes))
    if as_json:
        print_json(summaries)
        return
    classes = "" if images.classes is None else f", {images.classes} classes"
    size = " and ".join("x".join(map(str, shape)) for shape in images.shapes)
    table = Table(title=f"{images.name}: {size}{classes}", title_justify="left")
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
