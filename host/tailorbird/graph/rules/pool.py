"""Pooling: the image axes are fixed, all others pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import Dims
from tailorbird.graph.registry import Several, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_ONE = "max_pool avg_pool adaptive_avg_pool adaptive_max_pool"


def _spatial(rank: int) -> Callable[[Analysis, Node], Dims | Several]:
    def pool(analysis: Analysis, node: Node) -> Dims | Several:
        dims = analysis.dims(node.args[0])
        for dim in dims[-rank:]:
            analysis.fix(dim)
        value = node.meta["val"]
        results = value if isinstance(value, list | tuple) else [value]
        every = tuple((*dims[:-rank], *map(analysis.constant, result.shape[-rank:])) for result in results)
        return Several(every) if isinstance(value, list | tuple) else every[0]

    return pool


for _rank in (1, 2, 3):
    rule(*(f"{name}{_rank}d" for name in _ONE.split()))(_spatial(_rank))
rule("max_pool2d_with_indices")(_spatial(2))
rule("max_pool3d_with_indices")(_spatial(3))
