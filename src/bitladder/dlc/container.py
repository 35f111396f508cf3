"""The entries of a .dlc file: a zip of stored entries whose checksums are zero."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from bitladder.errors import DlcError
from bitladder.outside import check_file

_LOCAL_HEADER = 30  # bytes, before the name


def read_entries(path: Path) -> dict[str, bytes]:
    """Every entry of the file by its name.

    Raises:
        DlcError: the file cannot be read, or is no DLC.
    """
    try:
        check_file(path, refusal=DlcError)
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {entry.filename: _read(file, entry, path) for entry in archive.infolist()}
    except OSError as error:
        raise DlcError(f"{path}: cannot read this file: {error.strerror}") from None
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError):
        raise DlcError(f"{path}: not a DLC file, or cut off") from None
    if "model" not in entries:
        raise DlcError(f"{path}: not a DLC file: it has no entry 'model'")
    return entries


def _read(file: BinaryIO, entry: zipfile.ZipInfo, path: Path) -> bytes:
    """The bytes of one entry, which zipfile would refuse for its checksum of zero."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER)
    name, extra = struct.unpack_from("<HH", header, 26)
    file.seek(entry.header_offset + _LOCAL_HEADER + name + extra)
    content: bytes = file.read(entry.file_size)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise DlcError(f"{path}: entry '{entry.filename}' is compressed, which no DLC has")
    if len(content) < entry.file_size:
        raise DlcError(f"{path}: entry '{entry.filename}' is cut off")
    return content
