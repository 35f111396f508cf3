"""Make a traced network plain: every operation that computes a module, nothing that only checks.

AIMET's preparing knows functions by their names and leaves what it does not know as it is, without
a quantizer. What people write besides is brought here into the forms that techniques look for.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, fx, nn
from torch.nn import functional

from bitladder.simulation.aimet import aimet

_Made: TypeAlias = tuple[nn.Module, tuple[Any, ...]]
_Rule: TypeAlias = Callable[[fx.Node, fx.GraphModule], _Made | None]
_CUSTOM = "_base.nn.modules.custom"  # AIMET's modules for functions
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)
# Operations that hand values on, or tell sizes: none of them needs a quantizer of its own.
_MOVEMENT = {
    "chunk", "contiguous", "detach", "dim", "dropout", "expand", "expand_as", "flatten", "float",
    "getattr", "getitem", "movedim", "narrow", "permute", "repeat", "reshape", "reshape_as",
    "select", "size", "split", "squeeze", "stochastic_depth", "swapaxes", "t", "tensor_split", "to",
    "transpose", "unbind", "unflatten", "unsqueeze", "view",
}  # fmt: skip


def rewrite(graph_module: fx.GraphModule, original: nn.Module) -> None:
    """Rewrite a prepared network in place; its function is kept.

    Args:
        graph_module: as AIMET has prepared it.
        original: the network it was traced from.
    """
    changed = _drop_checks(graph_module)
    for node in list(graph_module.graph.nodes):
        made = _module_for(node, graph_module, original)
        if made is not None and not (_in_place(node) and _shares_memory(node)):
            _replace(graph_module, node, *made)
            changed = True
    if changed:
        graph_module.graph.eliminate_dead_code(_has_effect)
        _drop_unread(graph_module)
        graph_module.graph.lint()
        graph_module.recompile()


def unquantized(graph_module: fx.GraphModule) -> list[str]:
    """Names of the operations that compute and are no modules, so that they stay in float."""
    names = (_name(node) for node in graph_module.graph.nodes if _is_function(node))
    return sorted({name for name in names if name not in _MOVEMENT and name not in dir(operator)})


def _drop_checks(graph_module: fx.GraphModule) -> bool:
    """Take out assertions, arguments that keep their defaults, and modules that do nothing."""
    _, *others = graph_module.graph.find_nodes(op="placeholder")
    dropped = False
    for node in list(graph_module.graph.nodes):
        if _is_function(node) and _name(node) in ("_assert", "_assert_is_none"):
            graph_module.graph.erase_node(node)
        elif node.op == "call_module" and type(_module(graph_module, node)) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
        else:
            continue
        dropped = True
    if dropped:
        graph_module.graph.eliminate_dead_code(_has_effect)
    for node in others:
        if not node.users:
            graph_module.graph.erase_node(node)
            dropped = True
    return dropped


def _module_for(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> _Made | None:
    """The module that computes what a node does, and its arguments, or None to leave it."""
    if node.op == "call_module":
        module = _module(graph_module, node)
        if isinstance(module, nn.Softmax | nn.LogSoftmax) and len(node.args) == 2:
            dim: Any = node.args[1]
            return type(module)(dim), node.args[:1]
        if isinstance(module, aimet(_CUSTOM).BatchNorm):
            return _batch_norm(node, graph_module, original)
        return None
    return _BY_NAME[_name(node)](node, graph_module) if _name(node) in _BY_NAME else None


def _batch_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> _Made | None:
    """A batch norm for the function, where its statistics are those of a batch norm's subclass."""
    bound = _bind(functional.batch_norm, node)
    source = bound["running_mean"]
    if not _is_attribute(source):
        return None
    owner = original.get_submodule(source.target.rpartition(".")[0])
    kind = next((k for k in _BATCH_NORMS if isinstance(owner, k)), None)
    if kind is None:
        return None
    own = {
        name: _attribute(graph_module, bound[name])
        for name in ("running_mean", "running_var", "weight", "bias")
        if _is_attribute(bound[name])
    }
    norm = kind(len(own["running_mean"]), eps=bound["eps"], momentum=bound["momentum"],
                affine="weight" in own)  # fmt: skip
    for name, value in own.items():
        setattr(norm, name, value)
    return norm.eval(), (bound["input"],)


def _linear(node: fx.Node, graph_module: fx.GraphModule) -> _Made | None:
    given, bias = _argument(node, 1, "weight"), _argument(node, 2, "bias")
    if not _is_attribute(given) or not (bias is None or _is_attribute(bias)):
        return None
    weight = _attribute(graph_module, given)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach())
    if bias is not None:
        layer.bias = nn.Parameter(_attribute(graph_module, bias).detach())
    return layer, node.args[:1]


def _layer_norm(node: fx.Node, graph_module: fx.GraphModule) -> _Made | None:
    bound = _bind(functional.layer_norm, node)
    if not _is_attribute(bound["weight"]) or not _is_attribute(bound["bias"]):
        return None
    norm = nn.LayerNorm(bound["normalized_shape"], eps=bound["eps"])
    norm.weight = nn.Parameter(_attribute(graph_module, bound["weight"]).detach())
    norm.bias = nn.Parameter(_attribute(graph_module, bound["bias"]).detach())
    return norm, (bound["input"],)


def _rectified(node: fx.Node, graph_module: fx.GraphModule) -> _Made:
    return nn.ReLU(), node.args[:1]


def _clamped(node: fx.Node, graph_module: fx.GraphModule) -> _Made | None:
    low, high = _argument(node, 1, "min"), _argument(node, 2, "max")
    if low == 0 and high is None:
        return nn.ReLU(), node.args[:1]
    if low == 0 and high == 6:
        return nn.ReLU6(), node.args[:1]
    if isinstance(low, int | float) and isinstance(high, int | float):
        return nn.Hardtanh(low, high), node.args[:1]
    return None


def _concatenated(node: fx.Node, graph_module: fx.GraphModule) -> _Made | None:
    tensors, dim = node.args[0], _argument(node, 1, "dim", 0)
    if not isinstance(tensors, list | tuple):
        return None
    return aimet(_CUSTOM).Concat(dim), tuple(tensors)


def _calculated(module: str) -> _Rule:
    """AIMET's module for an operation of two values."""

    def make(node: fx.Node, graph_module: fx.GraphModule) -> _Made | None:
        if len(node.args) != 2 or node.kwargs:
            return None
        return getattr(aimet(_CUSTOM), module)(), node.args

    return make


_BY_NAME: dict[str, _Rule] = {
    "add_": _calculated("Add"),
    "clamp": _clamped,
    "clamp_": _clamped,
    "clip": _clamped,
    "concat": _concatenated,
    "concatenate": _concatenated,
    "div_": _calculated("Divide"),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "mul_": _calculated("Multiply"),
    "relu_": _rectified,
    "sub_": _calculated("Subtract"),
}


def _replace(
    graph_module: fx.GraphModule, node: fx.Node, module: nn.Module, arguments: tuple[Any, ...]
) -> None:
    """Let a module take the place of a node, under the node's own name if that is a module."""
    name = str(node.target) if node.op == "call_module" else f"module_{node.name}"
    graph_module.add_submodule(name, module)
    with graph_module.graph.inserting_after(node):
        new = graph_module.graph.call_module(name, arguments)
    node.replace_all_uses_with(new)
    if _in_place(node):
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        for reader in [reader for reader in changed.users if reader > new]:
            reader.replace_input_with(changed, new)
    graph_module.graph.erase_node(node)


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


def _in_place(node: fx.Node) -> bool:
    return _is_function(node) and _name(node).endswith("_") and isinstance(node.args[0], fx.Node)


def _shares_memory(node: fx.Node) -> bool:
    """Whether what a node changes in place may be seen under another name."""
    changed = node.args[0]
    assert isinstance(changed, fx.Node)
    views = [reader for reader in changed.users if _is_function(reader) and reader < node]
    return changed.op != "call_module" or bool(views)


def _has_effect(node: fx.Node) -> bool:
    """Whether a node is needed though nothing reads it."""
    return bool(node.is_impure()) or _in_place(node)


def _argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument that was given by its place or by its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _bind(function: Callable[..., Any], node: fx.Node) -> dict[str, Any]:
    """A node's arguments by the names that a function gives them, defaults included."""
    bound = inspect.signature(function).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _is_function(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method")


def _name(node: fx.Node) -> str:
    """What a function or method is called; of a module its path."""
    return str(getattr(node.target, "__name__", node.target))


def _module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return graph_module.get_submodule(str(node.target))


def _is_attribute(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _attribute(graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = operator.attrgetter(str(node.target))(graph_module)
    return value
