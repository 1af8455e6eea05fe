"""Which libc a shared library needs, read from its ELF version requirements (section .gnu.version_r).

A library linked against glibc names every symbol version it uses (GLIBC_2.4, GLIBC_2.29); the newest of them is the
oldest glibc that can load it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

_MAGIC = b"\x7fELF"
_SHT_GNU_VERNEED = 0x6FFFFFFE
_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")


def glibc_needed(modules: Iterable[bytes]) -> str:
    """Oldest glibc that loads all modules, as "glibc 2.29"; "" when none of them is an ELF file that uses glibc.

    Raises ValueError for an ELF file that is cut short.
    """
    versions = [
        (int(found[1]), int(found[2]))
        for module in modules
        for name in needed_versions(module)
        if (found := _GLIBC.fullmatch(name))
    ]
    return "glibc {}.{}".format(*max(versions)) if versions else ""


def needed_versions(module: bytes) -> tuple[str, ...]:
    """Symbol versions an ELF file needs from other libraries, sorted; empty for any other file.

    Raises ValueError for an ELF file that is cut short.
    """
    if module[:4] != _MAGIC:
        return ()
    try:
        return tuple(sorted(set(_version_names(module))))
    except (struct.error, IndexError) as cause:
        raise ValueError("the ELF file is cut short") from cause


def _version_names(data: bytes) -> Iterator[str]:
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    if wide:
        table, size, count = *struct.unpack_from(order + "Q", data, 0x28), *struct.unpack_from(order + "HH", data, 0x3A)
        section = struct.Struct(order + "IIQQQQIIQQ")
    else:
        table, size, count = *struct.unpack_from(order + "I", data, 0x20), *struct.unpack_from(order + "HH", data, 0x2E)
        section = struct.Struct(order + "IIIIIIIIII")
    sections = [section.unpack_from(data, table + index * size) for index in range(count)]
    for _, kind, _, _, offset, _, link, entries, _, _ in sections:
        if kind != _SHT_GNU_VERNEED:
            continue
        names = sections[link][4]
        need = offset
        for _ in range(entries):
            _, auxiliaries, _, first, following = struct.unpack_from(order + "HHIII", data, need)
            auxiliary = need + first
            for _ in range(auxiliaries):
                _, _, _, name, step = struct.unpack_from(order + "IHHII", data, auxiliary)
                start = names + name
                yield data[start : data.index(b"\0", start)].decode()
                auxiliary += step
            need += following
