"""Tensor signatures in the words of the Open Inference Protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Open Inference Protocol datatype -> (numpy dtype string, bytes per element).
DATATYPES: dict[str, tuple[str, int]] = {
    "FP32": ("<f4", 4),
    "FP16": ("<f2", 2),
    "INT64": ("<i8", 8),
    "INT32": ("<i4", 4),
    "INT8": ("|i1", 1),
    "UINT8": ("|u1", 1),
    "BOOL": ("|b1", 1),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype ("FP32", "INT64", ...) and shape of one tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense little-endian tensor."""
        return math.prod(self.shape) * DATATYPES[self.datatype][1]
