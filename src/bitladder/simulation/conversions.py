"""The modules that stand for functions: by the operator table, or by rules of their own."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bitladder.operators import Operator
from bitladder.simulation.aimet import function_modules

_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)
_Step: TypeAlias = tuple[str, Any, tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class Made:
    """What takes the place of a node.

    Attributes:
        steps: (suffix, module or function, arguments, keywords) in order; the last one gives the
            result. A string among the arguments is an earlier step, by its suffix.
    """

    steps: list[_Step]


_Rule: TypeAlias = Callable[[fx.Node, fx.GraphModule, nn.Module], Made | None]


def converted(node: fx.Node, known: Operator) -> Made | None:
    """The module of an operator, with what the function was given.

    A function of AIMET's table keeps its arguments; one of PyTorch's gives them to the module.
    """
    package, _, name = known.modules[0].partition(".")
    if package == "aimet":
        return Made(
            [("", getattr(function_modules(), name)(), tuple(node.args), dict(node.kwargs))]
        )
    kind = getattr(nn, name)
    function = getattr(functional, str(getattr(node.target, "__name__", node.target)).rstrip("_"),
                       None)  # fmt: skip
    if function is None:
        function = node.target if callable(node.target) else getattr(torch, str(node.target), None)
    settings = _settings(node, function, kind)
    if settings is None:
        return None
    return Made([("", kind(**settings), node.args[:1] or (node.kwargs["input"],), {})])


def _settings(node: fx.Node, function: Any, kind: type[nn.Module]) -> dict[str, Any] | None:
    """A function's arguments after the tensor, as those of the module's constructor."""
    wanted = inspect.signature(kind).parameters
    try:
        given = dict(inspect.signature(function).bind(*node.args, **node.kwargs).arguments)
        given.pop("input", None)
    except (TypeError, ValueError):  # a builtin without a signature
        given = dict(node.kwargs)
        rest = [name for name in wanted if name != "inplace"]
        given |= dict(zip(rest, node.args[1:], strict=False))
    given = {name: value for name, value in given.items() if name in wanted and name != "inplace"}
    if any(isinstance(value, fx.Node) for value in given.values()):
        return None
    return given


def _clamped(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    name = str(getattr(node.target, "__name__", node.target))
    low, high = argument(node, 1, "min"), argument(node, 2, "max")
    if name == "clamp_max":
        low, high = None, argument(node, 1, "max")
    if not all(end is None or isinstance(end, int | float) for end in (low, high)):
        return None
    module: nn.Module
    if low == 0 and high is None:
        module = nn.ReLU()
    elif low == 0 and high == 6:
        module = nn.ReLU6()
    else:
        ends = (-float("inf") if low is None else low, float("inf") if high is None else high)
        if not ends[0] < ends[1]:
            return None
        module = nn.Hardtanh(*ends)
    return Made([("", module, node.args[:1], {})])


def _linear(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    if not _is_attribute(given) or not (bias is None or _is_attribute(bias)):
        return None
    weight = _attribute(graph_module, given)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    _take(layer, graph_module, {"weight": given, "bias": bias})
    return Made([("", layer, node.args[:1], {})])


def _convolved(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    name = str(getattr(node.target, "__name__", node.target))
    given, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    if not _is_attribute(given) or not (bias is None or _is_attribute(bias)):
        return None
    weight = _attribute(graph_module, given)
    transposed = name.startswith("conv_transpose")
    order = ("stride", "padding", "output_padding", "groups", "dilation") if transposed else (
        "stride", "padding", "dilation", "groups")  # fmt: skip
    settings = {key: argument(node, 3 + place, key) for place, key in enumerate(order)}
    settings = {key: value for key, value in settings.items() if value is not None}
    groups = settings.get("groups", 1)
    kind = getattr(nn, f"ConvTranspose{name[-2:]}" if transposed else f"Conv{name[-2:]}")
    first, second = weight.shape[:2]
    channels = (first, second * groups) if transposed else (second * groups, first)
    layer = kind(*channels, tuple(weight.shape[2:]), bias=bias is not None, **settings)
    _take(layer, graph_module, {"weight": given, "bias": bias})
    return Made([("", layer, node.args[:1] or (node.kwargs["input"],), {})])


def _take(layer: nn.Module, graph_module: fx.GraphModule, given: Mapping[str, Any]) -> None:
    """Give a module parameters that stood in the graph, as trainable as they were."""
    for name, node in given.items():
        if node is None:
            continue
        value = _attribute(graph_module, node)
        trained = value.requires_grad if isinstance(value, nn.Parameter) else False
        setattr(layer, name, nn.Parameter(value.detach().clone(), trained))


def _batch_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """A batch norm for the function, of as many dimensions as its owner has."""
    bound = _bind(functional.batch_norm, node)
    source = bound["running_mean"]
    if not _is_attribute(source):
        return None
    owner = original.get_submodule(source.target.rpartition(".")[0])
    kind = next((k for k in _BATCH_NORMS if isinstance(owner, k)), nn.BatchNorm2d)
    own = {
        name: _attribute(graph_module, bound[name])
        for name in ("running_mean", "running_var", "weight", "bias")
        if _is_attribute(bound[name])
    }
    norm = kind(len(own["running_mean"]), eps=bound["eps"], momentum=bound["momentum"],
                affine="weight" in own)  # fmt: skip
    for name, value in own.items():
        setattr(norm, name, value)
    return Made([("", norm.eval(), (bound["input"],), {})])


def _layer_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    bound = _bind(functional.layer_norm, node)
    given = {name: bound[name] for name in ("weight", "bias")}
    if not all(value is None or _is_attribute(value) for value in given.values()):
        return None
    norm = nn.LayerNorm(
        bound["normalized_shape"],
        eps=bound["eps"],
        elementwise_affine=given["weight"] is not None,
        bias=given["bias"] is not None,
    )
    _take(norm, graph_module, given)
    return Made([("", norm, (bound["input"],), {})])


def _group_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    bound = _bind(functional.group_norm, node)
    given = {name: bound[name] for name in ("weight", "bias")}
    if not all(_is_attribute(value) for value in given.values()):
        return Made([("", function_modules().GroupNorm(), tuple(node.args), dict(node.kwargs))])
    channels = len(_attribute(graph_module, given["weight"]))
    norm = nn.GroupNorm(bound["num_groups"], channels, eps=bound["eps"])
    _take(norm, graph_module, given)
    return Made([("", norm, (bound["input"],), {})])


def _learned_slope(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given = argument(node, 1, "weight")
    if not _is_attribute(given):
        return None
    slope = nn.PReLU(_attribute(graph_module, given).numel())
    _take(slope, graph_module, {"weight": given})
    return Made([("", slope, node.args[:1], {})])


def _concatenated(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    tensors = argument(node, 0, "tensors")
    axis = argument(node, 1, "dim", node.kwargs.get("axis", 0))
    if not isinstance(tensors, list | tuple):
        return None
    return Made([("", function_modules().Concat(axis), tuple(tensors), {})])


def _stacked(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """Each with a dimension of one, then put together."""
    tensors, axis = argument(node, 0, "tensors"), argument(node, 1, "dim", 0)
    if not isinstance(tensors, list | tuple):
        return None
    steps: list[_Step] = [
        (f"part{place}", torch.unsqueeze, (tensor, axis), {})
        for place, tensor in enumerate(tensors)
    ]
    parts = tuple(f"part{place}" for place in range(len(tensors)))
    return Made([*steps, ("", function_modules().Concat(axis), parts, {})])


def _weighted(name: str) -> _Rule:
    """A sum or difference whose second part may have a factor."""

    def make(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
        first, second = argument(node, 0, "input"), argument(node, 1, "other")
        factor = argument(node, 2, "alpha", 1)
        if factor == 1:
            return Made([("", getattr(function_modules(), name)(), (first, second), {})])
        if not isinstance(second, fx.Node):
            return Made([("", getattr(function_modules(), name)(), (first, second * factor), {})])
        return Made(
            [
                ("factor", function_modules().Multiply(), (second, factor), {}),
                ("", getattr(function_modules(), name)(), (first, "factor"), {}),
            ]
        )

    return make


def _turned(name: str) -> _Rule:
    """An operation whose operands stand the other way round."""

    def make(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
        first, second = argument(node, 0, "input"), argument(node, 1, "other")
        if argument(node, 2, "alpha", 1) != 1:
            return None
        return Made([("", getattr(function_modules(), name)(), (second, first), {})])

    return make


def _divided(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    mode = node.kwargs.get("rounding_mode")
    operands = (argument(node, 0, "input"), argument(node, 1, "other"))
    if mode is None:
        return Made([("", function_modules().Divide(), operands, {})])
    return Made([("", function_modules().FloorDivide(), operands, {})]) if mode == "floor" else None


def _power(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    operands = (argument(node, 0, "input"), argument(node, 1, "exponent"))
    return Made([("", function_modules().Pow(), operands, {})])


def _extreme(pairwise: str) -> _Rule:
    """The larger or smaller of two tensors; over a dimension the function stays."""

    def make(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
        other = argument(node, 1, "other")
        if not isinstance(other, fx.Node) or other.meta.get("kind") == "number":
            return None
        return Made([("", getattr(function_modules(), pairwise)(), (node.args[0], other), {})])

    return make


SPECIAL: dict[str, _Rule] = {
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_max"), _clamped),
    **dict.fromkeys(("add", "iadd", "add_", "radd"), _weighted("Add")),
    **dict.fromkeys(("sub", "subtract", "isub", "sub_"), _weighted("Subtract")),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenated),
    **dict.fromkeys(("div", "divide", "true_divide", "truediv", "itruediv", "div_"), _divided),
    **dict.fromkeys(("pow", "pow_", "ipow"), _power),
    **{f"conv{kind}{n}d": _convolved for kind in ("", "_transpose") for n in (1, 2, 3)},
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "max": _extreme("Maximum"),
    "min": _extreme("Minimum"),
    "prelu": _learned_slope,
    "rsub": _turned("Subtract"),
    "stack": _stacked,
}


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument that was given by its place or by its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _bind(function: Callable[..., Any], node: fx.Node) -> dict[str, Any]:
    """A node's arguments by the names that a function gives them, defaults included."""
    bound = inspect.signature(function).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _is_attribute(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _attribute(graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = operator.attrgetter(str(node.target))(graph_module)
    return value
