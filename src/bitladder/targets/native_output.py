"""What native code prints: lines of no use to anybody are kept from the standard error."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD_ERROR = 2


@contextmanager
def without_lines(beginning: bytes) -> Iterator[None]:
    """Keep lines with that beginning from descriptor 2; all others are written as the block ends.

    For libraries that have no switch for what they print.
    """
    try:
        kept = os.dup(_STANDARD_ERROR)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as aside:
        sys.stderr.flush()
        os.dup2(aside.fileno(), _STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(kept, _STANDARD_ERROR)
            os.close(kept)
            aside.seek(0)
            for line in aside:
                if not line.startswith(beginning):
                    os.write(_STANDARD_ERROR, line)
