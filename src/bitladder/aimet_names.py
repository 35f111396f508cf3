"""What is known of AIMET's package without importing it: names, versions, its quantsim configs."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
from functools import cache
from pathlib import Path

PACKAGE = "aimet_torch"
DISTRIBUTION = "aimet-torch"
SUPPORTED = ">=2.42,<2.43"
"""The versions that the suite runs with, as ``pyproject.toml`` asks for them."""


@cache
def quantsim_configs() -> tuple[str, ...]:
    """Names of AIMET's own configs, read from its files; empty where they are not as known."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        return ()
    folder = Path(folders[0]) / "common" / "quantsim_config"
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.parse((folder / "quantsim_config.py").read_bytes()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_aliases"):
                aliases = ast.literal_eval(node.value)
                return (*aliases, *(path.name for path in folder.glob("*.json")))
    return ()
