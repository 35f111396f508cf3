"""The state that belongs to the caller's program: public calls leave it as they found it.

Random numbers, warnings, loggers, environment variables, signal handlers and the switches of torch
are one a process. Within ``isolated`` they are ours to set; when the outermost call ends, by
whatever way, they are the caller's again. Nothing here loads a library that was not loaded.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

_lock = threading.RLock()
_stack = ExitStack()  # what is done when the outermost call ends
_depth = 0  # public calls that are running, of all threads
_hushed: set[str] = set()


@contextmanager
def isolated() -> Iterator[None]:
    """Keep the caller's state from the block; calls within it, and other threads' calls, share it.

    Usable as a decorator.
    """
    _begin()
    try:
        yield
    finally:
        _end()


def when_it_ends(undo: Callable[[], object]) -> bool:
    """Have something done when the public call ends; False, and nothing, outside of one."""
    with _lock:
        if _depth:
            _stack.callback(undo)
        return bool(_depth)


def hush(*loggers: str) -> None:
    """Keep loggers of libraries at errors, in this public call and in later ones.

    Outside of a public call, as in a worker process, they stay so.
    """
    with _lock:
        fresh = set(loggers) - _hushed
        _hushed.update(fresh)
        _silence(fresh)


def _begin() -> None:
    global _depth
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        for keep in (_keep_random, _keep_warnings, _keep_loggers, _keep_environment, _keep_signals):
            keep()
        _keep_torch()
        _silence(_hushed)


def _end() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if not _depth:
            _stack.close()


def _silence(names: set[str]) -> None:
    for name in names:
        logger = logging.getLogger(name)
        if _depth:
            _stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)


def _keep_random() -> None:
    _stack.callback(random.setstate, random.getstate())
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _stack.callback(numpy.random.set_state, numpy.random.get_state())


def _keep_warnings() -> None:
    _stack.enter_context(warnings.catch_warnings())


def _keep_loggers() -> None:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        if isinstance(logger, logging.Logger):
            _stack.callback(
                _restore_logger,
                logger,
                logger.level,
                {name: getattr(logger, name) for name in ("propagate", "disabled")},
                list(logger.handlers),
                list(logger.filters),
            )
    _stack.callback(logging.disable, logging.root.manager.disable)


def _restore_logger(
    logger: logging.Logger, level: int, switches: dict[str, bool], handlers: Any, filters: Any
) -> None:
    if logger.level != level:  # it empties the caches of all loggers
        logger.setLevel(level)
    for name, value in switches.items():
        setattr(logger, name, value)
    logger.handlers[:], logger.filters[:] = handlers, filters


def _keep_environment() -> None:
    _stack.callback(_restore_environment, dict(os.environ))


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _keep_signals() -> None:
    for one in signal.valid_signals():
        handler = signal.getsignal(one)
        if handler is not None:  # one that C code has set cannot be set again from here
            _stack.callback(_restore_signal, one, handler)


def _restore_signal(one: int, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread() and signal.getsignal(one) != handler:
        signal.signal(one, handler)


def _keep_torch() -> None:
    torch = sys.modules.get("torch")
    if torch is None:
        _stack.callback(_restore_new_torch)
        return
    on_gpu = torch.cuda.is_initialized()
    _stack.callback(
        _restore_generators,
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if on_gpu else torch.initial_seed(),
    )
    cudnn = torch.backends.cudnn
    for restore, value in (
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
        (partial(setattr, cudnn, "benchmark"), cudnn.benchmark),
        (partial(setattr, cudnn, "deterministic"), cudnn.deterministic),
    ):
        _stack.callback(restore, value)
    _stack.callback(
        torch.use_deterministic_algorithms,
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _restore_new_torch() -> None:
    """Seed a torch that the call has loaded anew, as it seeds itself where nobody has."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def _restore_generators(state: Any, gpu: Any) -> None:
    """Set the generators of torch.

    Args:
        state: of the CPU's.
        gpu: states of the GPUs' generators, or their seed where there were none yet.
    """
    torch = sys.modules["torch"]
    torch.set_rng_state(state)
    if isinstance(gpu, list):
        torch.cuda.set_rng_state_all(gpu)
    elif not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed_all(gpu)
