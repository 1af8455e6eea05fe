"""elastic(): compile a user's network to a SuperNet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tailorbird.errors import ElasticError, InputShapeError
from tailorbird.graph import (
    ElasticGraph,
    Inputs,
    Pin,
    find_stages,
    importance,
    live_nodes,
    trace,
    trace_rigid,
    without,
)
from tailorbird.supernet.agreement import any_batch, check_repeatable, compare, expected_outputs
from tailorbird.supernet.dimensions import find_dimensions, is_wanted
from tailorbird.supernet.intake import frozen_copy, read_example
from tailorbird.supernet.options import Divisor, Options, Patterns
from tailorbird.supernet.ranking import WITH_DATA, Loss, check_criterion, descending
from tailorbird.supernet.resolution import NAME, find_choices, find_image
from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.supernet.supernet import SuperNet
from tailorbird.supernet.survey import survey


def elastic(
    model: nn.Module,
    example_inputs: tuple[Any, ...] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    only: Patterns | None = None,
    freeze: Patterns | None = None,
    divisor: Divisor | None = None,
    choices: Mapping[str, Sequence[int]] | None = None,
    importance: str = "l2",
    calibration: Iterable[Any] | None = None,
    loss: Loss | None = None,
) -> SuperNet:
    """Compile a network to a SuperNet: find what can shrink, pin what cannot, prove the full net unchanged.

    example_inputs, kwargs: what the model is called with, `model(*example_inputs, **kwargs)`; a mapping alone holds
    keyword inputs (`elastic(model, tokenizer(text, return_tensors="pt"))`). Inputs may be nested or None.
    only, freeze: patterns (`layer2.*`, `*:kernel`) on the names of dimensions of every kind.
    divisor: widths are kept in multiples of it (default 8), or a mapping from patterns to such numbers; heads in
    multiples of 1 unless a pattern says otherwise. A width below twice its divisor uses a half, quarter, ... of it.
    choices: sizes to offer, by pattern, instead of 1/4, 1/2 and 3/4 (widths, heads) or 3, 5, 7, ... (kernels); the full
    size always belongs to them. `{"resolution": [64, 96]}` lets subnets look at images of these heights, which by
    default networks for images of at least 96 pixels do, at multiples of 32 from half the size on.
    importance: which channels a subnet keeps first: "l2" or "l1" norm of the weights, or measured on `calibration`, an
    iterable of batches: "activation", or "taylor" with `loss` of scores and labels (default: cross entropy); see
    `ranking`.
    The model may be in train or eval mode and is not changed.

    Raises: ElasticError, naming the op and the line of the model's code, when there is no SuperNet that computes the
    same; InputShapeError when the model does not run on the inputs; UsageError for a pattern that matches nothing or
    sizes that do not fit.
    """
    started = time.perf_counter()
    options = Options.of(only, freeze, divisor, choices, importance)
    check_criterion(importance, calibration)
    with torch.inference_mode(mode=False), torch.compiler.set_stance("force_eager"):
        weights = frozen_copy(model)
        inputs = read_example(weights, example_inputs, kwargs)
        with torch.autocast(inputs.tensors[0].device.type, enabled=False):
            net = _compile(weights, inputs, options)
    if importance in WITH_DATA:
        net.rank(importance, calibration, loss)
    net.report = replace(net.report, build_seconds=round(time.perf_counter() - started, 3))
    return net


def _compile(weights: nn.Module, inputs: Inputs, options: Options) -> SuperNet:
    name = type(weights).__name__
    buffers = {key: value.clone() for key, value in weights.named_buffers()}
    answers, left_out = expected_outputs(weights, inputs)
    graph = trace(weights, inputs)
    check_repeatable(answers, name, graph)
    net = _assemble(name, weights, graph, inputs, options)
    if graph.batch is not None and not any_batch(net, weights, inputs):
        graph = trace_rigid(weights, inputs, Pin("self-check", "outputs differ at another batch size"))
        net = _assemble(name, weights, graph, inputs, options)
    notes = (*net.report.notes, *compare(net, answers[0], inputs), *map(_left_out, left_out))
    net.report = replace(net.report, notes=notes)
    _offer_resolution(net, options)
    with torch.no_grad():  # a counter that a forward pass keeps must not count the passes made here
        for key, value in weights.named_buffers():
            value.copy_(buffers[key])
    return net.eval()


def _offer_resolution(net: SuperNet, options: Options) -> None:
    """Let subnets look at smaller images if the network works on them: same outputs, same groups, same blocks."""
    image = find_image(net.example)
    if image is None or not is_wanted(NAME, options):
        return
    one = net.example if net.graph.batch is None else net.example.map_batched(lambda x: x[:1])
    choices = find_choices(image, net.weights, one, options)
    if len(choices) == 1:
        return
    plain_space = net.space
    net.image, net.space = image, plain_space.extended(Dimension(NAME, "resolution", image.height, choices))
    smallest = net.space.smallest()
    try:
        foreign = net.at(one.leaves, smallest).foreign
    except (InputShapeError, ElasticError):
        foreign = frozenset({NAME})
    if not foreign.isdisjoint(d.name for d in net.space.dimensions):  # it runs, but not as the same network
        net.image, net.space = None, plain_space
        return
    report = survey(net.report.model, net.graph, net.space, net.orders)
    net.report = replace(
        report,
        notes=net.report.notes,
        macs_smallest=net.macs(smallest),
        peak_bytes_smallest=net.peak_activation_bytes(smallest),
    )


def _left_out(kind: str) -> str:
    return f"the {kind} in the output holds no tensors as far as PyTorch knows: it is None in the SuperNet's output"


def _assemble(name: str, weights: nn.Module, graph: ElasticGraph, inputs: Inputs, options: Options) -> SuperNet:
    space = _space(graph, options, has_image=find_image(inputs) is not None)
    norm = 1 if options.importance == "l1" else 2
    orders = {g.name: descending(importance(g, graph.tensors, graph.stored, norm)) for g in graph.groups}
    report = survey(name, graph, space, orders)
    return SuperNet(weights, graph, space, orders, report, options, inputs).eval()


def _space(graph: ElasticGraph, options: Options, *, has_image: bool) -> SearchSpace:
    dimensions = find_dimensions(graph, options, (NAME,) if has_image else ())
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

    blocks = [d.name for d in dimensions if d.kind == "depth"]
    return SearchSpace(dimensions, dead, without(find_stages(graph.blocks, graph.dims), blocks))
