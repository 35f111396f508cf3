"""What a function consists of is seen in full, and it is loaded as its files are now."""

import os
import subprocess
import sys

import pytest

from bitladder.user_code import differs, import_function, one_line, read_source

NET = "def net(num_classes):\n    return {}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files of a folder that becomes the current one."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def put(**files):
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            if name.endswith("__init"):
                path = tmp_path / (name.removesuffix("__init").replace("__", "/")) / "__init__.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


IMPORTS = {
    "plain": ("import part", {"part": "A = {}"}),
    "from": ("from part import A", {"part": "A = {}"}),
    "star": ("from part import *", {"part": "A = {}"}),
    "lazy": ("def other():\n    import part", {"part": "A = {}"}),
    "in a class": ("class C:\n    import part", {"part": "A = {}"}),
    "guarded": ("try:\n    import part\nexcept ImportError:\n    part = None", {"part": "A = {}"}),
    "transitive": ("import middle", {"middle": "import part", "part": "A = {}"}),
    "a cycle": ("import part", {"part": "import nets\nA = {}"}),
    "package": ("import pkg.part", {"pkg__init": "", "pkg__part": "A = {}"}),
    "package's init": ("import pkg.part", {"pkg__init": "A = {}", "pkg__part": ""}),
    "namespace": ("from pkg import part", {"pkg__part": "A = {}"}),
    "relative": (
        "import pkg.top",
        {"pkg__init": "", "pkg__top": "from .part import A", "pkg__part": "A = {}"},
    ),
    "relative module": (
        "import pkg.top",
        {"pkg__init": "", "pkg__top": "from . import part", "pkg__part": "A = {}"},
    ),
    "relative up": (
        "import pkg.sub.top",
        {"pkg__init": "", "pkg__sub__top": "from ..part import A", "pkg__part": "A = {}"},
    ),
    "all": (
        "from pkg import *",
        {"pkg__init": "__all__ = ['part']", "pkg__part": "A = {}"},
    ),
    "importlib": ("import importlib\nimportlib.import_module('part')", {"part": "A = {}"}),
    "importlib as": (
        "from importlib import import_module as load\nNAME = 'part'\nload(NAME)",
        {"part": "A = {}"},
    ),
    "importlib relative": (
        "import pkg.top",
        {
            "pkg__init": "",
            "pkg__top": "import importlib\nimportlib.import_module('.part', __package__)",
            "pkg__part": "A = {}",
        },
    ),
    "dunder import": ("__import__('part')", {"part": "A = {}"}),
}


@pytest.mark.parametrize("form", IMPORTS)
def test_a_change_of_what_is_imported_is_seen(write, form):
    text, files = IMPORTS[form]

    def digest(value):
        write(**{name: content.format(value) for name, content in files.items()})
        source = read_source("nets:net")
        assert source.unseen == ()
        return source.digest

    write(nets=f"{text}\n{NET.format(1)}")
    first = digest(1)
    assert digest(1) == first != digest(2)
    write(nets=f"{text}\n{NET.format(2)}")
    assert digest(1) not in (first, digest(2))


def test_the_folder_is_no_part_of_it_and_nothing_is_imported(write, tmp_path, monkeypatch):
    write(nets="import part\nraise SystemExit\n" + NET.format(1), part="")
    here = read_source("nets:net")
    other = tmp_path / "other"
    other.mkdir()
    for path in tmp_path.glob("*.py"):
        (other / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(other)
    assert read_source("nets:net").digest == here.digest
    assert not {"nets", "part"} & sys.modules.keys()


def test_what_else_a_function_depends_on_is_in_it(write, tmp_path, monkeypatch):
    write(
        nets="import json, os, torch\nfrom pathlib import Path\n"
        "HERE = Path(__file__).parent\nWIDTH = os.environ.get('WIDTH', 8)\n"
        "A, B = open('a.json'), (HERE / 'b.json').read_text()\n" + NET.format(1)
    )
    digests = [read_source("nets:net").digest]
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
        digests.append(read_source("nets:net").digest)
        (tmp_path / name).write_text("[]")
        digests.append(read_source("nets:net").digest)
    monkeypatch.setenv("WIDTH", "16")
    source = read_source("nets:net")
    digests.append(source.digest)
    assert len(set(digests)) == len(digests)
    assert source.unseen == ()
    assert source.others["package torch"].startswith("2.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import importlib, sys\nimportlib.import_module(sys.argv[0])", "made at runtime"),
        ("exec(input())", "made at runtime"),
        ("A = " + "+".join("a" * 5000), "nested too deeply"),
        ("import no_such_module_anywhere", "no module 'no_such_module_anywhere'"),
        (
            "import sys\nsys.path.append('x')\ntry:\n    import elsewhere\n"
            "except ImportError:\n    elsewhere = None",
            "no module 'elsewhere'",
        ),
        ("def state(path):\n    return open(path)", "known at runtime alone"),
        ("import torch\ntorch.load('{}'.format(1))", "known at runtime alone"),
        ("import os\ndef width(name):\n    return os.environ[name]", "environment variable"),
        ("import importlib.util as u\nu.spec_from_file_location('a', 'b')", "by its file"),
    ],
)
def test_what_cannot_be_seen_is_said(write, text, said):
    write(nets=f"{text}\n{NET.format(1)}")
    assert said in read_source("nets:net").unseen[0]


def test_a_function_that_no_text_defines_is_said(write, monkeypatch):
    write(nets="globals()['net'] = int")
    assert read_source("nets:net").unseen == ("nets: 'net' is made at runtime",)
    monkeypatch.setitem(sys.modules, "made_here", type(sys)("made_here"))
    assert read_source("made_here:net").unseen[0] == "made_here: it is made at runtime"


def test_the_bytes_of_a_compiled_module_count_and_it_is_said(write, tmp_path):
    from importlib.machinery import EXTENSION_SUFFIXES

    write(nets="import fast\n" + NET.format(1))
    digests = set()
    for content in (b"1", b"2"):
        (tmp_path / f"fast{EXTENSION_SUFFIXES[0]}").write_bytes(content)
        source = read_source("nets:net")
        digests.add(source.digest)
        assert "it is compiled" in source.unseen[0]
    assert len(digests) == 2


def test_a_function_of_an_installed_package_has_its_version_and_files():
    source = read_source("torchvision.models:resnet18")
    assert set(source.others) == {"package torchvision", "files of torchvision.models"}
    assert (source.modules, source.unseen) == ({}, ())


@pytest.mark.parametrize("name", ["third:net", "wide.sub.part:net", "wide.sub:net"])
def test_an_edited_file_of_an_installed_package_is_seen(tmp_path, monkeypatch, name):
    library = tmp_path / "site-packages"
    (library / "wide" / "sub").mkdir(parents=True)
    paths = [library / f"{part}.py" for part in ("third", "wide/__init__", "wide/sub/__init__")]
    paths.append(library / "wide" / "sub" / "part.py")
    for path in paths:
        path.write_text(NET.format(1))
    monkeypatch.syspath_prepend(library)
    before = read_source(name).digest
    assert read_source(name).digest == before
    for path in paths:
        path.write_text(NET.format(2))
    assert read_source(name).digest != before
    # A process that has loaded the older one says so, and has a digest of its own.
    module = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, module, type(sys)(module))
    changed = read_source(name).digest
    for path in paths:
        path.write_text(NET.format(3))
    found = read_source(name)
    assert "is loaded: start it again" in found.others[f"files of {module}"]
    assert found.digest not in (before, changed)


def test_an_installed_package_counts_by_its_version(write, tmp_path, monkeypatch):
    library = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(library)
    write(nets="import third\n" + NET.format(1))
    found = []
    for number in ("1", "2"):
        for info in library.glob("*.dist-info"):
            info.rename(library / "third_party-2.dist-info")
        info = library / f"third_party-{number}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (library / "third.py").write_text("")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: third-party\nVersion: {number}\n"
        )
        (info / "RECORD").write_text("third.py,sha256=x,0\n")
        found.append(read_source("nets:net").others["package third"])
    assert found == ["third_party 1", "third_party 2"]


def _same_stamp(path, text):
    """Write a file whose size and time stay as they were, as an editor within a second does."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("edited", ["nets", "part"])
def test_edited_code_is_loaded_afresh_whatever_its_time_says(write, tmp_path, edited):
    write(nets="from part import A\ndef net():\n    return A + 10\n", part="A = 1\n")
    assert import_function("nets:net")() == 11
    function = import_function("nets:net")
    assert function is import_function("nets:net")  # nothing has changed, so it is kept
    path = tmp_path / f"{edited}.py"
    _same_stamp(path, path.read_text().replace("10", "20").replace("A = 1", "A = 2"))
    assert import_function("nets:net")() == (21 if edited == "nets" else 12)


def test_bytecode_of_older_code_is_not_run(write, tmp_path):
    write(nets="def net():\n    return 1\n")
    command = [sys.executable, "-c", "import nets"]  # it writes __pycache__
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    assert list((tmp_path / "__pycache__").glob("nets*"))
    _same_stamp(tmp_path / "nets.py", "def net():\n    return 2\n")
    assert import_function("nets:net")() == 2


def test_two_functions_that_share_a_module_both_see_its_change(write):
    write(part="A = 1", one="import part\ndef f():\n    return part.A")
    write(two="from part import A\ndef f():\n    return A")
    assert (import_function("one:f")(), import_function("two:f")()) == (1, 1)
    write(part="A = 2")
    assert (import_function("one:f")(), import_function("two:f")()) == (2, 2)


def test_a_module_that_was_imported_by_someone_else_is_loaded_as_its_file_is(write):
    write(nets="def net():\n    return 1\n")
    sys.path.insert(0, ".")
    import nets  # type: ignore[import-not-found]

    sys.path.remove(".")
    write(nets="def net():\n    return 22\n")
    assert nets.net() == 1
    assert import_function("nets:net")() == 22


def test_a_module_whose_name_is_made_at_runtime_is_loaded_afresh(write):
    write(
        nets="import importlib\ndef net(name='par'):\n"
        "    return importlib.import_module(name + 't').A\n",
        part="A = 1",
    )
    assert import_function("nets:net")() == 1
    write(part="A = 2")
    assert import_function("nets:net")() == 2


def test_only_modules_of_the_function_s_own_folder_are_loaded_again(write, tmp_path, monkeypatch):
    other = tmp_path / "clone"
    other.mkdir()
    (other / "clone_of_another.py").write_text("")
    (tmp_path / "torch.py").write_text("a clone")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other)])
    write(nets="import torch\ndef net():\n    return 1\n", part="")
    import_function("nets:net")
    import clone_of_another  # type: ignore[import-not-found]
    import part  # type: ignore[import-not-found]
    import torch

    write(nets="def net():\n    return 2\n")
    assert import_function("nets:net")() == 2
    assert sys.modules["clone_of_another"] is clone_of_another
    assert sys.modules["torch"] is torch
    assert sys.modules.get("part") is not part  # it may be one that nets has asked for
    assert "torch" not in read_source("nets:net").modules


def test_the_current_folder_is_the_one_that_is_searched(write, tmp_path, monkeypatch):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(f"def net():\n    return {value}\n")
        monkeypatch.chdir(tmp_path / folder)
        assert import_function("nets:net")() == value
    assert str(tmp_path / "a") not in sys.path


def test_what_is_loaded_is_held_against_what_was_read(write):
    write(nets=NET.format(1))
    before = read_source("nets:net")
    import_function("nets:net")
    assert differs(before) is None
    write(nets=NET.format(2))
    import_function("nets:net")
    assert differs(before) == "nets"


def test_an_error_is_one_line():
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(KeyError()) == "KeyError"
