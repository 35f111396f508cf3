"""A room imports only rooms above it, and what must start at once loads nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import bitladder

PACKAGE = Path(bitladder.__file__).parent
# Each knows only what stands before it; what a line holds does not know its neighbours.
ORDER = [
    {"aimet_names", "protocols"},
    {
        *("errors", "measurement", "structures", "console", "progress", "user_code"),
        *("interruption", "csv_text"),
    },
    {"outside"},
    {"target_specs", "tasks", "operators", "files", "rungs", "records", "isolation", "steps_shown"},
    {"options", "answer"},
    {"data_names", "dlc"},
    {"data", "models"},
    {"training"},
    {"simulation"},
    {"techniques", "deploy"},
    {"targets", "ladder"},
    {"saved_network", "verification", "doctor"},
    {"quantized", "float_training"},
    {"study", "store"},
    {"examination", "starter"},
    {"pipeline"},
    {"report"},
    {"runs", "charts"},
    {"cli"},
    {"__main__"},
]
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
HEAVY = {"torch", "numpy", "pandas", "aimet_torch", "lightning", "onnx", "distributed"}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "bitladder":
            names = [f"bitladder.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("bitladder.")}
    return rooms


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path):
    own = _room(path)
    assert own in LEVELS, f"give '{own}' its place in ORDER"
    for room in _imported(path) - {own}:
        assert LEVELS[room] < LEVELS[own], f"{path} imports {room}"


def _loaded(command: list[str]) -> set[str]:
    code = f"""
import json, sys
sys.argv = {["bitladder", *command]!r}
import bitladder
if sys.argv[1:]:
    from bitladder.cli import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
print(json.dumps([name for name in sys.modules if "." not in name]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", [[], ["--help"], ["run", "--help"]])
def test_import_and_help_load_nothing_heavy(command):
    assert not _loaded(command) & HEAVY


def test_plan_loads_no_torch():
    assert not _loaded(["plan"]) & HEAVY


def test_the_public_names_are_there():
    for name in bitladder.__all__:
        assert getattr(bitladder, name) is not None
    with pytest.raises(AttributeError):
        bitladder.no_such_name  # noqa: B018
