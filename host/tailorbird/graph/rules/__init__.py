"""Rules by op family, one file each. Importing this package fills the registry."""

from tailorbird.graph.rules import (
    attention,
    conv,
    create,
    distance,
    einsum,
    elementwise,
    embedding,
    index,
    join,
    linear,
    norm,
    pool,
    recurrent,
    reduce,
    resample,
    shape,
)

__all__ = [
    "attention",
    "conv",
    "create",
    "distance",
    "einsum",
    "elementwise",
    "embedding",
    "index",
    "join",
    "linear",
    "norm",
    "pool",
    "recurrent",
    "reduce",
    "resample",
    "shape",
]
