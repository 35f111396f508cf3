"""End a process that takes more memory than it may; on Linux alone, where ``/proc`` tells."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

_SECONDS = 0.1  # between two looks


class MemoryWatch:
    """Watches a process from a thread, which ends with it.

    Args:
        process: that is watched.
        limit: bytes of its memory that may be resident.

    Attributes:
        exceeded: whether the process was killed for its memory.
    """

    def __init__(self, process: subprocess.Popen[Any], limit: int) -> None:
        self.exceeded = False
        self._process, self._limit = process, limit
        self._ended = threading.Event()
        self._statistics = Path(f"/proc/{process.pid}/statm")
        if self._statistics.exists():
            threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._ended.wait(_SECONDS) and self._process.poll() is None:
            try:
                resident = int(self._statistics.read_text().split()[1]) * page
            except (OSError, IndexError):  # it is gone
                return
            if resident > self._limit:
                self.exceeded = True
                self._process.kill()
                return
