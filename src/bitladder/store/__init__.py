"""Outputs of stages by the hash of what determines them: whole or not there, checked, counted."""

from bitladder.store.journal import Made
from bitladder.store.listing import Entry, entries
from bitladder.store.memory import Memory, digest
from bitladder.store.outputs import BusyError, Output, Store, default_root, stamp
from bitladder.store.usage import Garbage, Registration, collect, registered, registering

__all__ = [
    "BusyError",
    "Entry",
    "Garbage",
    "Made",
    "Memory",
    "Output",
    "Registration",
    "Store",
    "collect",
    "default_root",
    "digest",
    "entries",
    "registered",
    "registering",
    "stamp",
]
