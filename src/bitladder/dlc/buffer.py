"""Tables of a flatbuffer, read field by field with every bound checked."""

from __future__ import annotations

import struct

_STRING_LIMIT = 1 << 20


class OffsetError(ValueError):
    """The buffer does not hold what its offsets say."""


class Fields:
    """One table: its fields by their number in the schema.

    Args:
        buffer: the whole flatbuffer.
        position: of the table.

    Raises:
        OffsetError: an offset leads out of the buffer.
    """

    def __init__(self, buffer: bytes, position: int) -> None:
        self.buffer, self.position = buffer, position
        table = position - self._unpack("<i", position)
        size = self._unpack("<H", table)
        count = max(0, (size - 4) // 2)
        self._check(table, 4 + 2 * count)
        self.offsets = struct.unpack_from(f"<{count}H", buffer, table + 4)

    @classmethod
    def root(cls, buffer: bytes) -> Fields:
        """The table that a buffer begins with."""
        if len(buffer) < 4:
            raise OffsetError("the buffer is empty")
        return cls(buffer, struct.unpack_from("<I", buffer, 0)[0])

    def number(self, field: int, kind: str, default: float = 0) -> float:
        """A number of a ``struct`` kind such as ``I`` or ``f``."""
        place = self._place(field)
        return default if place is None else self._unpack(f"<{kind}", place)

    def integer(self, field: int, kind: str = "i", default: int = 0) -> int:
        """An integer of a ``struct`` kind."""
        return int(self.number(field, kind, default))

    def text(self, field: int) -> str:
        """A string, empty where there is none."""
        place = self._place(field)
        return "" if place is None else self._string(self._follow(place))

    def texts(self, field: int) -> tuple[str, ...]:
        """A vector of strings."""
        start, count = self._vector(field, 4)
        return tuple(self._string(self._follow(start + 4 * index)) for index in range(count))

    def integers(self, field: int) -> tuple[int, ...]:
        """A vector of uint32."""
        start, count = self._vector(field, 4)
        return struct.unpack_from(f"<{count}I", self.buffer, start)

    def table(self, field: int) -> Fields | None:
        """A table, or None where there is none."""
        place = self._place(field)
        return None if place is None else Fields(self.buffer, self._follow(place))

    def tables(self, field: int) -> tuple[Fields, ...]:
        """A vector of tables."""
        start, count = self._vector(field, 4)
        return tuple(Fields(self.buffer, self._follow(start + 4 * index)) for index in range(count))

    def _place(self, field: int) -> int | None:
        offset = self.offsets[field] if field < len(self.offsets) else 0
        return self.position + offset if offset else None

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = self._unpack("<I", start)
        self._check(start + 4, count * width)
        return start + 4, count

    def _string(self, place: int) -> str:
        length = self._unpack("<I", place)
        if length > _STRING_LIMIT:
            raise OffsetError("a string is longer than any name")
        self._check(place + 4, length)
        return self.buffer[place + 4 : place + 4 + length].decode("utf-8", errors="replace")

    def _follow(self, place: int) -> int:
        return place + int(self._unpack("<I", place))

    def _unpack(self, kind: str, place: int) -> int:
        self._check(place, struct.calcsize(kind))
        value: int = struct.unpack_from(kind, self.buffer, place)[0]
        return value

    def _check(self, place: int, size: int) -> None:
        if place < 0 or place + size > len(self.buffer):
            raise OffsetError("an offset leads out of the buffer")
