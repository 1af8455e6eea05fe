"""Under which name the times of a SuperNet's subnets are kept."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from tailorbird.supernet import SuperNet


def latency_identity(net: SuperNet) -> str:
    """SHA-256 of what decides how long subnets take: the graph, the sizes of its tensors, the dimensions, the inputs.

    Dense kernels take the same time whatever the weights are, so training on does not make a device's times stale.
    """
    digest = hashlib.sha256()
    numbers: dict[Node, int] = {}
    for node in net.graph.graph.nodes:
        numbers[node] = len(numbers)
        arguments = map_arg((node.args, tuple(sorted(node.kwargs.items()))), lambda of: f"%{numbers[of]}")
        digest.update(f"{node.op} {node.target} {arguments} {_sizes(node.meta.get('val'))}\n".encode())
    for name, tensor in sorted(net.graph.tensors.items()):
        digest.update(f"{name} {_sizes(tensor)}\n".encode())
    for dimension in net.space.dimensions:
        digest.update(f"{dimension.name} {dimension.kind} {dimension.size} {dimension.choices}\n".encode())
    digest.update(" ".join(_sizes(given) for given in net.example_inputs).encode())
    return digest.hexdigest()


def _sizes(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype}{tuple(value.shape)}"
    return f"[{', '.join(map(_sizes, value))}]" if isinstance(value, (tuple, list)) else type(value).__name__
