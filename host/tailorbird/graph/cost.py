"""What a subnet costs, from its dims alone: multiply-accumulates, parameters, longest path, peak activation memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from tailorbird.graph.algebra import Atom, Dims, extent
from tailorbird.graph.blocks import Block
from tailorbird.graph.capture import VIEWS, op_name
from tailorbird.graph.elastic_graph import ElasticGraph
from tailorbird.graph.registry import MACS, Shape
from tailorbird.graph.subgraph import live_nodes


@dataclass(frozen=True, slots=True)
class Shapes:
    """Sizes of all tensors of one subnet at one batch size."""

    source: ElasticGraph
    sizes: Mapping[Atom, int]
    batch: int = 1

    def of(self, node: Node) -> Shape:
        """Shape of a single-tensor node."""
        return self._shape(self.source.dims[node])

    def stored(self, name: str) -> Shape:
        """Shape of a parameter or buffer."""
        return self._shape(self.source.stored[name])

    def _shape(self, dims: Dims) -> Shape:
        return tuple(extent(dim, self.sizes).at(self.batch) for dim in dims)


def count_macs(shapes: Shapes, skipped: Collection[Block] = ()) -> int:
    """Multiply-accumulate operations of one forward pass; ops without weights or contractions count nothing."""
    live = live_nodes(shapes.source, skipped)
    bypassed = {block.add for block in skipped}
    total = 0
    for node in shapes.source.graph.nodes:
        cost = MACS.get(op_name(node)) if node.op == "call_function" and node in live else None
        if cost is not None and node not in bypassed:
            total += cost(node, shapes.of)
    return total


def count_parameters(shapes: Shapes, skipped: Collection[Block] = ()) -> int:
    """Elements of the parameters that are still used, shared ones once."""
    live = live_nodes(shapes.source, skipped)
    names = {str(node.target) for node in live if node.op == "get_attr"} & shapes.source.parameters
    return sum(math.prod(shapes.stored(name)) for name in names)


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """What no parallelism shortens: most operations, and most multiply-accumulates, on one way through the network."""

    operations: int
    macs: int


def critical_path(shapes: Shapes, skipped: Collection[Block] = ()) -> CriticalPath:
    """The longest ways from an input to an output of one forward pass; views are no operations."""
    source = shapes.source
    live = live_nodes(source, skipped)
    bypass = {block.add: block.bypass for block in skipped}
    operations: dict[Node, int] = {}
    macs: dict[Node, int] = {}
    for node in source.graph.nodes:
        if node not in live:
            continue
        before = [bypass[node]] if node in bypass else node.all_input_nodes
        works = node.op == "call_function" and node not in bypass and op_name(node) not in {*VIEWS, "getitem"}
        cost = MACS.get(op_name(node)) if works else None
        operations[node] = max((operations[other] for other in before), default=0) + works
        macs[node] = max((macs[other] for other in before), default=0) + (cost(node, shapes.of) if cost else 0)
    return CriticalPath(max(operations.values(), default=0), max(macs.values(), default=0))


def peak_activation_bytes(shapes: Shapes, skipped: Collection[Block] = ()) -> int:
    """Largest sum of activations alive at once, in graph order; views count with the tensor they look into."""
    source = shapes.source
    live = live_nodes(source, skipped)
    bypass = {block.add: block.bypass for block in skipped}
    owner: dict[Node, Node] = {}
    last_use: dict[Node, int] = {}
    order = [node for node in source.graph.nodes if node in live and node.op != "get_attr"]
    for time, node in enumerate(order):
        operands = [bypass[node]] if node in bypass else node.all_input_nodes
        is_view = node in bypass or (node.op == "call_function" and op_name(node) in {*VIEWS, "getitem"})
        owner[node] = owner.get(operands[0]) or node if is_view and operands else node
        for operand in (node, *operands):
            if operand in owner:
                last_use[owner[operand]] = time
    alive = peak = 0
    ending: dict[int, int] = {}
    for time, node in enumerate(order):
        if owner[node] is node and node in source.dims:
            size = math.prod(shapes.of(node)) * _item_bytes(node)
            alive += size
            ending[last_use[node]] = ending.get(last_use[node], 0) + size
        peak = max(peak, alive)
        alive -= ending.pop(time, 0)
    return peak


def _item_bytes(node: Node) -> int:
    value = node.meta.get("val")
    return value.element_size() if isinstance(value, Tensor) else 0
