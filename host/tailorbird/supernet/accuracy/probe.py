"""Probe: how far the answers of a subnet are from the full network's, without labels.

Both run on the statistics of the batch, which stands in for recalibration. What a change of one factor does not reach
is not computed again: its nodes take their values from the full network's run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg
from torch.nn import functional
from torch.utils import _pytree as pytree

from tailorbird.graph import Mode
from tailorbird.supernet.loader import Batch, logits
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.sized import Plan
    from tailorbird.supernet.supernet import SuperNet


class Probe:
    """The full network's run on one batch, against which subnets are compared. Holds all its activations."""

    def __init__(self, net: SuperNet, batch: Batch) -> None:
        self._net = net
        self._leaves = net.bound(batch.inputs).leaves
        self._sized = net.at(self._leaves, Config())
        plan = self._sized.plan(Config(), Mode.PROBE)
        run = Interpreter(plan.module, garbage_collect_values=False)
        with torch.no_grad():
            self._reference = self._scores(run.run(*self._sized.stored(plan, {}), *self._leaves))
        self._values = {node.name: value for node, value in run.env.items()}
        self._nodes = {node.name: node for node in plan.module.graph.nodes}
        self._reusable = not any(_mutates(node) for node in plan.module.graph.nodes)

    def divergence(self, config: Config) -> float:
        """Mean KL divergence of a subnet's answers from the full network's, in nats."""
        chosen = self._net.space.canonical(config)
        sized = self._net.at(self._leaves, chosen)
        plan = sized.plan(chosen, Mode.PROBE)
        unchanged = self._unchanged(plan) if sized is self._sized else []  # at another resolution everything changes
        known: dict[Node, Any] = {node: self._values[node.name] for node in unchanged}
        with torch.no_grad():
            out = Interpreter(plan.module).run(*sized.stored(plan, {}), *self._leaves, initial_env=known)
            return float(functional.kl_div(self._scores(out), self._reference, reduction="batchmean", log_target=True))

    def _scores(self, flat: Any) -> Tensor:
        scores = logits(pytree.tree_unflatten(flat, self._sized.graph.out_spec))
        return scores.reshape(-1, scores.shape[-1]).log_softmax(-1)

    def _unchanged(self, plan: Plan) -> list[Node]:
        """Nodes that compute the same as in the full network."""
        if not self._reusable:
            return []
        same: set[Node] = set()
        stored = {id(node): cuts for node, (_, cuts) in zip(plan.module.graph.nodes, plan.tensors, strict=False)}
        for node in plan.module.graph.nodes:
            twin = self._nodes.get(node.name)
            if twin is None or twin.op != node.op or twin.target != node.target:
                continue
            if node.op == "placeholder":
                equal = not stored.get(id(node))
            else:
                equal = same.issuperset(node.all_input_nodes) and _same_call(node, twin)
            if equal:
                same.add(node)
        return [node for node in same if node.op == "call_function"]


def _same_call(left: Node, right: Node) -> bool:
    return _by_name(left.args) == _by_name(right.args) and _by_name(left.kwargs) == _by_name(right.kwargs)


def _by_name(arguments: Any) -> Any:
    return map_arg(arguments, lambda node: f"%{node.name}")


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable
