"""Ranking: which channels of each group a subnet keeps first.

- l2, l1: the norm of each index within every weight that stores it, each weight scaled to mean 1, summed
  (group-norm criterion of DepGraph, Fang et al., CVPR 2023, eq. 5). Needs no data.
- taylor: the first-order estimate of what removal does to the loss, |w * dL/dw| summed over all parameters that store
  the index (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, eq. 8). Needs labels.
- activation: mean |activation| on data, of every tensor that carries the index, each scaled to mean 1, summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.graph import ElasticGraph, Group, Mode, importance, per_index
from tailorbird.supernet.accuracy.measure import evaluating
from tailorbird.supernet.loader import Batch, logits, read
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

WITHOUT_DATA = ("l2", "l1")
WITH_DATA = ("taylor", "activation")

Loss = Callable[[Tensor, Tensor], Tensor]


def check_criterion(criterion: str, calibration: Iterable[Any] | None) -> None:
    """Raises: UsageError when there is no such criterion, or no data for it."""
    if criterion not in {*WITHOUT_DATA, *WITH_DATA}:
        raise UsageError(
            f"no importance is called {criterion!r}", fix=f"pass one of {', '.join((*WITHOUT_DATA, *WITH_DATA))}"
        )
    if criterion in WITH_DATA and calibration is None:
        raise UsageError(
            f"the importance {criterion!r} is measured on data, and there is none",
            fix="pass `calibration`, a loader of (inputs, labels)" if criterion == "taylor" else "pass `calibration`",
        )


def rank(
    net: SuperNet, criterion: str, loader: Iterable[Any] | None = None, loss: Loss | None = None, images: int = 512
) -> dict[str, Tensor]:
    """Indices of every group from the most to the least important; equal scores in original order.

    loader: batches of (inputs, labels), at most `images` samples are read; loss: of scores and labels (default cross
    entropy). The net is left as it was. Raises: UsageError.
    """
    check_criterion(criterion, loader)
    groups = net.graph.groups
    if criterion in WITHOUT_DATA:
        tensors = {name: net.tensor(name) for group in groups for name, _ in group.uses}
        scores = {g.name: importance(g, tensors, net.graph.stored, 2 if criterion == "l2" else 1) for g in groups}
    else:
        with evaluating(net):
            batches = read(loader or (), net.device, images)
            if criterion == "taylor":
                scores = _taylor(net, batches, loss or functional.cross_entropy)
            else:
                scores = _activation(net, batches)
    return {name: descending(score) for name, score in scores.items()}


def descending(scores: Tensor) -> Tensor:
    """Indices from the most to the least important; equal scores in original order."""
    return torch.argsort(scores, descending=True, stable=True)


def _taylor(net: SuperNet, batches: Iterable[Batch], loss: Loss) -> dict[str, Tensor]:
    names = [name for name in net.graph.parameters if net.tensor(name).requires_grad]
    weights = {name: net.tensor(name) for name in names}
    totals = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    seen = 0
    with torch.enable_grad():
        for batch in batches:
            value = loss(logits(net(*batch.inputs.args, **batch.inputs.kwargs)), batch.known())
            found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for (name, weight), gradient in zip(weights.items(), found, strict=True):
                if gradient is not None:
                    totals[name] += (weight.detach() * gradient).abs().to(torch.float64) * batch.size
            seen += batch.size
    _check_seen(seen)
    scores = {}
    for group in net.graph.groups:
        scores[group.name] = torch.zeros(group.atom.size, dtype=torch.float64)
        for name, axis in group.uses:
            if name in totals:
                scores[group.name] += _along(totals[name].cpu(), axis, net, group, name)
    return scores


def _along(total: Tensor, axis: int, net: SuperNet, group: Group, name: str) -> Tensor:
    energy = total.movedim(axis, 0).reshape(total.shape[axis], -1).sum(1)
    return per_index(energy, net.graph.stored[name][axis], group.atom)


def _activation(net: SuperNet, batches: Iterable[Batch]) -> dict[str, Tensor]:
    found = _Sums()
    seen = 0
    with torch.no_grad():
        for batch in batches:
            leaves = net.bound(batch.inputs).leaves
            sized = net.at(leaves, Config())
            plan = sized.plan(Config(), Mode.EVAL)
            watch = _Watched(sized.graph, plan.module, found, batch.size)
            watch.run(*sized.stored(plan, {}), *leaves)
            seen += batch.size
    _check_seen(seen)
    return found.scores(net.graph)


class _Sums:
    """Mean absolute values by group and tensor, summed over batches."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int], Tensor] = {}

    def add(self, group: Group, tensor: str, axis: int, value: Tensor) -> None:
        key = (group.name, tensor, axis)
        self._found[key] = self._found.get(key, torch.zeros_like(value)) + value

    def scores(self, graph: ElasticGraph) -> dict[str, Tensor]:
        total = {group.name: torch.zeros(group.atom.size, dtype=torch.float64) for group in graph.groups}
        for (name, _, _), value in self._found.items():
            if name in total and value.mean() > 0:
                total[name] += value / value.mean()
        return total


class _Watched(Interpreter):
    """Runs the full network on a batch and notes |activation| of every index of every tensor that carries a group."""

    def __init__(self, graph: ElasticGraph, module: GraphModule, found: _Sums, samples: int) -> None:
        super().__init__(module)
        self._found, self._samples = found, samples
        groups = {group.atom: group for group in graph.groups}
        self._carried = {
            node.name: [
                (axis, dim, groups[atom])
                for axis, dim in enumerate(dims)
                if not any(atom.batch for segment in dim for atom in segment)  # its size is the one of the capture
                for atom in dict.fromkeys(atom for segment in dim for atom in segment)
                if atom in groups
            ]
            for node, dims in graph.dims.items()
            if node.op == "call_function"
        }

    def run_node(self, n: Node) -> Any:
        """As usual, noting the mean absolute value along every axis that carries a group."""
        value = super().run_node(n)
        if n.op == "call_function" and isinstance(value, Tensor) and value.is_floating_point():
            for axis, dim, group in self._carried.get(n.name, ()):
                mean = value.abs().movedim(axis, 0).reshape(value.shape[axis], -1).to(torch.float64).mean(1).cpu()
                self._found.add(group, n.name, axis, per_index(mean, dim, group.atom) * self._samples)
        return value


def _check_seen(samples: int) -> None:
    if not samples:
        raise UsageError("there is nothing to rank on", why="the loader gave no batch", fix="pass a loader with data")
