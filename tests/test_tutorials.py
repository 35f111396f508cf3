"""The tutorials, run as they stand: their files are written, their commands and Python executed."""

import contextlib
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitladder import cli

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
PAGES = sorted(page.stem for page in TUTORIALS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")
SERVICE_PORT = "8786"
IN_PROCESS = ("run", "find")  # commands that start workers otherwise, which load torch for seconds


def _blocks(page):
    return BLOCK.findall((TUTORIALS / f"{page}.md").read_text())


def _written(page):
    """Writes the files that a page shows; returns its other blocks."""
    others = []
    for language, text in _blocks(page):
        named = FILE.match(text)
        if named:
            Path(named.group(1)).write_text(text)
        else:
            others.append((language, text))
    return others


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder of the first tutorial, with its pictures and its network."""
    folder = tmp_path_factory.mktemp("tutorials")
    with contextlib.chdir(folder):
        _written("pictures")
        runpy.run_path("make_pictures.py")
    return folder


@pytest.fixture
def here(pictures, tmp_path, monkeypatch):
    """A folder of a tutorial's own, in which it runs."""
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    for file in (ROOT / "examples" / "detection").glob("*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("nets", "scenes"):
        sys.modules.pop(name, None)


def test_every_tutorial_is_in_the_navigation():
    listed = re.findall(r"tutorials/([\w-]+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_tutorial_runs_as_it_stands(page, here, monkeypatch, capfd):
    names, services, port = {"__name__": "tutorial"}, [], _free_port()
    try:
        for language, text in _written(page):
            text = text.replace(SERVICE_PORT, port)
            if language == "python":
                exec(compile(text, f"{page}.md", "exec"), names)
            elif language == "sh":
                for line in text.splitlines():
                    _run(line, services, monkeypatch)
            else:
                pytest.fail(f"{page}.md: a {language} block without a file name is never run")
    finally:
        for process in services:
            process.kill()
            process.wait(60)
    assert "Traceback" not in "".join(capfd.readouterr())


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def _run(line, services, monkeypatch):
    """A line of a shell: bitladder in this process, a script in it too, a service beside it."""
    program, *words = shlex.split(line, comments=True)
    if words and words[-1] == "&":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", program, *words[:-1]]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        services.append(subprocess.Popen(command, env=environment, **quiet))
        if words[0] == "scheduler":
            _answers(int(words[words.index("--port") + 1]), services[-1])
    elif program == "python":
        runpy.run_path(words[0], run_name="__main__")
    else:
        assert program == "bitladder", line
        if words[0] in IN_PROCESS and "--scheduler" not in words:
            words.append("--in-process")
        monkeypatch.setattr(sys, "argv", ["bitladder", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, line


def _answers(port, process, seconds=60):
    """Waits until a service listens."""
    for _ in range(seconds * 20):
        assert process.poll() is None
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing listens on {port}")
