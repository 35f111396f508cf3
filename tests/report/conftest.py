"""Pages of synthetic runs, and a browser to open them with."""

import shutil

import pytest

from bitladder.report.contents import read_contents
from bitladder.report.page import render
from synthetic_run import FAILED, HOSTILE, error, psnr, write_run

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


def _page(folder):
    path = folder / "report.html"
    path.write_text(render(read_contents(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The folder of a run of 12 cells, one of which failed; its page is in it."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, failed=[FAILED])
    _page(folder)
    return folder


@pytest.fixture(scope="session")
def restoration_folder(tmp_path_factory):
    """The folder of a run whose quality is in dB, its page in it."""
    folder = tmp_path_factory.mktemp("restoration")
    write_run(folder, measured=psnr, datasets=["mnist"], task="restoration")
    _page(folder)
    return folder


@pytest.fixture(scope="session")
def error_folder(tmp_path_factory):
    """The folder of a run whose quality has no unit and of which less is better."""
    folder = tmp_path_factory.mktemp("error")
    write_run(folder, measured=error, datasets=["mnist"], task="restoration")
    _page(folder)
    return folder


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory):
    """The folder of a run whose names and errors are code, its page in it."""
    folder = tmp_path_factory.mktemp("hostile")
    failed = [(HOSTILE, HOSTILE, "w4a4", HOSTILE)]
    names = {"datasets": [HOSTILE], "models": [HOSTILE, "a/b"], "precisions": [8, 4]}
    write_run(folder, failed=failed, **names)
    _page(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=list(_QUIET))
        yield opened
        opened.close()
