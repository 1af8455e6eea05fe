"""Table look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import FIXED, Atom, Dims, atom_dim
from tailorbird.graph.registry import Several, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("embedding")
def embedding(analysis: Analysis, node: Node) -> Dims:
    """y[..., d] = w[x[...], d]; the vocabulary is fixed."""
    weight, indices = node.args[:2]
    w = analysis.dims(weight)
    analysis.pin(w[0], node, "indices come from outside")
    return (*analysis.dims(indices), w[1])


@rule("embedding_bag")
def embedding_bag(analysis: Analysis, node: Node) -> Several:
    """y[bag, d] from w[x, d]; the other results (which entry went where) are for the backward pass alone."""
    weight, _, offsets = node.args[:3]
    w = analysis.dims(weight)
    analysis.pin(w[0], node, "indices come from outside")
    if node.args[7]:
        raise UnknownError("offsets that hold the end of the last bag")
    return Several(((analysis.dims(offsets)[0], w[1]), None, None, None))


@rule("one_hot")
def one_hot(analysis: Analysis, node: Node) -> Dims:
    """y[..., classes]; the number of classes is fixed."""
    return (*analysis.dims(node.args[0]), atom_dim(Atom(analysis.shape(node)[-1], FIXED)))


@rule("bucketize", "searchsorted")
def bucketize(analysis: Analysis, node: Node) -> Dims:
    """The bucket of every value; the borders are fixed."""
    values, borders = node.args[:2] if str(node.target).startswith("aten.bucketize") else node.args[1::-1]
    if len(analysis.shape(borders)) != 1:
        raise UnknownError("borders of more than one axis")
    analysis.pin(analysis.dims(borders)[0], node, "borders are counted")
    return analysis.dims(values)
