"""Give freed memory back to the system: without this, an unloaded model stays in the allocator's pockets."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def release() -> None:
    """Collect garbage, then trim the C heap where the C library can (glibc)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
