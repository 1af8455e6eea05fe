"""Subnet: an extracted network as zero-cost proxies need it, whose weights and nodes they read and change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from tailorbird.graph import Inputs, op_name
from tailorbird.supernet.loader import Batch, read
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_TRAINING = 5  # position of the argument of batch_norm
_LAYERS = ("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_PRODUCTS = ("linear", "addmm", "matmul", "mm", "bmm", "baddbmm", "einsum")


def trainable(net: SuperNet, config: Config) -> GraphModule:
    """The extracted subnet with every weight trainable and batch_norm on the statistics of the batch, as in train mode.

    Dropout stays off, so that scores are deterministic.
    """
    subnet = net.extract(config)
    for node in subnet.graph.nodes:
        if op_name(node) == "batch_norm":
            node.args = (*node.args[:_TRAINING], True, *node.args[_TRAINING + 1 :])
    subnet.recompile()
    for parameter in subnet.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return subnet


def layer_weights(subnet: GraphModule) -> dict[str, nn.Parameter]:
    """Weights of convolutions and of linear layers (any product with a stored matrix) by name, each once."""
    found: dict[str, nn.Parameter] = {}
    parameters = dict(subnet.named_parameters())
    for node in subnet.graph.nodes:
        if node.op == "call_function" and op_name(node) in (*_LAYERS, *_PRODUCTS):
            for operand in node.all_input_nodes:
                weight = parameters.get(str(operand.target)) if operand.op == "get_attr" else None
                if weight is not None and weight.ndim > 1:
                    found[str(operand.target)] = weight
    return found


def bypass(subnet: GraphModule, names: Iterable[str]) -> None:
    """Replace every node of these operators by its first operand."""
    wanted = set(names)
    for node in list(subnet.graph.nodes):
        if node.op == "call_function" and op_name(node) in wanted:
            node.replace_all_uses_with(_first(node))
            subnet.graph.erase_node(node)
    subnet.graph.lint()
    subnet.recompile()


def to_double(subnet: GraphModule) -> None:
    """Double precision throughout: weights, constants, and what the graph itself makes or converts."""
    single = (torch.float32, torch.float16, torch.bfloat16)

    def widened(value: Any) -> Any:
        return torch.float64 if value in single else value

    for node in subnet.graph.nodes:
        node.args = pytree.tree_map_only(torch.dtype, widened, node.args)
        node.kwargs = pytree.tree_map_only(torch.dtype, widened, node.kwargs)
    subnet.recompile()
    subnet.double()


def call(subnet: nn.Module, inputs: Inputs) -> Any:
    """The output, in the user's structure."""
    return subnet(*inputs.args, **inputs.kwargs)


def joined(loader: Iterable[Any], device: torch.device, images: int) -> Batch | None:
    """The first samples of a loader as one batch, without labels; None when it is empty."""
    batches = list(read(loader, device, images))
    if not batches:
        return None
    spec = batches[0].inputs.structure
    leaves = zip(*(batch.inputs.leaves for batch in batches), strict=True)
    sizes = [batch.size for batch in batches]
    return Batch(Inputs(*pytree.tree_unflatten([_cat(parts, sizes) for parts in leaves], spec)))


def _cat(parts: tuple[Any, ...], sizes: list[int]) -> Any:
    batched = all(isinstance(x, Tensor) and x.ndim and len(x) == size for x, size in zip(parts, sizes, strict=True))
    return torch.cat(parts) if batched else parts[0]


def _first(node: Node) -> Node:
    operand = node.args[0]
    assert isinstance(operand, Node)
    return operand
