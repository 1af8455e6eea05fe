"""Inputs for a model whose data nobody gave: good enough to time it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.types import DATATYPES, TensorSpec


def example(specs: Sequence[TensorSpec], seed: int) -> Mapping[str, NDArray[np.generic]]:
    """Seeded inputs of a model: normal floats, zeros for whatever indexes."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {}
    for spec in specs:
        dtype = np.dtype(DATATYPES[spec.datatype][0])
        values = rng.standard_normal(spec.shape) if dtype.kind == "f" else np.zeros(spec.shape)
        arrays[spec.name] = values.astype(dtype)
    return arrays
