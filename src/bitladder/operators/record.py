"""What is known of an operator: one record, read by tracing, placement, writers and documents.

A record is found by the module class or the function that stands in the traced graph. The rooms
that simulate, write files and check them ask the record and know no operators themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import fx, nn

from bitladder.aimet_names import PACKAGE
from bitladder.operators.writing import Call, Writer

Emit = Callable[[Writer, Call], str | list[str]]
"""Writes a call and returns the names of what it makes, before the output's grid."""


class Grid(Enum):
    """The integer grid that an operator's output lies on."""

    OWN = "its own"
    INPUT = "its input's: values only move"
    NONE = "none: it is no quantity that is rounded, such as a comparison"
    FLOAT = "none: it runs in float, and its inputs are rounded by those who made them"


@dataclass(frozen=True)
class Operator:
    """One operator of a traced network.

    Attributes:
        name: what documents call it.
        family: the file that it stands in.
        emit: writes it as ONNX nodes, or None where no file can hold it.
        modules: names of the module classes that stand for it: ``nn.Conv2d`` of torch, or
            ``aimet.Add`` of AIMET's modules for functions.
        functions: names of torch functions and tensor methods that stay functions in the graph.
        becomes: names of functions and methods that become this operator's first module; with
            the same arguments, or by the rule that ``simulation.conversions`` has for its name.
        grid: where its output lies.
        bounds: smallest and largest value of an operator that only clamps, from its module; such
            an operator is computed with what stands before it and rounded once.
        within: its output stays between the least and the largest of what it reads, as that of a
            concatenation or an average, so that one grid can hold both.
        weights: its parameters that are quantized; all others stay float.
        why: what keeps it in float, or from files.
        depends: overrides ``grid`` by module and arguments, such as for the mode of a resize.
    """

    name: str
    family: str
    emit: Emit | None
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    becomes: tuple[str, ...] = ()
    grid: Grid = Grid.OWN
    bounds: Callable[[nn.Module], tuple[float, float] | None] | None = None
    within: bool = False
    weights: tuple[str, ...] = ()
    why: str = ""
    depends: Callable[[nn.Module | None, fx.Node], Grid] | None = field(default=None)


_BY_MODULE: dict[str, Operator] = {}
_BY_FUNCTION: dict[str, Operator] = {}
_BECOMES: dict[str, Operator] = {}


def register(*operators: Operator) -> None:
    """Add operators to the table; a name that is there already is an error of ours."""
    for operator in operators:
        for names, place in (
            (operator.modules, _BY_MODULE),
            (operator.functions, _BY_FUNCTION),
            (operator.becomes, _BECOMES),
        ):
            for name in names:
                assert name not in place, f"{name} stands in the table twice"
                place[name] = operator


def operators() -> list[Operator]:
    """Every operator, by family and name."""
    found = {id(o): o for table in (_BY_MODULE, _BY_FUNCTION) for o in table.values()}
    return sorted(found.values(), key=lambda operator: (operator.family, operator.name))


def conversions() -> Mapping[str, Operator]:
    """Operators by the functions and methods that become modules of theirs."""
    return _BECOMES


def of_module(module: nn.Module) -> Operator | None:
    """The record of a module, quantized or not, by its nearest known class."""
    for kind in type(module).__mro__:
        operator = _BY_MODULE.get(_module_name(kind))
        if operator is not None:
            return operator
    return None


def of_node(node: fx.Node, module: nn.Module | None) -> Operator | None:
    """The record of a node of a traced graph.

    Args:
        node: a call of a module, a function or a method.
        module: what it calls, if that is a module.
    """
    if node.op == "call_module":
        return None if module is None else of_module(module)
    return _BY_FUNCTION.get(function_name(node))


def grid_of(node: fx.Node, module: nn.Module | None) -> Grid:
    """Where the output of a node lies; an operation that nobody knows runs in float."""
    operator = of_node(node, module)
    if operator is None:
        return Grid.FLOAT
    return operator.grid if operator.depends is None else operator.depends(module, node)


def function_name(node: fx.Node) -> str:
    """What a function or method is called."""
    return str(getattr(node.target, "__name__", node.target))


def _module_name(kind: type[Any]) -> str:
    if kind.__module__.startswith("torch.nn."):
        return f"nn.{kind.__name__}"
    if kind.__module__.startswith("torchvision."):
        return f"torchvision.{kind.__name__}"
    if kind.__module__.startswith(f"{PACKAGE}."):
        return f"aimet.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"
