"""The command line: parse, call, print; a file a group of commands.

Rooms load when a command needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import sys
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
from bitladder.errors import BitladderError

__all__ = ["app", "main"]

BAD_INPUT = 2

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the lowest bit width your CNN survives, and ship exactly the model you measured.",
)
for _command in (
    init.init,
    studies.run,
    find.find,
    report.report,
    studies.explain,
    studies.plan,
    verify.verify,
    quantize.quantize,
    doctor.doctor,
    models.models,
):
    app.command()(_command)
app.add_typer(dlc.app, name="dlc")
app.add_typer(tflite.app, name="tflite")
app.add_typer(store.app, name="store")


def main() -> None:
    """Entry point: what a user can mend is told in one line, with exit code 2."""
    interruption.watch()
    try:
        app()
    except BitladderError as error:
        print(f"error: {error}", file=sys.stderr)
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
