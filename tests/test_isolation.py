"""Public calls leave a program's own state as it was, whether they return or raise."""

import json
import logging
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bitladder import isolation
from bitladder.isolation import hush, isolated, when_it_ends

REFUSED = {
    "quantize without images": "there are no images",
    "quantize with a bad label": "the label -3 is negative",
    "quantize by training on images that end": "the disk is gone",
    "finetune a wrong option": "unknown option 'speed'",
    "load what is none": "cannot read",
    "verify what is no model": "not an ONNX file",
    "run nothing": "no such study file",
}


@pytest.fixture(scope="module")
def called():
    if not Path("/proc/self/fd").exists():
        pytest.skip("file descriptors are counted in /proc")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "caller_state.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [here, *sys.path]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_no_public_call_changes_the_caller_s_state(called):
    assert len(called) == 25
    assert {name: found["changed"] for name, found in called.items() if found["changed"]} == {}


def test_that_holds_for_calls_that_raise(called):
    assert {name for name, found in called.items() if found["refused"]} == REFUSED.keys()
    for name, message in REFUSED.items():
        assert message in called[name]["refused"]


def test_the_outermost_call_restores_whoever_ends_first():
    """Two threads and a call within a call: the state is the caller's when the last one ends."""
    os.environ["BITLADDER_TEST"] = "mine"
    before = random.getstate()
    first, second = threading.Event(), threading.Event()

    @isolated()
    def other():
        first.set()
        second.wait()
        random.seed(1)

    thread = threading.Thread(target=other)
    with isolated():
        thread.start()
        first.wait()
        with isolated():
            os.environ["BITLADDER_TEST"] = "other"
            del os.environ["PATH"]
        assert os.environ["BITLADDER_TEST"] == "other"
        random.seed(2)
    assert "PATH" not in os.environ  # the other thread still computes
    second.set()
    thread.join()
    assert random.getstate() == before
    assert os.environ.pop("BITLADDER_TEST") == "mine"
    assert "PATH" in os.environ


def test_loggers_are_hushed_in_calls_alone(monkeypatch):
    monkeypatch.setattr(isolation, "_hushed", set())
    logger = logging.getLogger("of a library")
    logger.setLevel(logging.DEBUG)
    with isolated():
        hush("of a library")
        assert logger.level == logging.ERROR
    assert logger.level == logging.DEBUG
    with isolated():
        assert logger.level == logging.ERROR
    assert logger.level == logging.DEBUG


def test_what_is_opened_in_a_call_is_closed_when_it_ends():
    closed = []
    assert not when_it_ends(lambda: closed.append("outside"))
    with isolated():
        with isolated():
            assert when_it_ends(lambda: closed.append("inside"))
        assert not closed
    assert closed == ["inside"]


def test_a_torch_that_a_call_loads_begins_as_a_new_one():
    code = """
from bitladder.isolation import isolated
with isolated():
    import torch
    torch.manual_seed(3)
print(torch.rand(8).tolist())
"""
    torch = pytest.importorskip("torch")
    found = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)]
    seeded = torch.rand(8, generator=torch.Generator().manual_seed(3)).tolist()
    assert len({*found, f"{seeded}\n"}) == 3
