"""Survey: what a compiled network offers, as a report."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tailorbird.graph import ElasticGraph, Shapes, count_macs, count_parameters, live_nodes
from tailorbird.supernet.report import PinnedDimension, Report
from tailorbird.supernet.selection import Selection, select
from tailorbird.supernet.space import SearchSpace


def survey(model: str, graph: ElasticGraph, space: SearchSpace, orders: Mapping[str, Tensor]) -> Report:
    """Report on a network by name: dimensions, what is pinned and why, and the figures of its two extremes."""
    smallest = select(space.smallest(), graph, orders)
    full_shapes, small_shapes = Shapes(graph, {}), Shapes(graph, smallest.sizes)
    pin = graph.batch_pin
    return Report(
        model=model,
        dimensions=space.dimensions,
        pinned=_pinned(graph, space),
        unknown_ops=tuple(f"{why.op}: {why.reason}" for why in graph.unknown_ops),
        elastic_fraction=_elastic_fraction(graph, smallest),
        subnets=space.size,
        params_full=count_parameters(full_shapes),
        params_smallest=count_parameters(small_shapes, smallest.skipped),
        macs_full=count_macs(full_shapes),
        macs_smallest=count_macs(small_shapes, smallest.skipped),
        any_batch=pin is None,
        stages=space.stages,
        notes=() if pin is None else (f"runs at the example's batch size only: {pin.reason} ({pin.op})",),
    )


def _pinned(graph: ElasticGraph, space: SearchSpace) -> tuple[PinnedDimension, ...]:
    """Parameter axes that keep their size for a reason of the network, then groups left out by the options."""
    found = [
        PinnedDimension(f"{axis.name}[{axis.axis}]", axis.size, axis.why.op, axis.why.reason) for axis in graph.pinned
    ]
    offered = {dimension.name for dimension in space.dimensions}
    sizes = {**{g.name: g.atom.size for g in graph.groups}, **{k.name: k.size for k in graph.kernels}}
    found += [
        PinnedDimension(name, size, "options", "left out by `only`, `freeze` or `choices`")
        for name, size in sizes.items()
        if name not in offered
    ]
    return tuple(found)


def _elastic_fraction(graph: ElasticGraph, smallest: Selection) -> float:
    """Share of the parameters that are cut or gone in the smallest subnet."""
    live = {str(node.target) for node in live_nodes(graph, smallest.skipped) if node.op == "get_attr"}
    sizes = {name: graph.tensors[name].numel() for name in graph.parameters}
    shrinking = sum(n for name, n in sizes.items() if name not in live or smallest.cuts(graph.stored[name]))
    return shrinking / max(1, sum(sizes.values()))
