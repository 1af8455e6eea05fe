"""Give memory back to the system: without this, an unloaded model stays in the allocator's pockets, the file of a
loaded one beside the copy that the runtime made of its weights, and code that only the start needed with the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_MADV_DONTNEED = 4  # the same on every Linux architecture but Alpha


def release() -> None:
    """Collect garbage, then trim the C heap where the C library can (glibc)."""
    gc.collect()
    _trim()


def settle() -> None:
    """After a start, or a deployment: trim the C heap, and let go of all code pages. What runs on comes back by itself,
    from the page cache or the disk; what only the start needed does not. Other threads go on meanwhile.
    """
    _trim()
    _drop(span for span, rights, _ in _mapped_files() if rights.startswith("r-x"))


def drop_pages(file: Path) -> None:
    """Let go of a file's pages that this process has mapped to read; those that are read come back by themselves.

    They stay in the page cache, which the kernel empties when it has to: a rung loaded again must not wait for a disk.
    """
    with contextlib.suppress(OSError):
        wanted = str(file.resolve())
        _drop(span for span, rights, path in _mapped_files() if path == wanted and rights == "r--s")


def _trim() -> None:
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _mapped_files() -> Iterator[tuple[tuple[int, int], str, str]]:
    """((start, end), rights such as "r-xp", path) of every part of a file that is mapped."""
    try:
        text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            yield (start, end), fields[1], fields[5]


def _drop(spans: Iterator[tuple[int, int]]) -> None:
    """Only for what was never written: pages that were are this process's own, and would be lost. Data of libraries
    are, although they are mapped to be read: the loader wrote addresses into them."""
    with contextlib.suppress(AttributeError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, end in spans:
            madvise(start, end - start, _MADV_DONTNEED)
