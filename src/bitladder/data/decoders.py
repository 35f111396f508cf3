"""Processes that decode images: started once, kept for all passes, wherever a stage runs.

They are plain programs that are spoken to through pipes: unlike multiprocessing's they may be
started by a daemonic process, import no script of the user's, and load no torch.
"""

from __future__ import annotations

import atexit
import functools
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from bitladder.data.decode import Decoded, Size, Source, decode_all
from bitladder.errors import DataError
from bitladder.isolation import when_it_ends

_LENGTH = struct.Struct(">Q")
_AHEAD = 2  # requests a process that wait for their turn
_PACKAGE = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); "
    "from bitladder.data.decoders import serve; serve()"
)


def decode(
    requests: Iterable[list[Source]], size: Size, workers: int
) -> Iterator[tuple[list[Source], Decoded]]:
    """Decode requests in their order, some of them ahead.

    Args:
        requests: images that are decoded together.
        size: height and width in pixels.
        workers: processes; with 0 this one decodes.

    Raises:
        DataError: a process ended.
    """
    if not workers or not sys.executable:
        for request in requests:
            yield request, decode_all(request, size)
        return
    processes = _workers(workers)
    waiting: deque[tuple[list[Source], Future[Decoded]]] = deque()
    try:
        for request in requests:
            waiting.append((request, processes.submit(request, size)))
            if len(waiting) > _AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


class _Processes:
    """Threads with a process each."""

    def __init__(self, workers: int) -> None:
        self.threads = ThreadPoolExecutor(workers, thread_name_prefix="decoder")
        self.own = threading.local()
        self.processes: list[subprocess.Popen[bytes]] = []

    def submit(self, sources: list[Source], size: Size) -> Future[Decoded]:
        """Have a process decode these images."""
        return self.threads.submit(self._ask, sources, size)

    def close(self) -> None:
        """End the processes."""
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe and pipe.close()
            process.wait()

    def _ask(self, sources: list[Source], size: Size) -> Decoded:
        process = getattr(self.own, "process", None)
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self.own.process = process
            self.processes.append(process)
        assert process.stdin
        assert process.stdout
        try:
            _send(process.stdin, (sources, size))
            answer: Decoded | None = _receive(process.stdout)
        except OSError:
            answer = None
        if answer is None:
            process.kill()
            raise DataError(
                f"a process that decodes images ended (exit code {process.wait()}) at one of the "
                f"{len(sources)} images from {sources[0].path}; see data.workers"
            )
        return answer


@functools.cache
def _workers(workers: int) -> _Processes:
    """The processes of this call, where a public call is running, or else of this program."""
    processes = _Processes(workers)
    if not when_it_ends(functools.partial(_dismiss, processes)):
        atexit.register(processes.close)
    return processes


def _dismiss(processes: _Processes) -> None:
    _workers.cache_clear()
    processes.close()


def serve() -> None:
    """Decode what is asked for on standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # where a library prints, it prints into no answer
    with suppress(BrokenPipeError):
        while (request := _receive(sys.stdin.buffer)) is not None:
            _send(answers, decode_all(*request))


def _send(pipe: IO[bytes], value: object) -> None:
    content = pickle.dumps(value, protocol=5)
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """What was sent, by a process of our own; None at the end."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _LENGTH.unpack(head)[0]
    content = pipe.read(length)
    return pickle.loads(content) if len(content) == length else None
