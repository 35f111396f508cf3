"""Changes in place become new values, read by whatever reads the changed tensor afterwards.

A tensor may be seen under other names: what ``view``, ``chunk`` or an index give shares its memory.
Where such a name is read after the change, the graph would have to write back; that is refused.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bitladder.operators import function_name
from bitladder.simulation.arguments import named

_AUGMENTED = {"iadd": operator.add, "isub": operator.sub, "imul": operator.mul,
              "itruediv": operator.truediv, "ipow": operator.pow,
              "ifloordiv": operator.floordiv}  # fmt: skip
_FILLED: dict[str, Any] = {"zero_": torch.zeros_like, "fill_": torch.full_like}
_LOGICAL = {"and_", "or_", "not_"}
# Functions, methods and modules that may give the memory that they read.
_VIEWS = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
          "reshape_as", "ravel", "permute", "transpose", "swapaxes", "swapdims", "t", "movedim",
          "moveaxis", "expand", "expand_as", "broadcast_to", "split", "chunk", "tensor_split",
          "unbind", "getitem", "getattr", "select", "narrow", "contiguous", "detach", "float",
          "to", "type_as", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
          "feature_dropout", "feature_alpha_dropout", "stochastic_depth", "diagonal", "unfold",
          "requires_grad_", "alias", "hsplit", "vsplit"}  # fmt: skip
_VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)


class SharedMemoryError(Exception):
    """A change in place is seen under another name."""


def out_of_place(graph_module: fx.GraphModule, *, recorded: bool) -> None:
    """Let every change in place return a new value; the network's function is kept.

    Args:
        graph_module: a traced network.
        recorded: readers of what is changed read the changed value already.

    Raises:
        SharedMemoryError: a view of the changed tensor is read after the change.
    """
    for node in list(graph_module.graph.nodes):
        if not (is_change(node) or _is_changing_module(graph_module, node)):
            continue
        if not recorded:
            _redirect(graph_module, node)
        _replace(graph_module, node)


def _redirect(graph_module: fx.GraphModule, node: fx.Node) -> None:
    """Let what comes after a change read the changed value."""
    changed: Any = node.args[0]
    own = _way_up(graph_module, changed)
    for name in _names(graph_module, own[-1]):
        if name is not node and name is not changed and any(True for _ in _later(name, node)):
            raise SharedMemoryError(
                f"it changes '{changed.name}' in place, which '{name.name}' shares memory with"
            )
    for reader in list(_later(changed, node)):
        reader.replace_input_with(changed, node)


def is_change(node: fx.Node) -> bool:
    """Whether a function or method changes its first argument."""
    if node.op not in ("call_function", "call_method") or node.meta.get("kind") == "number":
        return False
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    name = function_name(node)
    by_name = name.endswith("_") and not name.endswith("__") and name not in _LOGICAL
    by_name = by_name and name != "requires_grad_"
    return by_name or name in _AUGMENTED or named(node).get("inplace") is True


def _is_changing_module(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module" or not isinstance(node.args[0], fx.Node):
        return False
    module = graph_module.get_submodule(str(node.target))
    dropout = isinstance(module, nn.modules.dropout._DropoutNd)
    return bool(getattr(module, "inplace", False)) and not dropout


def _way_up(graph_module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """A tensor and those that it is a view of, the last of which is none."""
    way = [node]
    while _is_view(graph_module, way[-1]) and isinstance(way[-1].args[0], fx.Node):
        way.append(way[-1].args[0])
    return way


def _names(graph_module: fx.GraphModule, root: fx.Node) -> Iterator[fx.Node]:
    """A tensor and all views of it."""
    yield root
    for user in root.users:
        if _is_view(graph_module, user) and user.args and user.args[0] is root:
            yield from _names(graph_module, user)


def _is_view(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(graph_module.get_submodule(str(node.target)), _VIEW_MODULES)
    if node.op not in ("call_function", "call_method") or node.meta.get("kind") == "number":
        return False
    return function_name(node) in _VIEWS


def _later(changed: fx.Node, node: fx.Node) -> Iterator[fx.Node]:
    """What reads a tensor after a node."""
    return (reader for reader in changed.users if reader > node)


def _replace(graph_module: fx.GraphModule, node: fx.Node) -> None:
    """Have a node compute a new value."""
    if node.op == "call_module":
        module: Any = copy.copy(graph_module.get_submodule(str(node.target)))
        module.inplace = False  # of the copy: the network itself stays what it is
        graph_module.add_submodule(str(node.target), module)
        return
    name = function_name(node)
    if name in _AUGMENTED:
        node.target = _AUGMENTED[name]
        return
    given = named(node)
    if given.get("inplace") is True:
        place = list(given).index("inplace")
        node.args = (*node.args[:place], False, *node.args[place + 1 :])
        if "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        return
    plain = name[:-1]
    if name in _FILLED:
        node.op, node.target = "call_function", _FILLED[name]
    elif node.op == "call_method" and hasattr(Tensor, plain):
        node.target = plain
    else:
        node.target = next(
            (getattr(home, plain) for home in (functional, torch) if hasattr(home, plain)),
            node.target,
        )
