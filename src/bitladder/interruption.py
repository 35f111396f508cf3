"""Ctrl-C ends the program soon, whatever it is computing, and says how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

INTERRUPTED = 130
_PATIENCE = 1.5  # seconds
_MESSAGE = "interrupted; the same command goes on where this one stopped"


def watch() -> None:
    """End the program 1.5 s after Ctrl-C or a termination signal, if it has not ended by then.

    Python itself acts on a signal only between two of its own steps, so a long call into a
    library, or a library's own clean-up, would hold it up. Nothing is lost by ending there:
    outputs and results only ever appear whole, and workers end with this process.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.name != "posix":  # signals wake a pipe there only
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_end_after, args=(reading,), daemon=True).start()


def end() -> None:
    """Say how to go on, and end now."""
    print(_MESSAGE, file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def _end_after(reading: int) -> None:
    while os.read(reading, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    time.sleep(_PATIENCE)
    end()
