"""Which third-party modules the code of a stage can reach, read from the package's own source.

Function by function in ``pipeline/stages``, file by file elsewhere: imports in functions count,
and a module that is named in a text counts as far as the text tells.
"""

import ast
import functools
import re
import sys
from pathlib import Path

import bitladder

PACKAGE = Path(bitladder.__file__).parent
STAGES = PACKAGE / "pipeline" / "stages"
_DYNAMIC = re.compile(r"[a-z_]\w*(\.\w+)*\.?")


def third_party(kind):
    """Top names of the third-party modules that a kind of stage can reach."""
    module, _, name = kind.function.partition(":")
    [file] = _files(module)
    own, rooms = _of_functions({(file, name), (STAGES / "perform.py", "perform")})
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


def _of_functions(waiting):
    """Modules and files that functions of stages use, through those of stages that they call."""
    seen = set()
    outside, inside = set(), set()
    while waiting:
        file, name = found = waiting.pop()
        seen.add(found)
        defined, bound = _of_stage_file(file)
        body = defined[name]
        names = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
        called = {(file, one) for one in names & defined.keys()}
        imports = [(node, alias) for node in _run_imports([body]) for alias in node.names]
        for node, alias in [*imports, *(bound[one] for one in names & bound.keys())]:
            other = _stage_file(node)
            if other is None:
                _add(_targets(node, alias), outside, inside)
            elif alias.name in _of_stage_file(other)[0]:  # the rest are constants
                called.add((other, alias.name))
        waiting |= called - seen
    return outside, inside


@functools.cache
def _of_stage_file(file):
    """What a file of stages defines, and the imports that bind its other names."""
    tree = ast.parse(file.read_text())
    defined = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    bound = {}
    for node in _run_imports(tree.body):
        for alias in node.names:
            bound[(alias.asname or alias.name).partition(".")[0]] = node, alias
    return defined, bound


def _stage_file(node):
    module = getattr(node, "module", None) or ""
    before = "bitladder.pipeline.stages."
    return STAGES / f"{module.removeprefix(before)}.py" if module.startswith(before) else None


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
    own = f"{node.module}.{alias.name}"
    if node.module.startswith("bitladder.") and _files(own):
        return [own]  # a file of a room, not the room
    return [own, node.module]


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
