"""Make a traced network plain: every operation that computes a module, nothing that only checks.

Which function becomes which module stands in the operator table. What the table does not know stays
as it is and runs in float.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.operators import conversions, function_name, of_module, of_node
from bitladder.simulation.arguments import by_place
from bitladder.simulation.changes import is_change, out_of_place
from bitladder.simulation.conversions import RULES, Made, converted
from bitladder.simulation.signature import makes_dataclass

# Functions and methods that tell a size or a type and compute no tensor.
_NUMBERS = {"size", "dim", "ndimension", "numel", "len", "stride", "get_device",
            "is_floating_point", "element_size"}  # fmt: skip
_NUMBER_ATTRIBUTES = {"shape", "ndim", "device", "dtype", "is_cuda", "requires_grad", "layout"}


def rewrite(
    graph_module: fx.GraphModule, original: nn.Module, *, recorded: bool = False
) -> list[str]:
    """Rewrite a traced network in place; its function is kept.

    Args:
        graph_module: as torch.fx traced it.
        original: the network it was traced from.
        recorded: the graph is one of ``record``, in which readers read changed values already.

    Returns:
        What a person should know of it, a line each.

    Raises:
        SharedMemoryError: a change in place is seen under another name.
    """
    notes: list[str] = []
    _drop_checks(graph_module)
    _tell_numbers(graph_module)
    _name_attributes(graph_module)
    by_place(graph_module)
    out_of_place(graph_module, recorded=recorded)
    _fold_constants(graph_module)
    notes += _separate(graph_module)
    for node in list(graph_module.graph.nodes):
        made = _module_for(node, graph_module, original)
        if made is not None:
            _replace(graph_module, node, made)
    graph_module.graph.eliminate_dead_code(_has_effect)
    _drop_unread(graph_module)
    _tell_numbers(graph_module)
    graph_module.graph.lint()
    graph_module.recompile()
    return notes


def unquantized(graph_module: fx.GraphModule) -> list[str]:
    """Names of the operations that compute and are no modules, so that they stay in float."""
    found = set()
    for node in graph_module.graph.nodes:
        if node.op == "call_module" and of_module(_module(graph_module, node)) is None:
            found.add(type(_module(graph_module, node)).__name__)
        if not _is_function(node) or node.meta.get("kind") == "number":
            continue
        known = of_node(node, None)
        if makes_dataclass(node):
            continue
        if (known is None and function_name(node) != "getattr") or (known and known.why):
            found.add(function_name(node))
    return sorted(found)


def unknown(graph_module: fx.GraphModule) -> list[str]:
    """Names of the functions that compute tensors and stand nowhere in the operator table."""
    return sorted(
        {
            function_name(node)
            for node in graph_module.graph.nodes
            if _is_function(node)
            and node.meta.get("kind") != "number"
            and of_node(node, None) is None
        }
    )


def _drop_checks(graph_module: fx.GraphModule) -> None:
    """Take out assertions and modules that do nothing."""
    for node in list(graph_module.graph.nodes):
        if _is_function(node) and function_name(node) in ("_assert", "_assert_is_none"):
            graph_module.graph.erase_node(node)
        elif node.op == "call_module" and type(_module(graph_module, node)) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
    graph_module.graph.eliminate_dead_code(_has_effect)


def _tell_numbers(graph_module: fx.GraphModule) -> None:
    """Mark each node by whether it gives a tensor or a number, such as a size."""
    for node in graph_module.graph.nodes:
        node.meta["kind"] = "number" if _is_number(node) else "tensor"


_ATTRIBUTES: dict[str, tuple[str, tuple[int, ...]]] = {
    "mT": ("transpose", (-2, -1)),
    "T": ("t", ()),
    "data": ("detach", ()),
}


def _name_attributes(graph_module: fx.GraphModule) -> None:
    """Let attributes that are tensors be the methods that compute them."""
    for node in graph_module.graph.nodes:
        if node.target is getattr and node.args[1] in _ATTRIBUTES:
            method, given = _ATTRIBUTES[node.args[1]]
            node.op, node.target, node.args = "call_method", method, (node.args[0], *given)


def _is_number(node: fx.Node) -> bool:
    if not _is_function(node):
        return False
    name = function_name(node)
    if name in _NUMBERS or (name == "getattr" and node.args[1] in _NUMBER_ATTRIBUTES):
        return True
    given = node.all_input_nodes
    by_numbers = name in dir(operator) or name in ("getitem", "getattr", "int", "float", "round")
    return by_numbers and bool(given) and all(one.meta.get("kind") == "number" for one in given)


def _fold_constants(graph_module: fx.GraphModule) -> None:
    """Compute once what depends on parameters alone, such as a weight that forward standardizes."""
    values: dict[fx.Node, Any] = {}
    trained: dict[fx.Node, bool] = {}
    interpreter = fx.Interpreter(graph_module)
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(graph_module)
            trained[node] = isinstance(values[node], nn.Parameter) and values[node].requires_grad
            continue
        given = node.all_input_nodes
        if not (node.op.startswith("call_") and given and all(one in values for one in given)):
            continue
        interpreter.env = values
        with torch.no_grad():
            values[node] = interpreter.run_node(node)
        trained[node] = any(trained[one] for one in given)
    for node in list(values):
        read = any(user not in values for user in node.users)
        if node.op == "get_attr" or not read or not isinstance(values[node], Tensor):
            continue
        name = _free_name(graph_module, _place(graph_module, node), f"folded_{node.name}")
        owner, _, own = name.rpartition(".")
        value = values[node].detach().clone()
        holder = graph_module.get_submodule(owner)
        if value.is_floating_point():
            holder.register_parameter(own, nn.Parameter(value, trained[node]))
        else:
            holder.register_buffer(own, value)
        with graph_module.graph.inserting_before(node):
            constant = graph_module.graph.get_attr(name)
        constant.meta = {**node.meta}
        node.replace_all_uses_with(constant)
    graph_module.graph.eliminate_dead_code(_has_effect)


def _separate(graph_module: fx.GraphModule) -> list[str]:
    """Give each call a module of its own, and each module its own parameters.

    A module that is called twice would have one grid for two places. Weights that are shared are
    copied; training then moves the copies apart, which the note says.
    """
    called: set[str] = set()
    shared = 0
    for node in graph_module.graph.find_nodes(op="call_module"):
        name = str(node.target)
        if name in called:
            again = copy.deepcopy(_module(graph_module, node))
            shared += any(True for _ in again.parameters())
            parent, _, child = name.rpartition(".")
            number = node.name.rpartition("_")[2]
            node.target = _free_name(graph_module, parent, f"module_{child}_{number}")
            graph_module.add_submodule(str(node.target), again)
        called.add(str(node.target))
    seen: set[int] = set()
    for module in graph_module.modules():
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) in seen:
                own = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                module._parameters[key] = own
                shared += 1
            seen.add(id(parameter))
    if not shared:
        return []
    return [f"{shared} layers that share weights with others have copies of their own"]


def _module_for(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """The modules that compute what a node does, or None to leave it."""
    if node.op == "call_module":
        silu = isinstance(_module(graph_module, node), nn.SiLU)
        return RULES["SiLU"](node, graph_module, original) if silu else None
    known = conversions().get(function_name(node))
    if not _is_function(node) or node.meta["kind"] == "number" or known is None:
        return None
    rule = RULES.get(known.name)
    return converted(node, known) if rule is None else rule(node, graph_module, original)


def _replace(graph_module: fx.GraphModule, node: fx.Node, made: Made) -> None:
    """Let modules take the place of a node, in the module whose forward it stands in."""
    results: dict[str, fx.Node] = {}
    before: fx.Node = node
    parent = _place(graph_module, node)
    for suffix, module, args, kwargs in made.steps:
        if suffix == "" and node.op == "call_module":
            name = str(node.target)
        else:
            wanted = f"module_{node.name}{'_' if suffix else ''}{suffix}"
            name = _free_name(graph_module, parent, wanted)
        given = tuple(results.get(a, a) if isinstance(a, str) else a for a in args)
        with graph_module.graph.inserting_after(before):
            if isinstance(module, nn.Module):
                graph_module.add_submodule(name, module)
                new = graph_module.graph.call_module(name, given, dict(kwargs))
            else:
                new = graph_module.graph.call_function(module, given, dict(kwargs))
        new.meta = {**node.meta, "kind": "tensor"}
        results[suffix] = before = new
    last = before
    node.replace_all_uses_with(last, delete_user_cb=lambda user: user not in results.values())
    graph_module.graph.erase_node(node)


def _place(graph_module: fx.GraphModule, node: fx.Node) -> str:
    """Path of the module whose forward a node stands in."""
    if node.op == "call_module":
        return str(node.target).rpartition(".")[0]
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    try:
        graph_module.get_submodule(path)
    except AttributeError:
        return ""
    return path


def _free_name(graph_module: fx.GraphModule, parent: str, wanted: str) -> str:
    owner, count, name = graph_module.get_submodule(parent), 1, wanted
    while hasattr(owner, name):
        count += 1
        name = f"{wanted}_{count}"
    return f"{parent}.{name}" if parent else name


def _drop_unread(graph_module: fx.GraphModule) -> None:
    """Delete parameters and buffers of modules that have only become their owners' names."""
    graph_module.delete_all_unused_submodules()
    used = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    called = {str(node.target) for node in graph_module.graph.nodes if node.op == "call_module"}
    own = [name for name, _ in graph_module.named_parameters()]
    own += [name for name, _ in graph_module.named_buffers()]
    for name in own:
        parent, _, child = name.rpartition(".")
        if name not in used and not any(parent == c or parent.startswith(f"{c}.") for c in called):
            delattr(graph_module.get_submodule(parent), child)


def _has_effect(node: fx.Node) -> bool:
    """Whether a node is needed though nothing reads it."""
    return bool(node.is_impure()) or is_change(node)


def _is_function(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method")


def _module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return graph_module.get_submodule(str(node.target))
