"""Probe: how far the answers of a subnet are from the full network's, without labels.

Both run on the statistics of the batch, which stands in for recalibration: with the full network's running statistics
a probe would see mostly the shift that recalibration removes. What a change of one factor does not reach is not
computed again: its nodes take their values from the full network's run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from tailorbird.errors import UsageError
from tailorbird.graph import Mode
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.sized import Plan
    from tailorbird.supernet.supernet import SuperNet

_HELD_BYTES = 1 << 30  # of the full network's activations
#: Of what subnets learnt: all of it, in the full network too. A change alone would have little of it, many together
#: have most: what it does to weights that stay the same is what adds up.
_SHARE = 1.0


class Probe:
    """The full network's run on one batch, against which subnets are compared.

    Holds its activations, up to a gibibyte from the first operator on.
    """

    def __init__(self, net: SuperNet, batch: Batch, task: Task | None = None) -> None:
        self._net = net
        self._task = task or Task.of()
        self._leaves = net.bound(batch.inputs).leaves
        self._sized = net.at(self._leaves, Config())
        plan = self._sized.plan(Config(), Mode.PROBE)
        run = _Remembering(plan.module)
        with torch.no_grad():
            self.reference = self._answer(run.run(*self._sized.stored(plan, {}, _SHARE), *self._leaves))
        self._values = run.values
        self._nodes = {node.name: node for node in plan.module.graph.nodes}
        self._reusable = not any(_mutates(node) for node in plan.module.graph.nodes)

    def answer(self, config: Config) -> Any:
        """A subnet's output, in the user's structure."""
        chosen = self._net.space.canonical(config)
        sized = self._net.at(self._leaves, chosen)
        plan = sized.plan(chosen, Mode.PROBE)
        unchanged = self._unchanged(plan) if sized is self._sized else []  # at another resolution everything changes
        known: dict[Node, Any] = {node: self._values[node.name] for node in unchanged if node.name in self._values}
        with torch.no_grad():
            tensors = sized.stored(plan, {}, _SHARE)
            return self._answer(Interpreter(plan.module).run(*tensors, *self._leaves, initial_env=known))

    def divergence(self, config: Config) -> float:
        """Distance of a subnet's answers from the full network's by the task's measure; for classes in nats.

        Raises: UsageError when the task cannot compare them.
        """
        return self.distance(self.answer(config), config)

    def distance(self, answer: Any, config: Config) -> float:
        """Distance of an answer of `config` from the full network's. Raises: UsageError."""
        with torch.no_grad():
            try:
                return float(self._task.distance(answer, self.reference))
            except UsageError:
                raise
            except Exception as error:  # the user's own function
                raise UsageError(
                    f"the distance of task {self._task.name!r} cannot compare {named(config)} to the full network",
                    why=f"{type(error).__name__}: {error}",
                    fix="distance(output, wanted) takes two outputs in the network's own structure and gives a scalar",
                ) from error

    def _answer(self, flat: Any) -> Any:
        return pytree.tree_unflatten(flat, self._sized.graph.out_spec)

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


class _Remembering(Interpreter):
    """Keeps the results of the first operators, as many as fit: changes of later ones leave them as they are."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}
        self._left = _HELD_BYTES

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function":
            self._left -= sum(x.nbytes for x in pytree.tree_leaves(result) if isinstance(x, Tensor))
            if self._left >= 0:
                self.values[n.name] = result
        return result


def named(config: Config) -> str:
    """A configuration in words."""
    changes = [*(f"{name}={size}" for name, size in config.sizes), *(f"without {name}" for name in config.skipped)]
    return " ".join(changes) or "the full network"


def _same_call(left: Node, right: Node) -> bool:
    return _by_name(left.args) == _by_name(right.args) and _by_name(left.kwargs) == _by_name(right.kwargs)


def _by_name(arguments: Any) -> Any:
    return map_arg(arguments, lambda node: f"%{node.name}")


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable
