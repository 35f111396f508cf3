"""Ways to damage a file, for scripts/fuzz.py: of bytes, of text, of ONNX's fields, of archives."""

import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF)
_LENGTHS = (0, 1, 2, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_NUMBERS = (
    *("0", "-1", "1e308", "1e999", ".nan", "NaN", "-.inf", "true"),
    *("9" * 5000, "0x" + "f" * 900),
)
_WORDS = (
    *("null", "[]", "{}", '""', "~", "&a [*a]", "'\\0'", "*t", "<<: *t"),
    *("2024-99-99", "!!binary x"),
)
_INTEGERS = (0, -1, 1, 2, 3, 7, 2**20, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))
_TYPES = (
    *("Conv", "Reshape", "Concat", "Loop", "If", "Gather", "Slice", "Tile", "Expand", "Range"),
    *("Split", "Transpose", "ConstantOfShape", "LSTM", "Einsum", "Clip", "Softmax", "NoSuch"),
)


def damaged(content: bytes, seed: str, suffix: str, others: list[bytes]) -> bytes:
    """A file with one to four damages that the seed decides.

    Args:
        content: of the valid file.
        seed: any text.
        suffix: of the file, which says what else than bytes it consists of.
        others: valid files of the kind, parts of which are put in.
    """
    chance = random.Random(seed)
    own: dict[str, Callable[[bytes, random.Random], bytes]] = {
        ".onnx": _fields, ".pth": _archive, ".yaml": _text, ".encodings": _text,
        ".safetensors": _header,
    }  # fmt: skip
    for _ in range(chance.choice((1, 1, 2, 4))):
        if suffix in own and chance.random() < 0.7:
            content = own[suffix](content, chance)
        else:
            content = _bytes(content, chance, others)
    return content


def _bytes(content: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    made = bytearray(content)
    if not made:
        return b"\0"
    place = chance.randrange(len(made))
    way = chance.randrange(8)
    if way == 0:
        made[place] ^= 1 << chance.randrange(8)
    elif way == 1:
        made[place] = chance.choice(_EXTREME)
    elif way == 2:
        width = chance.choice((2, 4, 8))
        length = chance.choice(_LENGTHS) % 256**width
        made[place : place + width] = length.to_bytes(width, chance.choice(("little", "big")))
    elif way == 3:
        del made[place:]
    elif way == 4:
        del made[place : place + chance.randrange(1, 64)]
    elif way == 5:
        part = made[place : place + chance.randrange(1, 64)]
        made[place:place] = part * chance.choice((1, 1, 10, 2000))
    elif way == 6:
        other = chance.choice(others)
        start = chance.randrange(len(other))
        made[place:place] = other[start : start + chance.randrange(1, 256)]
    else:
        for _ in range(chance.randrange(1, 32)):
            made[chance.randrange(len(made))] = chance.randrange(256)
    return bytes(made)


def _text(content: bytes, chance: random.Random) -> bytes:
    """Another number or word, something nested deep, a line twice or none, another place."""
    text = content.decode(errors="replace")
    way = chance.randrange(6)
    found = list(re.finditer(r"[\w.]+" if way else r"\d[\d.]*", text))
    if not found:
        return content
    start, end = chance.choice(found).span()
    if way < 2:
        return (text[:start] + chance.choice(_NUMBERS) + text[end:]).encode()
    if way == 2:
        return (text[:start] + chance.choice(_WORDS) + text[end:]).encode()
    if way == 3:
        opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
        deep = chance.choice((1, 3, 60, 5000))
        inner = opening * deep + text[start:end] + closing * deep
        return (text[:start] + inner + text[end:]).encode()
    lines = text.splitlines(keepends=True)
    row = chance.randrange(len(lines))
    lines[row : row + 1] = [lines[row]] * chance.choice((0, 2))
    return "".join(lines).encode()


def _header(content: bytes, chance: random.Random) -> bytes:
    """The JSON that a safetensors file begins with, its length as it then is."""
    length = int.from_bytes(content[:8], "little")
    if length > len(content):
        return content
    header = _text(content[8 : 8 + length], chance)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _archive(content: bytes, chance: random.Random) -> bytes:
    """An entry of a zip, whose checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # it is of another kind, or damaged already
        return _bytes(content, chance, [content])
    name = chance.choice([name for name in entries if name.endswith(".pkl")] or list(entries))
    if chance.random() < 0.2:
        name = chance.choice(list(entries))
    entries[name] = _bytes(entries[name], chance, list(entries.values()) or [b"x"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for one, value in entries.items():
            archive.writestr(one, value)
    return made.getvalue()


def _fields(content: bytes, chance: random.Random) -> bytes:
    """A field of an ONNX file, of any message in it."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # damaged already
        return _bytes(content, chance, [content])
    messages = list(_messages(model))
    message = chance.choice(messages)
    fields = [field for field, _ in message.ListFields()]
    if not fields or chance.random() < 0.1:
        fields = list(message.DESCRIPTOR.fields)
    _change(message, chance.choice(fields), chance, messages)
    try:
        return bytes(model.SerializeToString())
    except Exception:  # it has become too deep
        return content


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else (value,):
                yield from _messages(one)


def _change(message: Any, field: Any, chance: random.Random, messages: list[Any]) -> None:
    if chance.random() < 0.15:
        message.ClearField(field.name)
        return
    if field.message_type is not None:
        _change_messages(message, field, chance, messages)
        return
    kind = field.cpp_type
    value: Any = chance.choice(_INTEGERS)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        value = chance.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-38))
    elif kind == FieldDescriptor.CPPTYPE_STRING:
        value = chance.choice(("", "x", "y", "c", "\n", "a" * 3000, "../x", *_TYPES))
        value = value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value
    elif kind == FieldDescriptor.CPPTYPE_ENUM:
        value = chance.choice([one.number for one in field.enum_type.values])
    elif kind == FieldDescriptor.CPPTYPE_INT32:
        value = chance.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 22, 99))
    elif kind in (FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_UINT32):
        value = abs(value) % 2**32
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    values = getattr(message, field.name)
    if len(values) and chance.random() < 0.7:
        values[chance.randrange(len(values))] = value
    else:
        values.extend([value] * chance.choice((1, 1, 5, 300)))


def _change_messages(message: Any, field: Any, chance: random.Random, messages: list[Any]) -> None:
    """Take a message out, put it in twice, in another order, or one from elsewhere."""
    if not field.is_repeated:
        getattr(message, field.name).SetInParent()
        return
    values = getattr(message, field.name)
    alike = [one for one in messages if one.DESCRIPTOR is field.message_type]
    if len(values) and chance.random() < 0.4:
        del values[chance.randrange(len(values))]
    elif len(values) > 1 and chance.random() < 0.5:
        kept = [type(one).FromString(one.SerializeToString()) for one in values]
        chance.shuffle(kept)
        del values[:]
        values.extend(kept)
    elif alike:
        copy = chance.choice(alike).SerializeToString()
        values.add().ParseFromString(copy)
    else:
        values.add()
