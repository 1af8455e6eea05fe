"""ElasticGraph: a captured network whose dims, groups and blocks are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

import tailorbird.graph.rules  # noqa: F401  (fills the registry)
from tailorbird.graph.algebra import Atom, Dims, Pin, iter_atoms, resolve
from tailorbird.graph.analysis import Analysis, Resize
from tailorbird.graph.blocks import Block, find_blocks
from tailorbird.graph.capture import Capture, capture, trace_batch
from tailorbird.graph.groups import Group, PinnedAxis, find_groups, find_pinned
from tailorbird.graph.inputs import Inputs
from tailorbird.graph.kernels import Kernel, find_kernels


@dataclass(frozen=True, slots=True)
class Signature:
    """One input: its name, dtype and shape; None stands for the batch.

    Without a dtype it is no tensor but a constant, None mostly, that every call must repeat.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    constant: object = None


@dataclass(frozen=True)
class ElasticGraph:
    """The result of analysis. All dims are resolved and never change again.

    tensors: parameters, buffers and constants by name; stored: their dims; dims: those of every single-tensor node;
    resizes: integer arguments to re-evaluate; batch_pin: why only the example's batch size runs, None when any does.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    parameters: frozenset[str]
    out_spec: pytree.TreeSpec
    inputs: tuple[Signature, ...]
    dims: Mapping[Node, Dims]
    stored: Mapping[str, Dims]
    resizes: Mapping[Node, tuple[Resize, ...]]
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    kernels: tuple[Kernel, ...]
    pinned: tuple[PinnedAxis, ...]
    unknown_ops: tuple[Pin, ...]
    batch: Atom | None
    batch_pin: Pin | None

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Copies of a network share what describes it."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the network was captured."""
        first = next(node for node in self.graph.nodes if node.op == "placeholder")
        value: Tensor = first.meta["val"]
        return value.device


def trace(model: nn.Module, example: Inputs | tuple[Tensor, ...]) -> ElasticGraph:
    """Capture and analyse `model` (in eval mode), for any batch size where the network allows it.

    Raises: ModelError when torch.export cannot capture the model.
    """
    inputs = Inputs.of(example)
    batch = trace_batch(model, inputs)
    batch_pin = Pin("input", "the first input has no batch axis")
    if batch is not None:
        try:
            found = Analysis(capture(model, inputs, batch=batch))
        except Exception as error:  # the same capture at the example's own batch tells a bad model from a rigid one
            batch_pin = Pin(
                "torch.export", f"the network runs at the example's batch size only ({type(error).__name__})"
            )
        else:
            if found.algebra.batch_conflict is None:
                return _finish(found, None)
            batch_pin = found.algebra.batch_conflict
    return trace_rigid(model, inputs, batch_pin)


def trace_rigid(model: nn.Module, inputs: Inputs, batch_pin: Pin) -> ElasticGraph:
    """Capture and analyse `model` for the batch size of the example alone. Raises: ModelError."""
    return _finish(Analysis(capture(model, inputs, batch=None)), batch_pin)


def _finish(analysis: Analysis, batch_pin: Pin | None) -> ElasticGraph:
    source: Capture = analysis.capture
    for unsettled in (*analysis.tensor_dims.values(), *(found for _, found in analysis.tensors())):
        _resolved(unsettled)  # resolving may still pin: let that settle before anything is recorded
    stored = {name: _resolved(dims) for name, dims in analysis.tensor_dims.items()}
    dims = {node: _resolved(found) for node, found in analysis.tensors()}
    roles = {
        atom: role
        for role, dim in analysis.roles
        for atom in iter_atoms(resolve(dim))
        if not atom.batch and atom.pin is None
    }
    return ElasticGraph(
        graph=source.graph,
        tensors=source.tensors,
        parameters=source.parameters,
        out_spec=source.out_spec,
        inputs=_signatures(analysis),
        dims=dims,
        stored=stored,
        resizes={node: tuple(map(_resolved_resize, found)) for node, found in analysis.resizes.items()},
        groups=find_groups(source.graph, stored, source.tensors, roles),
        blocks=find_blocks(source.graph, dims),
        kernels=find_kernels(source.graph, stored, source.tensors, source.parameters),
        pinned=find_pinned(source.graph, stored, source.parameters),
        unknown_ops=tuple(dict.fromkeys(analysis.pinned_ops.values())),
        batch=analysis.batch,
        batch_pin=batch_pin,
    )


def _resolved(dims: Dims) -> Dims:
    return tuple(map(resolve, dims))


def _resolved_resize(resize: Resize) -> Resize:
    return replace(resize, sizes=_resolved(resize.sizes))


def _signatures(analysis: Analysis) -> tuple[Signature, ...]:
    found = []
    for node in analysis.capture.graph.nodes:
        if node.op == "placeholder":
            value = node.meta["val"]
            if not isinstance(value, Tensor):
                found.append(Signature(node.name, "", (), value))
                continue
            batch = analysis.capture.batch
            shape = tuple(None if size == batch else size for size in analysis.shape(node))
            found.append(Signature(node.name, str(value.dtype).removeprefix("torch."), shape))
    return tuple(found)
