"""The last way to trace a network: torch.export writes it as ONNX, and our importer reads that.

It follows what neither torch.fx nor a recording can, such as ``torch.vmap`` or loops over images,
and refuses what depends on values.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from bitladder.models.onnx_file import from_onnx
from bitladder.simulation.quality import device_of
from bitladder.structures import Inputs, example, input_names, moved, named, shapes
from bitladder.structures import dtypes as dtypes_of

_OPSET = 18


class ExportedError(Exception):
    """A network whose outputs cannot be told apart in a file."""


def exported(model: nn.Module, inputs: Inputs) -> fx.GraphModule:
    """Trace a network by way of an ONNX file of one image.

    Args:
        model: in evaluation mode.
        inputs: such as it takes, of which their number, shapes and types count.

    Returns:
        The traced network; its inputs are called as those of ``forward``, and it returns the same
        structure.

    Raises:
        ExportedError: it returns something else than tensors in a tuple, list or dictionary.
        ModelError: the file cannot be read, or does not take any number of images.
        Exception: whatever torch.export raises.
    """
    given = moved(example(1, shapes(inputs), dtypes_of(inputs)), device_of(model))
    with torch.no_grad():
        returned = model(*given)
    names = list(named(returned))
    order = input_names(model.forward, len(inputs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with _silent():
            torch.onnx.export(
                model, given, str(path), input_names=order, output_names=names, dynamo=True,
                opset_version=_OPSET, verbose=False, external_data=False,
            )  # fmt: skip
        made = from_onnx(path, shapes(inputs))
    own = dict(model.named_parameters())
    for name, parameter in made.named_parameters():
        if name in own:  # the others are matrices that the exporter turned, or constants
            parameter.requires_grad_(own[name].requires_grad)
    [output] = made.graph.find_nodes(op="output")
    found = output.args[0]
    nodes = iter(found.values() if isinstance(found, dict) else [found])
    output.args = (_like(returned, nodes),)
    made.recompile()
    return made.to(device_of(model))


def _like(returned: Any, nodes: Any) -> Any:
    """The structure that a network returns, of nodes."""
    if isinstance(returned, torch.Tensor):
        return next(nodes)
    if isinstance(returned, dict):
        return {key: _like(part, nodes) for key, part in returned.items()}
    if isinstance(returned, list | tuple) and not hasattr(returned, "_fields"):
        return type(returned)(_like(part, nodes) for part in returned)
    raise ExportedError(f"it returns a {type(returned).__name__}")


@contextlib.contextmanager
def _silent() -> Any:
    """Keep what the exporter prints and logs; what it raises is told."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
