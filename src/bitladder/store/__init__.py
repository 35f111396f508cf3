"""Outputs of stages by the hash of what determines them: whole or not there, checked, counted."""

from bitladder.store.journal import Made
from bitladder.store.outputs import BusyError, Output, Store, digest
from bitladder.store.usage import Garbage, Registration, collect, registered, registering

__all__ = [
    "BusyError",
    "Garbage",
    "Made",
    "Output",
    "Registration",
    "Store",
    "collect",
    "digest",
    "registered",
    "registering",
]
