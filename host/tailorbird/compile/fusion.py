"""Which activation a runtime computes inside the operation before it."""

from __future__ import annotations

from torch import fx

from tailorbird.compile.node import arguments, aten

_CLAMPS = {(0, 6): "relu6", (-1, 1): "relu_n1_to_1", (0, None): "relu"}


def activation_name(node: fx.Node) -> str:
    """ "relu", "relu6", "relu_n1_to_1", or "" for a node that is none of them."""
    if node.target is aten.relu.default:
        return "relu"
    if node.target is aten.relu6.default:
        return "relu6"
    if node.target in {aten.hardtanh.default, aten.clamp.default}:
        _, low, high = arguments(node)
        return _CLAMPS.get((low, high), "")
    return ""


def fused_activation(node: fx.Node) -> tuple[str, fx.Node]:
    """The activation that may be fused into `node`, and the node whose value the fused operation gives.

    ("", node) when the only user is no such activation, or when there are other users of the value before it.
    """
    if len(node.users) == 1:
        user = next(iter(node.users))
        name = activation_name(user)
        if name:
            return name, user
    return "", node
