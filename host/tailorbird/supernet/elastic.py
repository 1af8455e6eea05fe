"""elastic(): compile a user's network to a SuperNet."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tailorbird.errors import InputShapeError, ModelError
from tailorbird.graph import ElasticGraph, Pin, importance, live_nodes, trace, trace_rigid
from tailorbird.supernet.dimensions import find_dimensions
from tailorbird.supernet.options import Divisor, Options, Patterns
from tailorbird.supernet.space import SearchSpace
from tailorbird.supernet.supernet import SuperNet
from tailorbird.supernet.survey import survey

_OTHER_BATCHES = (2, 3)  # batch sizes at which the compiled network is compared with the user's


def elastic(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    only: Patterns | None = None,
    freeze: Patterns | None = None,
    divisor: Divisor | None = None,
    choices: Mapping[str, Sequence[int]] | None = None,
) -> SuperNet:
    """Compile a network to a SuperNet: find what can shrink, pin what cannot, prove the full net unchanged.

    only, freeze: patterns (`layer2.*`, `*:kernel`) on the names of dimensions of every kind.
    divisor: widths are kept in multiples of it (default 8), or a mapping from patterns to such numbers; heads in
    multiples of 1 unless a pattern says otherwise. A width below twice its divisor uses a half, quarter, ... of it.
    choices: sizes to offer, by pattern, instead of 1/4, 1/2 and 3/4 (widths, heads) or 3, 5, 7, ... (kernels); the full
    size always belongs to them.
    The model may be in train or eval mode and is not changed.

    Raises: ModelError when it cannot be copied or captured; InputShapeError when it does not run on the inputs;
    UsageError for a pattern that matches nothing or sizes that do not fit.
    """
    options = Options.of(only, freeze, divisor, choices)
    name = type(model).__name__
    weights = _frozen_copy(model)
    expected = _run(weights, example_inputs, name)
    graph = trace(weights, example_inputs)
    net = _assemble(name, weights, graph, options)
    if graph.batch is not None and not _any_batch(net, weights, example_inputs):
        graph = trace_rigid(weights, example_inputs, Pin("self-check", "outputs differ at another batch size"))
        net = _assemble(name, weights, graph, options)
    net.report = replace(net.report, notes=(*net.report.notes, *_compare(net, expected, example_inputs)))
    net.example_inputs = tuple(value.detach().clone() for value in example_inputs)
    return net.eval()


def _frozen_copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied",
            why=f"{type(error).__name__}: {error}",
            fix="pass a model that copy.deepcopy accepts: drop cached activations and open handles from its attributes",
        ) from error


def _run(model: nn.Module, inputs: tuple[Tensor, ...], name: str) -> Any:
    if not isinstance(inputs, tuple) or not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise InputShapeError(
            "example_inputs must be a tuple of tensors", fix=f"call elastic(model, (x,)) as you would call {name}(x)"
        )
    try:
        with torch.no_grad():
            return model(*(x.clone() for x in inputs))
    except Exception as error:
        raise InputShapeError(
            f"{name} does not run on the example inputs",
            why=f"{type(error).__name__}: {error}",
            fix=f"check that model(*example_inputs) runs; got shapes {[tuple(x.shape) for x in inputs]}",
        ) from error


def _assemble(name: str, weights: nn.Module, graph: ElasticGraph, options: Options) -> SuperNet:
    space = _space(graph, options)
    orders = {g.name: _descending(importance(g, graph.tensors, graph.stored)) for g in graph.groups}
    report = survey(name, graph, space, orders)
    return SuperNet(weights, graph, space, orders, report, options).eval()


def _descending(scores: Tensor) -> Tensor:
    """Indices from the most to the least important; equal scores in original order."""
    return torch.argsort(scores, descending=True, stable=True)


def _space(graph: ElasticGraph, options: Options) -> SearchSpace:
    dimensions = find_dimensions(graph, options)
    uses = {g.name: {name for name, _ in g.uses} for g in graph.groups}
    uses |= {kernel.name: {kernel.weight} for kernel in graph.kernels}
    by_name = {block.name: block for block in graph.blocks}

    def dead(skipped: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        live = live_nodes(graph, [by_name[name] for name in skipped])
        stored = {str(node.target) for node in live if node.op == "get_attr"}
        return (
            frozenset(name for name, tensors in uses.items() if not tensors & stored),
            frozenset(name for name, block in by_name.items() if block.add not in live),
        )

    return SearchSpace(dimensions, dead)


def _any_batch(net: SuperNet, weights: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether the compiled network follows the user's at batch sizes other than the traced one."""
    old = inputs[0].shape[0]
    for batch in _OTHER_BATCHES:
        rows = torch.arange(batch, device=inputs[0].device) % old
        other = tuple(x[rows] if x.ndim and x.shape[0] == old else x for x in inputs)
        try:
            with torch.no_grad():
                pairs = _pairs(weights(*other), net.eval()(*other))
        except Exception:
            return False
        if not all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs):
            return False
    return True


def _compare(net: SuperNet, expected: Any, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Check the promise that the full configuration is the user's network. Raises: ModelError when it is not."""
    with torch.no_grad():
        pairs = _pairs(expected, net.eval()(*(x.clone() for x in inputs)))
    if all(_identical(a, b) for a, b in pairs):
        return ()
    if all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in pairs):
        return ("the full configuration equals the model to rounding, not bitwise: eager mode takes a fused path",)
    raise ModelError(
        f"{net.report.model} does not compute the same once captured",
        why="its output depends on state or randomness that the captured graph does not hold",
        fix="make the eval-mode forward pass a function of inputs and weights alone",
    )


def _pairs(left: Any, right: Any) -> list[tuple[Tensor, Tensor]]:
    flat = (pytree.tree_leaves(left), pytree.tree_leaves(right))
    return [(a, b) for a, b in zip(*flat, strict=True) if isinstance(a, Tensor)]


def _identical(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return (
        bool(((left == right) | (left.isnan() & right.isnan())).all())
        if left.is_floating_point()
        else left.equal(right)
    )
