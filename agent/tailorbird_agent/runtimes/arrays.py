"""Arrays on 64-byte borders, which compiled kernels rely on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tailorbird_agent.runtimes.base import Array

ALIGNMENT_BYTES = 64


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros on a 64-byte border."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + ALIGNMENT_BYTES, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT_BYTES
    return buffer[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: Array) -> Array:
    """A copy on a 64-byte border."""
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy
