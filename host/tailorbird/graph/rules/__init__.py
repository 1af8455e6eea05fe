"""Rules by op family, one file each. Importing this package fills the registry."""

from tailorbird.graph.rules import (
    attention,
    conv,
    create,
    elementwise,
    embedding,
    join,
    linear,
    norm,
    pool,
    reduce,
    shape,
)

__all__ = [
    "attention",
    "conv",
    "create",
    "elementwise",
    "embedding",
    "join",
    "linear",
    "norm",
    "pool",
    "reduce",
    "shape",
]
