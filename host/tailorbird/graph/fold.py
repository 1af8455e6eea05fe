"""Fold batch_norm into the convolution or linear layer before it: the same function with fewer ops and tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from tailorbird.graph.capture import op_name
from tailorbird.graph.subgraph import as_module

_FOLDABLE = frozenset({"conv1d", "conv2d", "conv3d", "linear"})


def fold_batch_norm(module: GraphModule) -> GraphModule:
    """A copy of an ATen graph module with every foldable batch_norm folded.

    w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta, computed in float64.
    A batch_norm stays when its input is used elsewhere, when the weights before it are shared, or when it runs on the
    statistics of the batch. Works on extracted subnets and on `torch.export(...).module()`.
    """
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    graph.set_codegen(module.graph._codegen)  # noqa: SLF001  (the user's own input and output structure)
    for node in list(graph.nodes):
        if node.op == "call_module":  # the guards of an exported program
            graph.erase_node(node)
    tensors = {str(node.target): _attribute(module, str(node.target)) for node in graph.nodes if node.op == "get_attr"}
    trainable = {name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)}
    for node in list(graph.nodes):
        if node.op == "call_function" and op_name(node) == "batch_norm":
            _fold(graph, node, tensors, trainable)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
    kept = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    owned = {name: tensor.detach().clone() for name, tensor in tensors.items() if name in kept}
    return as_module(graph, owned, trainable, "Folded")


def _fold(graph: Graph, norm: Node, tensors: dict[str, Tensor], trainable: set[str]) -> None:
    layer = norm.args[0]
    if not isinstance(layer, Node) or layer.op != "call_function" or op_name(layer) not in _FOLDABLE:
        return
    weight: Any = layer.args[1]
    bias: Any = layer.args[2] if len(layer.args) > 2 else layer.kwargs.get("bias")
    gamma, beta, mean, var, training = norm.args[1:6]
    eps: Any = norm.args[7]
    if training or mean is None or var is None or len(layer.users) != 1 or not _sole(graph, weight):
        return
    if bias is not None and not _sole(graph, bias):
        return

    def value(node: Any, default: float) -> Tensor:
        if node is None:
            return torch.full_like(tensors[mean.target], default, dtype=torch.float64)  # type: ignore[union-attr, index]
        return tensors[str(node.target)].detach().double()

    stored = tensors[str(weight.target)]
    scale = value(gamma, 1) / torch.sqrt(value(var, 1) + eps)
    shift = (value(bias, 0) - value(mean, 0)) * scale + value(beta, 0)
    folded = stored.detach().double() * scale.reshape(-1, *([1] * (stored.ndim - 1)))
    tensors[str(weight.target)] = folded.to(stored.dtype)
    name = str(bias.target) if bias is not None else _free_name(str(weight.target).rpartition(".")[0], tensors)
    tensors[name] = shift.to(stored.dtype)
    trainable.add(name)
    if bias is None:
        with graph.inserting_before(layer):
            bias = graph.get_attr(name)
        bias.meta["val"] = tensors[name]
    layer.kwargs = {key: item for key, item in layer.kwargs.items() if key != "bias"}
    layer.args = (*layer.args[:2], bias, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    graph.erase_node(norm)


def _sole(graph: Graph, stored: Any) -> bool:
    """Whether a stored tensor has a single reader."""
    if not isinstance(stored, Node) or stored.op != "get_attr":
        return False
    readers = [node for node in graph.nodes if node.op == "get_attr" and node.target == stored.target]
    return len(readers) == 1 and len(stored.users) == 1


def _free_name(owner: str, tensors: dict[str, Tensor]) -> str:
    name = f"{owner}.bias" if owner else "bias"
    while name in tensors:
        name += "_folded"
    return name


def _attribute(root: nn.Module, name: str) -> Tensor:
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part)
    return value
