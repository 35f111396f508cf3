"""Which third-party modules the code of a stage can reach, read from the package's own source.

Function by function in ``pipeline/stages.py``, file by file elsewhere: imports in functions count,
and a module that is named in a text counts as far as the text tells.
"""

import ast
import functools
import re
import sys
from pathlib import Path

import bitladder

PACKAGE = Path(bitladder.__file__).parent
STAGES = PACKAGE / "pipeline" / "stages.py"
_DYNAMIC = re.compile(r"[a-z_]\w*(\.\w+)*\.?")


def stage_functions():
    """By kind of stage, the name of its function."""
    [table] = [
        node.value
        for node in ast.parse(STAGES.read_text()).body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_STAGES"
    ]
    return {key.value: value.id for key, value in zip(table.keys, table.values, strict=True)}


def third_party(function):
    """Top names of the third-party modules that a function of ``stages.py`` can reach."""
    own, rooms = _of_function(function)
    seen = set()
    waiting = set(rooms)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        outside, inside = _of_file(path)
        own |= outside
        waiting |= inside - seen
    return own


def _of_function(function):
    """Modules and files that a function uses, through the functions of its file that it calls."""
    tree = ast.parse(STAGES.read_text())
    defined = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    bound = {}
    for node in _run_imports(tree.body):
        for alias in node.names:
            name = (alias.asname or alias.name).partition(".")[0]
            bound[name] = _targets(node, alias)
    waiting, seen = {function, "perform"}, set()
    outside, inside = set(), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        body = defined[name]
        names = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
        waiting |= (names & defined.keys()) - seen
        for node in _run_imports([body]):
            for alias in node.names:
                _add(_targets(node, alias), outside, inside)
        for used in names & bound.keys():
            _add(bound[used], outside, inside)
    return outside, inside


@functools.cache
def _of_file(path):
    outside, inside = set(), set()
    tree = ast.parse(path.read_text())
    for node in _run_imports(tree.body):
        for alias in node.names:
            _add(_targets(node, alias), outside, inside)
    for node in ast.walk(tree):  # importlib.import_module(f"aimet_torch.{module}")
        if isinstance(node, ast.Constant) and str(node.value).endswith(".py"):  # run as a script
            inside |= {path.with_name(str(node.value))} & {*path.parent.glob("*.py")}
        if isinstance(node, ast.Call) and _called(node) == "import_module":
            first = node.args[0]
            text = first.values[0] if isinstance(first, ast.JoinedStr) else first
            value = getattr(text, "value", None)
            if isinstance(value, str) and _DYNAMIC.fullmatch(value):
                _add([value.rstrip(".")], outside, inside)
    if path.name == "__init__.py":  # rooms load their own files by name
        inside |= set(path.parent.glob("*.py"))
    return outside, inside


def _called(node):
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _run_imports(body):
    """Import statements, those for the type checker alone left out."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        else:
            yield from _run_imports(ast.iter_child_nodes(statement))


def _targets(node, alias):
    if isinstance(node, ast.Import):
        return [alias.name]
    return [f"{node.module}.{alias.name}", node.module]


def _add(names, outside, inside):
    for name in names:
        top = name.partition(".")[0]
        if top == "bitladder":
            inside |= _files(name)
        elif top not in sys.stdlib_module_names and top != "__future__":
            outside.add(top)


def _files(name):
    """The files of one of our modules that importing it runs; the package's own loads nothing."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    found = {place.with_suffix(".py"), place / "__init__.py"} - {PACKAGE / "__init__.py"}
    return {path for path in found if path.is_file()}
