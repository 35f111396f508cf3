"""``bitladder find``: the answer for one network and a folder of pictures, without a study file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import bitladder
from bitladder.cli.arguments import DataRoot, InProcess, Jobs, Json, Output, StoreFolder
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console

if TYPE_CHECKING:
    from bitladder.pipeline import Results
    from bitladder.study import Study

Network = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A float .onnx file, or a network's name or package.module:function with --weights.",
    ),
]


def find(
    model: Network,
    images: Annotated[
        str, typer.Option(help="A folder of pictures, a folder a class, or a data set's name.")
    ],
    within: Annotated[
        float, typer.Option(min=0, help="Loss that is allowed, in points where it is a share.")
    ] = 1.0,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint of the network, which is not trained; by default those of the file."
        ),
    ] = None,
    precisions: Annotated[str, typer.Option(help="Rungs of the ladder.")] = "w8a8,w4a8,w4a4",
    recipes: Annotated[str, typer.Option(help="Recipes, the cheapest first.")] = "ptq,qat",
    targets: Annotated[str, typer.Option(help="Runtimes that must agree.")] = "onnxruntime",
    normalize: Annotated[
        str | None,
        typer.Option(help="imagenet, where training did that to pixels; by default nothing."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels a side of its images; by default 224, or the data set's."),
    ] = None,
    output: Output = None,
    store: StoreFolder = None,
    jobs: Jobs = None,
    in_process: InProcess = False,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Find the narrowest precision that loses no more than is allowed, and write its file.

    Precisions are tried from the widest on, recipes in their order; what the answer does not need
    is not run. Exit code 1 if a cell failed.
    """
    from bitladder.pipeline import RunOptions
    from bitladder.report import answer_table, quality_table, watching

    study = _study(
        model, images, within, weights, precisions, recipes, targets, normalize, size, data_root
    )
    options = RunOptions(output, store, jobs, in_process)
    with watching(console(stderr=True)) as observer:
        results = bitladder.run(study, options=options, observer=observer)
    files = _files(results)
    if as_json:
        answers = results.answer(within=within).to_dict("records")
        print_json({"output": str(results.output), "answers": answers, "files": files})
    else:
        console().print(quality_table(results))
        console().print(answer_table(results, within))
        print_lines([*files, f"results: {results.output / 'results.csv'}"])
    if results.failed:
        raise typer.Exit(1)


def _study(
    model: str,
    images: str,
    within: float,
    weights: Path | None,
    precisions: str,
    recipes: str,
    targets: str,
    normalize: str | None,
    size: int | tuple[int, int] | None,
    data_root: Path | None,
) -> Study:
    """The study that asks the question."""
    from bitladder.cli.validation_images import own_size
    from bitladder.study import validated

    if size is None and model.endswith(".onnx"):
        size = own_size(Path(model))
    dataset = {"name": images, "normalize": normalize, "size": size}
    network = {"name": model, "weights": None if weights is None else str(weights)}
    return validated(
        {
            "name": "find",
            "datasets": [{key: value for key, value in dataset.items() if value is not None}],
            "models": [{key: value for key, value in network.items() if value is not None}],
            "precisions": precisions.split(","),
            "recipes": recipes.split(","),
            "within": within,
            "verify": targets.split(","),
            **({} if data_root is None else {"data": {"root": str(data_root)}}),
        },
        "find",
    )


def _files(results: Results) -> list[str]:
    """Where the files of the answers are, a line a target."""
    from bitladder.target_specs import known

    lines = []
    for row in results.answer(within=results.study.within).to_dict("records"):
        name = str(row["target"]).partition("_")[0]
        if row["ship"] is None or name not in known():
            continue
        recipe = row["recipe"] or results.study.every_recipe[0].name
        cell = results.cell(row["dataset"], row["model"], row["ship"], recipe).cell
        path = results.output / "cells" / cell.name / known()[name].dialect.file
        lines.append(f"file for {known()[name].title}: {path}")
    return lines
