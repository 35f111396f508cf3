"""What one file of Python code imports, reads and asks of the environment, without running it."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bitladder.user_code.bindings import aliases, bound, constants, exported, names_in, writes

_IMPORTS = {"importlib.import_module", "__import__", "importlib.__import__"}
_HIDING = {
    "eval": "runs code that is made at runtime",
    "exec": "runs code that is made at runtime",
    "importlib.util.spec_from_file_location": "loads a module by its file",
    "importlib.machinery.SourceFileLoader": "loads a module by its file",
    "runpy.run_path": "runs a file",
    "runpy.run_module": "runs a module",
    "pkgutil.iter_modules": "looks for modules at runtime",
    "pkgutil.walk_packages": "looks for modules at runtime",
    "torch.hub.load": "loads code from a hub",
}
_READING = {
    *("open", "io.open", "os.open", "codecs.open", "gzip.open", "torch.load", "torch.jit.load"),
    *("numpy.load", "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile", "numpy.memmap"),
    *("safetensors.torch.load_file", "safetensors.numpy.load_file", "safetensors.safe_open"),
    *("PIL.Image.open", "cv2.imread", "torchvision.io.read_image", "h5py.File"),
    *("pandas.read_csv", "pandas.read_json", "pandas.read_parquet", "pandas.read_pickle"),
    *("ctypes.CDLL", "ctypes.cdll.LoadLibrary", "torch.ops.load_library"),
    *("torch.classes.load_library", "scipy.io.loadmat", "onnx.load", "joblib.load"),
    *("torch.hub.load_state_dict_from_url", "urllib.request.urlopen", "requests.get"),
    *("torch.utils.cpp_extension.load", "importlib.resources.files", "pkgutil.get_data"),
    *("importlib.resources.read_text", "importlib.resources.read_binary"),
    *("subprocess.run", "subprocess.check_output", "subprocess.Popen", "os.system", "os.popen"),
}
_READING_METHODS = {"open", "read_text", "read_bytes", "iterdir", "glob", "rglob"}
_LISTING = {"os.listdir", "os.scandir", "os.walk", "glob.glob", "glob.iglob"}
_CATCHING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Import:
    """A module that a file imports, or may import.

    Attributes:
        name: the module's whole name.
        line: where.
        maybe: it may be a name in a module in place of a module.
        star: every public name of it is taken.
        guarded: the file goes on without it.
    """

    name: str
    line: int
    maybe: bool = False
    star: bool = False
    guarded: bool = False


@dataclass(frozen=True)
class Scan:
    """What was found in a file.

    Attributes:
        imports: modules it imports, at its top or anywhere in its functions.
        names: what it defines at its top.
        exported: the names in ``__all__``.
        files: files that it reads, by the names it gives.
        variables: environment variables that it asks for.
        hidden: line and text of what cannot be followed.
        unread: line and text of what it reads without saying what.
        searches: it changes the path that modules are found on.
    """

    imports: tuple[Import, ...] = ()
    names: frozenset[str] = frozenset()
    exported: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    hidden: tuple[tuple[int, str], ...] = ()
    unread: tuple[tuple[int, str], ...] = ()
    searches: bool = False


@functools.lru_cache(maxsize=1024)  # by the file's content
def scan(source: bytes, name: str, path: str, package: bool) -> Scan:
    """Read a module's source.

    Args:
        source: the content of its file.
        name: the module's whole name.
        path: its file.
        package: it is the ``__init__`` of a package.

    Raises:
        SyntaxError, ValueError: it is not Python.
    """
    tree = ast.parse(source)
    visitor = _Visitor(tree, name if package else name.rpartition(".")[0], name, path)
    visitor.visit(tree)
    return visitor.found()


@dataclass
class _Visitor(ast.NodeVisitor):
    tree: ast.Module
    package: str
    module: str
    path: str
    imports: list[Import] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    hidden: list[tuple[int, str]] = field(default_factory=list)
    unread: list[tuple[int, str]] = field(default_factory=list)
    searches: bool = False
    guards: int = 0

    def __post_init__(self) -> None:
        self.aliases = aliases(self.tree)
        self.constants = constants(self.tree)

    def found(self) -> Scan:
        """What was seen."""
        return Scan(
            imports=tuple(self.imports),
            names=frozenset(bound(self.tree.body)),
            exported=exported(self.tree),
            files=tuple(dict.fromkeys(self.files)),
            variables=tuple(dict.fromkeys(self.variables)),
            hidden=tuple(self.hidden),
            unread=tuple(self.unread),
            searches=self.searches,
        )

    def visit_Try(self, node: ast.Try) -> None:
        caught = [names_in(handler.type) for handler in node.handlers]
        with self._guarded(any(not names or names & _CATCHING for names in caught)):
            for part in node.body:
                self.visit(part)
        for after in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(after)

    def visit_If(self, node: ast.If) -> None:
        with self._guarded("TYPE_CHECKING" in names_in(node.test)):
            for part in node.body:
                self.visit(part)
        self.visit(node.test)
        for part in node.orelse:
            self.visit(part)

    def visit_With(self, node: ast.With) -> None:
        suppressed = any(
            isinstance(item.context_expr, ast.Call)
            and self._dotted(item.context_expr.func) in ("contextlib.suppress", "suppress")
            for item in node.items
        )
        with self._guarded(suppressed):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute("." * node.level + (node.module or ""), node)
        if base is None:
            return
        self._import(base, node, star=any(alias.name == "*" for alias in node.names))
        for alias in node.names:
            if alias.name != "*":
                self._import(f"{base}.{alias.name}", node, maybe=True)

    def visit_Call(self, node: ast.Call) -> None:
        name = self._dotted(node.func)
        if name in _IMPORTS:
            self._dynamic_import(node)
        elif name in _HIDING and not (name in ("eval", "exec") and self._is_text(node)):
            self.hidden.append((node.lineno, _HIDING[name]))
        elif name in ("os.getenv", "os.environ.get", "os.environ.setdefault"):
            self._variable(node.args[:1], node)
        elif name in _READING or name in _LISTING:
            if not writes(node):
                self._read(node.args[0] if node.args else None, node, whole=name in _LISTING)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _READING_METHODS:
            if not writes(node, first=0):
                listing = node.func.attr in ("iterdir", "glob", "rglob")
                self._read(node.func.value, node, whole=listing)
        elif name is not None and name.startswith("sys.path."):
            self.searches = True
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self._dotted(node.value) == "os.environ" and isinstance(node.ctx, ast.Load):
            self._variable([node.slice], node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.searches |= any(self._dotted(target) == "sys.path" for target in node.targets)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.searches |= self._dotted(node.target) == "sys.path"
        self.generic_visit(node)

    @contextmanager
    def _guarded(self, guards: bool) -> Iterator[None]:
        self.guards += guards
        yield
        self.guards -= guards

    def _import(self, name: str, node: ast.AST, *, maybe: bool = False, star: bool = False) -> None:
        line = getattr(node, "lineno", 0)
        self.imports.append(Import(name, line, maybe, star, guarded=self.guards > 0))

    def _absolute(self, name: str, node: ast.AST, package: str | None = None) -> str | None:
        level = len(name) - len(name.lstrip("."))
        if not level:
            return name
        parts = (self.package if package is None else package).split(".")
        if not parts[0] or level > len(parts):
            self.hidden.append((getattr(node, "lineno", 0), "imports from outside its package"))
            return None
        return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name.lstrip(".")])])

    def _dynamic_import(self, node: ast.Call) -> None:
        given: list[ast.expr | None] = list(node.args[:1])
        given += [keyword.value for keyword in node.keywords if keyword.arg == "name"]
        name = self._text(given[0]) if given else None
        anchors = [keyword.value for keyword in node.keywords if keyword.arg == "package"]
        anchor = node.args[1] if len(node.args) > 1 else next(iter(anchors), None)
        package = None if anchor is None else self._text(anchor)
        if isinstance(anchor, ast.Name) and anchor.id == "__name__":
            package = self.module  # of a package's __init__, its own name
        if name is None or (name.startswith(".") and not package and not self.package):
            self.hidden.append((node.lineno, "imports a module whose name is made at runtime"))
            return
        absolute = self._absolute(name, node, package if name.startswith(".") else None)
        if absolute is not None:
            self._import(absolute, node)

    def _variable(self, given: Sequence[ast.expr], node: ast.AST) -> None:
        name = self._text(given[0]) if given else None
        if name is None:
            self.unread.append((getattr(node, "lineno", 0), "reads an environment variable"))
        else:
            self.variables.append(name)

    def _read(self, given: ast.expr | None, node: ast.Call, *, whole: bool) -> None:
        name = None if given is None else self._text(given)
        if name is None or whole or "://" in name:
            what = "looks through a folder" if whole else "reads what is known at runtime alone"
            self.unread.append((node.lineno, what))
        else:
            self.files.append(name)

    def _is_text(self, node: ast.Call) -> bool:
        return bool(node.args) and self._text(node.args[0]) is not None

    def _dotted(self, node: ast.expr | None) -> str | None:
        """The whole name that an expression such as ``np.load`` stands for."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            before = self._dotted(node.value)
            return None if before is None else f"{before}.{node.attr}"
        return None

    def _text(self, node: ast.expr | None) -> str | None:
        """The text or the path that an expression stands for, where that can be seen."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            own = {"__file__": self.path, "__package__": self.package, "__name__": self.module}
            return own.get(node.id) or self._constant(node.id)
        if isinstance(node, ast.JoinedStr):
            parts = [
                self._text(part.value if isinstance(part, ast.FormattedValue) else part)
                for part in node.values
            ]
            return None if None in parts else "".join(filter(None, parts))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
            left, right = self._text(node.left), self._text(node.right)
            if left is None or right is None:
                return None
            return str(Path(left) / right) if isinstance(node.op, ast.Div) else left + right
        if isinstance(node, ast.Attribute) and node.attr == "parent":
            inner = self._text(node.value)
            return None if inner is None else str(Path(inner).parent)
        return self._called(node) if isinstance(node, ast.Call) else None

    def _constant(self, name: str) -> str | None:
        value = self.constants.pop(name, None)  # it may be made of itself
        found = self._text(value)
        if value is not None:
            self.constants[name] = value
        return found

    def _called(self, node: ast.Call) -> str | None:
        parts = [self._text(argument) for argument in node.args]
        name = self._dotted(node.func)
        given = [part for part in parts if part is not None]
        if name in ("pathlib.Path", "os.path.join") and given and len(given) == len(parts):
            return str(Path(*given))
        if name in ("str", "os.fspath", "os.path.abspath", "os.path.realpath") and given:
            return given[0]
        if name == "os.path.dirname" and given:
            return os.path.dirname(given[0])  # noqa: PTH120 - as the user's code has it
        if isinstance(node.func, ast.Attribute):
            inner = self._text(node.func.value)
            if inner is not None and node.func.attr in ("resolve", "absolute", "expanduser"):
                return inner
            if inner is not None and given and len(given) == len(parts):
                if node.func.attr == "joinpath":
                    return str(Path(inner, *given))
                if node.func.attr == "with_name":
                    return str(Path(inner).with_name(given[0]))
        return None
