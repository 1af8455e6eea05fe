"""What a kernel answered, in a few numbers: enough to tell a wrong schedule from a right one, whoever compares them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tailorbird_agent.runtimes.base import Array

#: Pieces of each argument. An element that is wrong by its own size is 1/length of its piece's sum of sizes, which is
#: seen above float32's rounding up to some ten thousand elements a piece.
_PIECES = 64


def checksum(arrays: Sequence[Array]) -> tuple[float, ...]:
    """For pieces of each array, in order: the sum of its elements and the sum of their sizes, in double precision.

    Elements that are no numbers count as 0 in both and as an infinite size once: two checksums that agree have them in
    the same pieces.
    """
    numbers: list[float] = []
    for array in arrays:
        flat = array.reshape(-1)
        starts = np.linspace(0, flat.size, min(_PIECES, flat.size), endpoint=False).astype(np.intp)
        values = flat.astype(np.float64)
        finite = np.isfinite(values)
        values[~finite] = 0.0
        sizes = np.add.reduceat(np.abs(values), starts)
        if not finite.all():
            sizes[np.add.reduceat(~finite, starts, dtype=np.intp) > 0] = np.inf
        numbers += np.stack([np.add.reduceat(values, starts), sizes], axis=1).reshape(-1).tolist()
    return tuple(numbers)
