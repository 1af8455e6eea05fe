"""Roles: what an axis of a parameter is to the user: out-channels, in-features, heads, hidden units, embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.fx import Graph, Node

from tailorbird.graph import ElasticGraph, Group, op_name

_CONVS = frozenset({"conv1d", "conv2d", "conv3d", "convolution", "_convolution", "cudnn_convolution"})
_TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
_PRODUCTS = frozenset({"mm", "matmul", "addmm", "bmm", "baddbmm"})
_NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "native_layer_norm"})
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_SWAPS = frozenset({"t", "transpose", "numpy_T"})

NORM = "channels"  # an affine parameter or statistic that follows the tensor it scales


class Roles:
    """The role of every axis of every stored tensor, read off the op that consumes it."""

    def __init__(self, source: ElasticGraph) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in source.tensors.items()}
        self._uses = _consumers(source.graph)

    def of(self, tensor: str, axis: int) -> str:
        """Role of one axis; `axis 1` where the op says nothing about it."""
        shape = self._shapes[tensor]
        for node, operand, swapped in self._uses.get(tensor, ()):
            swap = swapped and len(shape) == 2
            found = _role(node, operand, 1 - axis if swap else axis, shape[::-1] if swap else shape)
            if found:
                return found
        return _bare(axis, len(shape))

    def of_group(self, group: Group) -> str:
        """What a group is, from the tensor it is born in and from everything that stores it."""
        if group.kind != "width":
            return group.kind
        places = [(tensor, axis, self.of(tensor, axis)) for tensor, axis in group.uses]
        roles = {role for _, _, role in places}
        if "embedding" in roles:
            return "embedding"
        birth = next((role for tensor, _, role in places if len(self._shapes[tensor]) > 1), places[0][2])
        if birth == "out-features":
            return "hidden units" if roles <= {"out-features", "in-features"} else "features"
        return "features" if birth == "in-features" else birth


def _consumers(graph: Graph) -> Mapping[str, list[tuple[Node, Node, bool]]]:
    """(consumer, its operand, whether a transposition came between) of each stored tensor."""
    found: dict[str, list[tuple[Node, Node, bool]]] = {}
    for node in graph.nodes:
        if node.op != "get_attr":
            continue
        uses = found.setdefault(str(node.target), [])
        for user in node.users:
            if user.op == "call_function" and op_name(user) in _SWAPS:
                uses += [(after, user, True) for after in user.users]
            else:
                uses.append((user, node, False))
    return found


def _position(arguments: Sequence[Any], operand: Node) -> int:
    return next((i for i, argument in enumerate(arguments) if argument is operand), -1)


def _role(node: Node, stored: Node, axis: int, shape: tuple[int, ...]) -> str | None:
    rank = len(shape)
    operand = _position(node.args, stored)
    name = op_name(node) if node.op == "call_function" else ""
    if name in _CONVS or name in _TRANSPOSED:
        if operand == 2 or rank == 1:
            return "out-channels"
        groups = node.args[-1]
        if name in _CONVS and axis == 0 and shape[1] == 1 and isinstance(groups, int) and groups > 1:
            return NORM  # depthwise: as many channels out as in
        out = 1 if name in _TRANSPOSED else 0
        return "out-channels" if axis == out else "in-channels" if axis == 1 - out else "kernel"
    if name == "linear":
        return "out-features" if operand == 2 or axis == 0 else "in-features"
    if name in _PRODUCTS and operand >= 0:
        if rank == 1:
            return "out-features"
        return {rank - 2: "in-features", rank - 1: "out-features"}.get(axis)
    if name == "embedding" and operand == 0:
        return "rows" if axis == 0 else "embedding"
    if name in _NORMS:
        return NORM
    if name in _RECURRENT:
        weights = next((a for a in node.args if isinstance(a, list | tuple) and _position(a, stored) >= 0), ())
        # w_ih, w_hh and biases of each layer and direction; what the first layer reads comes from outside
        return "in-features" if _position(weights, stored) == 0 and axis == 1 else "hidden units"
    return _einsum_role(node, stored, axis) if name == "einsum" else None


def _einsum_role(node: Node, stored: Node, axis: int) -> str | None:
    """A letter that the result keeps is an output, one that is summed over an input."""
    equation, operands = node.args[:2]
    place = _position(operands, stored) if isinstance(operands, list | tuple) else -1
    if not isinstance(equation, str) or "->" not in equation or "." in equation or place < 0:
        return None
    terms, result = equation.replace(" ", "").split("->")
    return "out-features" if terms.split(",")[place][axis] in result else "in-features"


def _bare(axis: int, rank: int) -> str:
    """Of a parameter that the user's code adds or multiplies itself: features come last, channels second in images."""
    if axis == rank - 1 and rank < 4:
        return "features"
    return NORM if rank == 4 and axis == 1 else f"axis {axis}"
