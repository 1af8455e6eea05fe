"""Messages that nobody would send: fields filled at random, and bytes changed, cut and doubled."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from agentkit.bundles import SERVING

WORDS = [
    "",
    "toy",
    "r0",
    "x",
    "FP32",
    "INT8",
    "0" * 64,
    SERVING.sha256,
    next(iter(SERVING.blobs)),
    "../../etc/passwd",
    "\x00",
    "two-channel",
    "é" * 300,
]
NUMBERS = [0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**20]
FLOATS = [0.0, 1.0, -1.0, 1e308, float("inf"), float("nan"), 1e-300]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes after one to four changes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 2:
            del changed[at : at + chance.randint(1, 8)]
        elif kind == 3:
            changed[at:at] = changed[at : at + chance.randint(1, 64)]
        elif changed:
            index = at % len(changed)
            changed[index] = chance.choice((changed[index] ^ 1 << chance.randrange(8), 0, 0x7F, 0x80, 0xFF))
    return bytes(changed)


def fill(message: Message, chance: random.Random, depth: int = 0) -> Message:
    """Set each field to something, or leave it."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.4 or depth > 4:
            continue
        repeated = field.is_repeated
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for _ in range(chance.randint(1, 3) if repeated else 1):
                target = getattr(message, field.name).add() if repeated else getattr(message, field.name)
                target.SetInParent()
                fill(target, chance, depth + 1)
            continue
        values = [value_of(field, chance) for _ in range(chance.randint(1, 3) if repeated else 1)]
        if repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])
    return message


def value_of(field: FieldDescriptor, chance: random.Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return chance.choice(FLOATS)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.randint(0, 9)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.choice([b"", b"{}", b"\xff", SERVING.manifest, chance.randbytes(64)])
        return chance.choice(WORDS)
    number = chance.choice(NUMBERS)
    return abs(number) if kind in {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64} else number
