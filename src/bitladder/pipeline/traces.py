"""Memory that PyTorch keeps of every network that is traced, freed where nobody can miss it."""

from __future__ import annotations

import ctypes
import gc

import psutil
import torch


class Traces:
    """What ``torch.jit.trace`` has left in this process.

    AIMET traces each network that it simulates, and an export traces it again; PyTorch registers
    a type for every module and its graph, some 10 MB a trace, and never lets go of them.

    Args:
        grown: bytes by which the process may grow before they are looked for.
    """

    def __init__(self, grown: int = 256 * 2**20) -> None:
        self.grown = grown
        self._process = psutil.Process()
        self._limit = self._resident() + grown

    def forget(self) -> bool:
        """Free them if the process has grown; whether they were freed.

        PyTorch can only free all such types at once, and a TorchScript module without its type
        ends the process, so nothing is freed while there is a module or a class of TorchScript.
        """
        if self._resident() < self._limit:
            return False
        gc.collect()  # networks hold themselves, and what was traced of them
        needed = bool(torch.jit._state._script_classes) or any(
            issubclass(type(one), torch.jit.ScriptModule) for one in gc.get_objects()
        )
        if not needed:
            torch._C._jit_clear_class_registry()
            _give_back()
        self._limit = self._resident() + self.grown
        return not needed

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def _give_back() -> None:
    """Have the system take back what glibc holds free, so that growth is seen again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
