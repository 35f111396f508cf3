"""The command line: parse, call, print; a file a group of commands.

Rooms load when a command needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

import bitladder
from bitladder import interruption
from bitladder.cli import (
    dlc,
    doctor,
    find,
    init,
    models,
    quantize,
    report,
    store,
    studies,
    tflite,
    verify,
)
from bitladder.cli.arguments import examples
from bitladder.errors import BitladderError

__all__ = ["app", "main"]

BAD_INPUT = 2

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the lowest bit width your CNN survives, and ship exactly the model you measured.",
)
_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    init.init: ("init photos", "init photos model.onnx -o mine.yaml"),
    studies.run: ("run", "run study.yaml precisions=[8,4] train.epochs=1 --output out"),
    find.find: (
        "find model.onnx --images photos --within 1.0",
        "find resnet18 --weights best.pth --images photos --targets onnxruntime,htp",
    ),
    report.report: ("report runs/quick",),
    studies.explain: ("explain study.yaml --images 500",),
    studies.plan: ("plan study.yaml", "plan study.yaml seeds=[1,2,3]"),
    verify.verify: (
        "verify model.onnx --target onnxruntime,htp",
        "verify model.onnx --images photos --target all --limit 100",
    ),
    quantize.quantize: (
        "quantize model.onnx --images photos -o quantized.onnx",
        "quantize model.onnx --images photos --precision w4a8 --target htp -o model.htp.onnx",
    ),
    doctor.doctor: ("doctor", "doctor study.yaml"),
    models.models: ("models", "models study.yaml --json"),
}
for _command, _lines in _EXAMPLES.items():
    app.command(epilog=examples(*_lines))(_command)
app.add_typer(dlc.app, name="dlc")
app.add_typer(tflite.app, name="tflite")
app.add_typer(store.app, name="store")


def main() -> None:
    """Entry point: what a user can mend is told in one line, with exit code 2."""
    interruption.watch()
    try:
        app()
    except BitladderError as error:
        print(f"error {error.told}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except SystemExit as stop:
        if stop.code == interruption.INTERRUPTED:  # typer's answer to Ctrl-C
            interruption.end()
        raise


def _version(wanted: bool) -> None:
    if wanted:
        print(bitladder.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
