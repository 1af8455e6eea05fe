"""What the cost model is told of a class of boards. The features of a schedule hold nothing of it."""

from __future__ import annotations

import math

import numpy as np

from tailorbird.tune.cost.features import Floats
from tailorbird.types.schedule import DeviceClass

_L1, _L2, _L3 = 32 << 10, 512 << 10, 8 << 20  # an unknown cache counts as one of these
_MANY_REGISTERS = ("avx512f", "asimd", "sve")

#: Names of what `device_vector` returns, in order. All are octaves or yes and no, near 0 for a common board.
DEVICE_FIELDS = ("threads", "cores", "vector", "registers", "l1", "l2", "l3", "fused multiply-add", "arm", "known")


def device_vector(boards: DeviceClass) -> Floats:
    """(len(DEVICE_FIELDS),) float32. What nobody knows of the boards counts as that of a common one."""
    arm = boards.triple.startswith(("aarch64", "arm"))
    features = boards.isa_features
    many = bool(features) and any(name in features for name in _MANY_REGISTERS)
    l1, l2, l3 = (
        math.log2(size / usual) if size else 0.0 for size, usual in zip(boards.caches, (_L1, _L2, _L3), strict=True)
    )
    fields = (
        math.log2(boards.threads),
        math.log2(boards.cores) if boards.cores else 0.0,
        math.log2((boards.vector_bits or 256) / 256),
        float(many),
        l1,
        l2,
        l3,
        float(arm or "fma" in features),
        float(arm),
        float(bool(features)),
    )
    return np.asarray(fields, np.float32)
