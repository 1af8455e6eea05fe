"""Recurrent layers: any number of layers, one direction or both, all with one hidden size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import FIXED, Atom, Dim, Dims, atom_dim
from tailorbird.graph.capture import op_name
from tailorbird.graph.registry import Several, Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*_GATES)
def recurrent(analysis: Analysis, node: Node) -> Several:
    """x[t, n, in] -> y[t, n, directions * out]; each cell has w_ih [gates][hidden] x in and w_hh [gates][hidden] x out.

    The state h[layers * directions, n, out] gives all cells one size; `out` is `hidden`, or the size of the projection
    of an LSTM that has one. Both directions of a layer keep the same units. Since the op takes a state of unequal sizes
    as the sign of a projection, `hidden` stays full beside one: `out` is never equal to it.
    """
    data, state, weights = node.args[:3]
    bias, layers, both, batch_first = (node.args[at] for at in (3, 4, 7, 8))
    x = analysis.dims(data)
    gates = _GATES[op_name(node)]
    assert isinstance(layers, int)
    cells = layers * (2 if both else 1)
    params = _per_cell(weights, cells)
    if len(x) != 3 or not isinstance(bias, bool):
        raise UnknownError("an unbatched or packed sequence")
    batch, time = x[::-1][1:] if not batch_first else x[:2]
    hidden = atom_dim(Atom(analysis.shape(params[0][0])[0] // gates))
    projected = len(params[0]) % 2 == 1
    out = atom_dim(Atom(analysis.shape(params[0][-1])[0])) if projected else hidden
    if projected:
        analysis.pin(hidden, node, "a projection is told by being smaller than this")
    below: Dim = x[-1]
    for layer in range(layers):
        own = params[layer * (2 if both else 1) :][: 2 if both else 1]
        for tensors in own:
            _cell(analysis, node, tensors, (below, hidden, out), gates)
        below = out * len(own)
    states = list(state) if isinstance(state, list | tuple) else [state]
    found = []
    for tensor, width in zip(states, (out, hidden), strict=False):
        h = analysis.dims(tensor)
        analysis.fix(h[0])
        analysis.unify(h[1], batch, node)
        analysis.unify(h[2], width, node)
        found.append((h[0], batch, width))
    return Several(((*((batch, time) if batch_first else (time, batch)), below), *found))


def _per_cell(weights: Any, cells: int) -> list[list[Node]]:
    size = len(weights) // cells
    return [list(weights[start : start + size]) for start in range(0, len(weights), size)]


def _cell(analysis: Analysis, node: Node, tensors: list[Node], sizes: Dims, gates: int) -> None:
    """w_ih, w_hh, then b_ih and b_hh, then the projection w_hr, as far as they are there."""
    below, hidden, out = sizes
    stacked: Dim = ((Atom(gates, FIXED), *hidden[0]),) if gates > 1 else hidden
    columns = (below, out)
    for tensor in tensors:
        dims = analysis.dims(tensor)
        if len(tensors) % 2 and tensor is tensors[-1]:
            analysis.unify(dims[0], out, node)
            analysis.unify(dims[1], hidden, node)
            continue
        analysis.unify(dims[0], stacked, node)
        if len(dims) == 2:
            analysis.unify(dims[1], columns[0], node)
            columns = columns[::-1]


@macs(*_GATES)
def recurrent_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Every weight matrix once for each step of each sequence."""
    data, weights = node.args[0], node.args[2]
    assert isinstance(data, Node)
    assert isinstance(weights, list | tuple)
    steps = math.prod(shape(data)[:-1])
    return steps * sum(math.prod(size) for size in (shape(w) for w in weights if isinstance(w, Node)) if len(size) == 2)
