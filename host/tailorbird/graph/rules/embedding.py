"""Table look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import Dims
from tailorbird.graph.registry import rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("embedding")
def embedding(analysis: Analysis, node: Node) -> Dims:
    """y[..., d] = w[x[...], d]; the vocabulary is fixed."""
    weight, indices = node.args[:2]
    w = analysis.dims(weight)
    analysis.pin(w[0], node, "indices come from outside")
    return (*analysis.dims(indices), w[1])
