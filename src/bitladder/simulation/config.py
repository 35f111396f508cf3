"""AIMET's quantsim config, changed where a recipe says otherwise."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bitladder.options import Calibrate
from bitladder.simulation.aimet import config_file


@contextmanager
def quantsim_config(options: Calibrate) -> Iterator[str]:
    """Path of the config file that ``options`` name, with their changes written in.

    Raises:
        FileNotFoundError: there is no config of that name and no such file.
        ValueError: the file is not JSON.
    """
    source = config_file(options.config)
    content = json.loads(source.read_text(encoding="utf-8"))
    if options.weights != "config":
        _replace(content, "per_channel_quantization", options.weights == "per_channel")
    if options.symmetric_weights is not None:
        _replace(content, "is_symmetric", options.symmetric_weights, below="params")
    if options.symmetric_activations is not None:
        _replace(content, "is_symmetric", options.symmetric_activations, below="ops")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        path.write_text(json.dumps(content))
        yield str(path)


def _replace(content: dict[str, Any], key: str, value: bool, below: str | None = None) -> None:
    """Set a key for all operations: in the defaults, and wherever else the config has it."""
    defaults = content.setdefault("defaults", {})
    (defaults.setdefault(below, {}) if below else defaults)[key] = str(value)
    pending: list[tuple[Any, bool]] = [(content, below is None)]
    while pending:
        place, inside = pending.pop()
        for name, nested in place.items() if isinstance(place, dict) else ():
            if name == key and inside:
                place[name] = str(value)
            pending.append((nested, inside or name == below))
