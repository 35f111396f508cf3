"""Ctrl-C ends the program even in a call that does not come back to Python."""

import signal
import subprocess
import sys

import pytest

CODE = """
import contextlib, hashlib
from bitladder import interruption
interruption.watch()
while True:
    with contextlib.suppress(KeyboardInterrupt):  # where the signal comes before the call
        print("computing", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 2**31 - 1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_long_call_into_a_library_is_ended(number):
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "computing\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted; the same command goes on where this one stopped\n"
