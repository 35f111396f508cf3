"""``bitladder store``: show, check and clean the outputs of stages that studies share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitladder.cli.arguments import Json, StoreFolder, examples
from bitladder.cli.output import print_json
from bitladder.console import console

if TYPE_CHECKING:
    from bitladder.store import Store

app = typer.Typer(no_args_is_help=True, help="Show, check and clean the store of finished stages.")


@app.command(name="ls", epilog=examples("store ls", "store ls --store /shared/store --json"))
def list_outputs(store: StoreFolder = None, as_json: Json = False) -> None:
    """List what the store holds, the oldest first, and which studies use it."""
    from rich.table import Table

    from bitladder.store import entries

    found = entries(_open(store))
    if as_json:
        print_json(found)
        return
    table = Table(title_justify="left")
    for column in ("kind", "stage", "MB", "age", "used by"):
        table.add_column(column, justify="right" if column in ("MB", "age") else "left")
    for entry in found:
        studies = ", ".join(entry.studies) or "-"
        size = f"{entry.bytes / 1e6:.2f}"
        table.add_row(entry.kind, entry.label, size, _age(entry.age_seconds), studies)
    console().print(table)
    unused = [entry for entry in found if not entry.studies]
    print(
        f"{len(found)} outputs, {sum(entry.bytes for entry in found) / 1e6:.2f} MB; "
        f"{len(unused)} of them, {sum(entry.bytes for entry in unused) / 1e6:.2f} MB, "
        "are used by no study"
    )


@app.command(epilog=examples("store verify"))
def verify(store: StoreFolder = None) -> None:
    """Hash every file of every output again; exit code 1 if any is damaged."""
    from bitladder.store import entries

    opened = _open(store)
    damaged = 0
    found = entries(opened)
    for entry in found:
        damage = opened.damage(entry.key, thorough=True)
        if damage is not None:
            damaged += 1
            print(f"damaged: {entry.kind} {entry.label} ({entry.key[:16]}): {damage}")
    if damaged:
        print(f"{damaged} of {len(found)} outputs are damaged; the next run makes them again")
        raise typer.Exit(1)
    print(f"{len(found)} outputs are sound")


@app.command(epilog=examples("store gc --dry-run", "store gc"))
def gc(
    store: StoreFolder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")
    ] = False,
) -> None:
    """Remove what no study uses any more: a study is forgotten when its results are deleted."""
    from bitladder.store import collect

    removed = collect(_open(store), dry_run=dry_run)
    for garbage in removed:
        print(f"{garbage.bytes / 1e6:10.2f} MB  {garbage.label}")
    total = sum(garbage.bytes for garbage in removed) / 1e6
    print(f"{'would remove' if dry_run else 'removed'} {len(removed)} folders, {total:.2f} MB")


def _open(folder: Path | None) -> Store:
    from bitladder.errors import StoreError
    from bitladder.store import Store, default_root

    root = folder or default_root()
    if not (root / "stages").is_dir():
        raise StoreError(f"{root}: no store here; give its folder with --store")
    return Store(root)


def _age(seconds: float) -> str:
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"
