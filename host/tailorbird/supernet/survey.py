"""Survey: what a compiled network offers, as a report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from torch import Tensor

from tailorbird.graph import (
    Atom,
    ElasticGraph,
    Shapes,
    count_macs,
    count_parameters,
    live_nodes,
    peak_activation_bytes,
)
from tailorbird.supernet.report import ElasticDimension, PinnedDimension, Place, Report
from tailorbird.supernet.roles import Roles
from tailorbird.supernet.selection import Selection, select
from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.types import Config


def survey(model: str, graph: ElasticGraph, space: SearchSpace, orders: Mapping[str, Tensor]) -> Report:
    """Report on a network by name: dimensions, what is pinned and why, and the figures of its two extremes."""
    smallest = select(space.smallest(), graph, orders)
    full_shapes, small_shapes = Shapes(graph, {}), Shapes(graph, smallest.sizes)
    pin = graph.batch_pin
    roles = Roles(graph)
    return Report(
        model=model,
        inputs=tuple(
            f"{signature.name} {signature.dtype} "
            f"({', '.join('N' if size is None else str(size) for size in signature.shape)})"
            for signature in graph.inputs
        ),
        dimensions=_explained(graph, roles, space, orders),
        pinned=_pinned(graph, roles, space),
        unknown_ops=tuple(f"{why.op}: {why.reason}" for why in graph.unknown_ops),
        elastic_fraction=_elastic_fraction(graph, smallest),
        subnets=space.size,
        params_full=count_parameters(full_shapes),
        params_smallest=count_parameters(small_shapes, smallest.skipped),
        macs_full=count_macs(full_shapes),
        macs_smallest=count_macs(small_shapes, smallest.skipped),
        peak_bytes_full=peak_activation_bytes(full_shapes),
        peak_bytes_smallest=peak_activation_bytes(small_shapes, smallest.skipped),
        any_batch=pin is None,
        stages=space.stages,
        notes=()
        if pin is None
        else (f"captured for the example's batch size only, anew for another: {pin.reason} ({pin.op})",),
    )


def _explained(
    graph: ElasticGraph, roles: Roles, space: SearchSpace, orders: Mapping[str, Tensor]
) -> tuple[ElasticDimension, ...]:
    """Every dimension with what it is, where it is stored, and what it saves at its smallest choice."""
    groups = {group.name: group for group in graph.groups}
    kernels = {kernel.name: Place(_module(kernel.weight), "kernel") for kernel in graph.kernels}
    full = count_parameters(Shapes(graph, {}))
    holders = _holders(graph)

    def places(dimension: Dimension) -> tuple[Place, ...]:
        group = groups.get(dimension.name)
        if group is None:
            return (kernels[dimension.name],) if dimension.name in kernels else ()
        found = dict.fromkeys(Place(_module(name), roles.of(name, axis)) for name, axis in group.uses)
        home = dimension.name.partition(":")[0].partition("#")[0]
        return tuple(sorted(found, key=lambda place: place.module != home))

    def saved(dimension: Dimension) -> int:
        block = dimension.kind == "depth" and dimension.choices == (0, 1)
        alone = Config.of({}, [dimension.name]) if block else Config.of({dimension.name: dimension.choices[0]})
        small = select(alone, graph, orders)
        shapes = Shapes(graph, small.sizes)
        if small.skipped:
            return full - count_parameters(shapes, small.skipped)
        stored = {name for atom in small.sizes for name in holders.get(atom, ())}
        return sum(graph.tensors[name].numel() - math.prod(shapes.stored(name)) for name in stored)

    return tuple(
        ElasticDimension(
            dimension.name,
            dimension.kind,
            roles.of_group(groups[dimension.name]) if dimension.name in groups else dimension.kind,
            dimension.size,
            dimension.choices,
            places(dimension),
            saved(dimension),
        )
        for dimension in space.dimensions
    )


def _holders(graph: ElasticGraph) -> dict[Atom, set[str]]:
    """The parameters that store each atom."""
    found: dict[Atom, set[str]] = {}
    for name in graph.parameters:
        for atom in itertools.chain.from_iterable(itertools.chain.from_iterable(graph.stored[name])):
            found.setdefault(atom, set()).add(name)
    return found


def _pinned(graph: ElasticGraph, roles: Roles, space: SearchSpace) -> tuple[PinnedDimension, ...]:
    """Parameter axes that keep their size for a reason of the network, then groups left out by the options."""
    found = [
        PinnedDimension(
            f"{axis.name}[{axis.axis}]",
            axis.size,
            axis.why.op,
            axis.why.reason,
            _module(axis.name),
            roles.of(axis.name, axis.axis),
            axis.why.line,
        )
        for axis in graph.pinned
    ]
    offered = {dimension.name for dimension in space.dimensions}
    left_out = [
        *((g.name, g.name, g.atom.size, roles.of_group(g)) for g in graph.groups),
        *((k.name, _module(k.weight), k.size, "kernel") for k in graph.kernels),
    ]
    found += [
        PinnedDimension(name, size, "options", "left out by `only`, `freeze` or `choices`", module, what)
        for name, module, size, what in left_out
        if name not in offered
    ]
    return tuple(found)


def _module(tensor: str) -> str:
    """The module that owns a tensor; the tensor's own name where the root module does."""
    return tensor.rpartition(".")[0] or tensor


def _elastic_fraction(graph: ElasticGraph, smallest: Selection) -> float:
    """Share of the parameters that are cut or gone in the smallest subnet."""
    live = {str(node.target) for node in live_nodes(graph, smallest.skipped) if node.op == "get_attr"}
    sizes = {name: graph.tensors[name].numel() for name in graph.parameters}
    shrinking = sum(n for name, n in sizes.items() if name not in live or smallest.cuts(graph.stored[name]))
    return shrinking / max(1, sum(sizes.values()))
