"""Specialise: the graph of one subnet, with every size that follows a dim re-evaluated."""

from __future__ import annotations

import enum
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from tailorbird.graph.algebra import Atom, Dim, extent
from tailorbird.graph.analysis import Resize
from tailorbird.graph.blocks import Block
from tailorbird.graph.capture import op_name
from tailorbird.graph.elastic_graph import ElasticGraph
from tailorbird.graph.kernels import PADDING
from tailorbird.graph.names import argument, attribute_path
from tailorbird.graph.regions import CONTEXTS

_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
#: Position of the `train` argument of ops that behave otherwise in training.
TRAINING = {
    "batch_norm": 5,
    "instance_norm": 5,
    **dict.fromkeys(_DROPOUTS, 2),
    **dict.fromkeys(_RECURRENT, 6),
}


class Mode(enum.Enum):
    """How batch_norm and dropout behave."""

    EVAL = "eval"  # running statistics, no dropout
    TRAIN = "train"  # statistics of the batch, running ones not even read, dropout
    PROBE = "probe"  # statistics of the batch, no dropout


_LASTING_META = ("nn_module_stack", "stack_trace")


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A specialised graph and the stored tensors it reads, in the order of its first placeholders when lifted."""

    graph: Graph
    tensors: tuple[str, ...]


def specialise(
    source: ElasticGraph,
    sizes: Mapping[Atom, int],
    skipped: Collection[Block] = (),
    *,
    lifted: bool = False,
    mode: Mode = Mode.EVAL,
    device: torch.device | None = None,
) -> Subgraph:
    """Build the graph of one subnet. The source is not changed.

    lifted: stored tensors become leading inputs instead of attributes; device: where it will run, None for where
    it was captured.
    """
    bypass = {block.add: block.bypass for block in skipped}
    live = live_nodes(source, skipped)
    graph = Graph()
    new: dict[Node, Node] = {}
    stored = [node for node in source.graph.nodes if node.op == "get_attr" and node in live]
    if mode is not Mode.EVAL:
        stored = [node for node in stored if not _only_statistics(node, live)]
    place = {node: at for at, node in enumerate(node for node in source.graph.nodes if node.op == "get_attr")}
    for node in stored:
        name = str(node.target)
        new[node] = graph.placeholder(argument(place[node], name)) if lifted else graph.get_attr(attribute_path(name))
    inputs = [node for node in source.graph.nodes if node.op == "placeholder"]
    for node in inputs:
        new[node] = graph.node_copy(node)

    def operands(node: Node) -> Any:
        return new.get(node)  # None for a running statistic that was left out

    paddings = {kernel.node: kernel.padding_at(sizes) for kernel in source.kernels}
    batch = _BatchSize(graph, source, inputs, new)
    for node in source.graph.nodes:
        if node.op == "call_function" and node in bypass and node in live:
            new[node] = new[bypass[node]]
        elif node.op == "call_function" and node in live:
            new[node] = graph.node_copy(node, operands)
            _set_mode(new[node], mode)
            if device is not None:
                _set_device(new[node], device)
            _apply(source.resizes.get(node, ()), new[node], sizes, batch)
            if paddings.get(node) is not None:
                new[node].args = (*new[node].args[:PADDING], paddings[node], *new[node].args[PADDING + 1 :])
        elif node.op == "output":
            graph.node_copy(node, new.__getitem__)
    for node in graph.nodes:  # recorded values have the sizes of the full network at the trace batch
        node.meta = {key: value for key, value in node.meta.items() if key in _LASTING_META}
    if not lifted:
        graph.set_codegen(source.graph._codegen)  # noqa: SLF001  (the user's own input and output structure)
    return Subgraph(graph, tuple(str(node.target) for node in stored))


def live_nodes(source: ElasticGraph, skipped: Collection[Block]) -> frozenset[Node]:
    """Nodes the outputs still need when some blocks are bypassed."""
    bypass = {block.add: block.bypass for block in skipped}
    live: set[Node] = set()
    stack = [
        node for node in source.graph.nodes if node.op == "output" or (node.op == "call_function" and _has_effect(node))
    ]
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack.extend([bypass[node]] if node in bypass else node.all_input_nodes)
    return frozenset(live)


def _has_effect(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return op_name(node) in CONTEXTS if schema is None else schema.is_mutable


def _only_statistics(node: Node, live: Collection[Node]) -> bool:
    """Whether a stored tensor is only read as a running mean or variance."""
    users = [user for user in node.users if user in live]
    return all(
        op_name(user) in {"batch_norm", "instance_norm"} and node not in (*user.args[:3], *user.args[5:])
        for user in users
    )


def _set_mode(node: Node, mode: Mode) -> None:
    name = op_name(node)
    if mode is Mode.EVAL or (name in {*_DROPOUTS, *_RECURRENT} and mode is Mode.PROBE):
        return
    position = TRAINING.get(name)
    if position is not None:
        node.args = (*node.args[:position], True, *node.args[position + 1 :])


def _set_device(node: Node, device: torch.device) -> None:
    """A network is captured on one device: every device that an op names is that one, or the CPU on the way there."""

    def moved(argument: Any) -> Any:
        return device if isinstance(argument, torch.device) else argument

    node.args, node.kwargs = pytree.tree_map(moved, (node.args, dict(node.kwargs)))
    if op_name(node) == "_enter_autocast":
        node.args = (device.type, *node.args[1:])


class _BatchSize:
    """The batch size as a node of the graph, made when first needed."""

    def __init__(self, graph: Graph, source: ElasticGraph, inputs: list[Node], new: Mapping[Node, Node]) -> None:
        self._graph = graph
        self._node: Node | None = None
        self._products: dict[tuple[int, int], Node] = {}
        at = next(
            ((node, axis) for node in inputs for axis, size in enumerate(_shape(source, node)) if size is None), None
        )
        self._source = (new[at[0]], at[1]) if at else None

    def times(self, factor: int, plus: int) -> Node:
        """batch * factor + plus."""
        key = (factor, plus)
        if key not in self._products:
            if self._node is None:
                assert self._source is not None, "a size follows a batch that no input has"
                self._node = self._graph.call_function(torch.ops.aten.sym_size.int, self._source)
            value = self._node
            if factor != 1:
                value = self._graph.call_function(operator.mul, (value, factor))
            if plus:
                value = self._graph.call_function(operator.add, (value, plus))
            self._products[key] = value
        return self._products[key]


def _shape(source: ElasticGraph, node: Node) -> tuple[int | None, ...]:
    return next(signature.shape for signature in source.inputs if signature.name == node.name)


def _apply(resizes: tuple[Resize, ...], node: Node, sizes: Mapping[Atom, int], batch: _BatchSize) -> None:
    args = list(node.args)
    for resize in resizes:
        with node.graph.inserting_before(node):
            values = [_value(dim, sizes, batch) for dim in resize.sizes]
        args[resize.position] = values if resize.is_list else values[0]
    node.args = tuple(args)


def _value(dim: Dim, sizes: Mapping[Atom, int], batch: _BatchSize) -> int | Node:
    size = extent(dim, sizes)
    return batch.times(size.per_batch, size.constant) if size.per_batch else size.constant


def as_module(graph: Graph, tensors: Mapping[str, Tensor], trains: Mapping[str, bool], class_name: str) -> GraphModule:
    """A GraphModule in eval mode that owns `tensors` under dotted names.

    Those in `trains` become parameters, frozen where it says False; the others become buffers. A module called by a
    keyword gets an underscore.
    """
    root = nn.Module()
    for name, tensor in tensors.items():
        owner = root
        *path, leaf = attribute_path(name).split(".")
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        if name in trains:
            owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=trains[name]))
        else:
            owner.register_buffer(leaf, tensor)
    return GraphModule(root, graph, class_name).eval()
