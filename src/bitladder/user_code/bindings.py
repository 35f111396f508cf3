"""Names in a file of Python code: what they stand for, and where they are set."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any


def writes(node: ast.Call, first: int = 1) -> bool:
    """Whether a call such as ``open`` only writes; its mode is the argument number ``first``."""
    modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    modes += node.args[first : first + 1]
    return any(
        isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x") for mode in modes
    )


def aliases(tree: ast.Module) -> dict[str, str]:
    """By name in the file, the whole name that it stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return found


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Names of the file's top that are set once, and what to."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.arg):  # a parameter of that name may hide it
            found.setdefault(node.arg, []).extend([ast.Constant(None)] * 2)
    stored = [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    top = set(bound(tree.body))
    return {
        name: values[0]
        for name, values in found.items()
        if name in top and len(values) == 1 and stored.count(name) == 1
    }


def bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Names that statements define, those below ``if``, ``try`` and ``with`` included."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets: list[Any] = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        else:
            for name in ("body", "orelse", "finalbody"):
                yield from bound(getattr(node, name, ()))
            for handler in getattr(node, "handlers", ()):
                yield from bound(handler.body)


def exported(tree: ast.Module) -> tuple[str, ...]:
    """The names in ``__all__``, where it is a plain list."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and names_in(*node.targets) == {"__all__"}:
            values = getattr(node.value, "elts", ())
            return tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    return ()


def names_in(*nodes: ast.AST | None) -> set[str]:
    """Every name and attribute in some expressions."""
    found: set[str] = set()
    for node in nodes:
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Name):
                found.add(part.id)
            elif isinstance(part, ast.Attribute):
                found.add(part.attr)
    return found
