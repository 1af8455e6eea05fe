"""Sized: the network at one size of its inputs, and the subnets specialised from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from tailorbird.errors import InputShapeError
from tailorbird.graph import ElasticGraph, Mode, Shapes, Subgraph, specialise
from tailorbird.supernet.recent import Recent
from tailorbird.supernet.selection import Cuts, Selection, cut, like_weight, select
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_PLANS = 64  # specialised graphs kept for the elastic forward pass

Statistics = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """A specialised graph as a function of (stored tensors..., inputs...).

    share: how far the configuration's weights are from the user's towards those that subnets learnt.
    """

    module: GraphModule
    tensors: tuple[tuple[str, Cuts], ...]
    share: float


class Sized:
    """One capture of the user's network. Weights are the SuperNet's, constants its own: they may follow the size.

    foreign: dimensions of the search space that this capture does not have, or has in another place.
    """

    def __init__(self, net: SuperNet, graph: ElasticGraph, foreign: frozenset[str] = frozenset()) -> None:
        self.graph = graph
        self.foreign = foreign
        self._net = net
        # Constants of the forward pass and plain tensor attributes of the user's modules: they move with the network.
        own = {name for name, _ in net.weights.named_parameters(remove_duplicate=False)}
        own |= {name for name, _ in net.weights.named_buffers(remove_duplicate=False)}
        self._constants = {name: tensor for name, tensor in graph.tensors.items() if name not in own}
        self._plans: Recent[tuple[Config, Mode], Plan] = Recent(_PLANS)

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether inputs have the sizes of this capture."""
        pairs = zip(leaves, self.graph.inputs, strict=True)
        return all(
            size is None or size == actual
            for given, wanted in pairs
            if isinstance(given, Tensor)
            for size, actual in zip(wanted.shape, given.shape, strict=True)
        )

    def plan(self, config: Config, mode: Mode) -> Plan:
        """The specialised graph of a canonical configuration; the most recent ones are kept.

        Raises: InputShapeError when the configuration has dimensions that are not elastic at this size.
        """
        known = self._plans.get((config, mode))
        if known is not None:
            return known
        selection = self.selection(config)
        made = self.subgraph(config, selection, lifted=True, mode=mode)
        tensors = tuple((name, self._cuts(name, selection)) for name in made.tensors)
        plan = Plan(GraphModule(nn.Module(), made.graph), tensors, self._net.share(config))
        return self._plans.put((config, mode), plan)

    def subgraph(
        self, config: Config, selection: Selection, *, lifted: bool = False, mode: Mode = Mode.EVAL
    ) -> Subgraph:
        """The graph of a subnet, the resize of its input included; `selection` is that of the configuration."""
        made = specialise(
            self.graph, selection.sizes, selection.skipped, lifted=lifted, mode=mode, device=self.moved_to
        )
        self._net.resize_entry(made.graph, config, len(made.tensors) if lifted else 0)
        return made

    def run(self, config: Config, mode: Mode, leaves: Sequence[Any], statistics: Statistics) -> Any:
        """Output of a subnet in the user's output structure."""
        plan = self.plan(config, mode)
        return pytree.tree_unflatten(plan.module(*self.stored(plan, statistics), *leaves), self.graph.out_spec)

    def selection(self, config: Config) -> Selection:
        """What a canonical configuration keeps and skips. Raises: InputShapeError."""
        strange = sorted(self.foreign & {*(name for name, _ in config.sizes), *config.skipped})
        if strange:
            raise InputShapeError(
                f"{strange[0]} is not elastic at this size of the inputs",
                why=f"there the network is put together differently: {len(self.foreign)} dimensions differ",
                fix="compile the network for this size with elastic(model, example_inputs)",
            )
        return select(config, self.graph, self._net.orders)

    def shapes(self, config: Config, batch: int) -> tuple[Shapes, Selection]:
        """Sizes of all tensors of a subnet, and what it keeps."""
        selection = self.selection(config)
        return Shapes(self.graph, selection.sizes, batch), selection

    # -- tensors

    def stored(self, plan: Plan, statistics: Statistics, share: float | None = None) -> list[Tensor]:
        """The leading arguments of a plan: shared tensors, cut; recalibrated statistics where there are some.

        share: of what subnets learnt, by default the plan's.
        """
        part = plan.share if share is None else share
        return [statistics[name] if name in statistics else self.cut(name, cuts, part) for name, cuts in plan.tensors]

    def tensor(self, name: str) -> Tensor:
        """A parameter, buffer or constant by its name in the graph."""
        if name in self._constants:
            return self._constants[name]
        module: Any = self._net.weights
        *path, leaf = name.split(".")
        for part in path:  # by hand: this runs for every weight in every step, and getattr on a module is slow
            module = module._modules[part]  # noqa: SLF001
        found = module._parameters.get(leaf)  # noqa: SLF001
        return module._buffers[leaf] if found is None else found  # noqa: SLF001

    def is_constant(self, name: str) -> bool:
        """Whether a stored tensor belongs to this capture alone, and is no state of the user's modules."""
        return name in self._constants

    def cut(self, name: str, cuts: Cuts, share: float) -> Tensor:
        """A stored tensor as a subnet has it: cut, a smaller kernel also transformed. Gradients flow into both.

        share: of what subnets learnt.
        """
        learnt = self._net.learnt.get(name) if share and self._net.learnt is not None else None
        own = learnt if learnt is not None and share == 1 else self.tensor(name)
        if learnt is None or learnt is own:
            return self._cut(name, own, cuts)
        return like_weight(torch.lerp(self._cut(name, own, cuts), self._cut(name, learnt, cuts), share), own)

    def _cut(self, name: str, tensor: Tensor, cuts: Cuts) -> Tensor:
        transforms = self._net.transforms
        return transforms(name, tensor, cuts) if name in transforms.weights else cut(tensor, cuts)

    def _cuts(self, name: str, selection: Selection) -> Cuts:
        device = self.tensor(name).device
        return tuple((axis, indices.to(device)) for axis, indices in selection.cuts(self.graph.stored[name]))

    # -- changes

    @property
    def moved_to(self) -> torch.device | None:
        """Where the weights are if that is not where they were when the network was captured."""
        return None if self._net.device == self.graph.device else self._net.device

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Take the constants along when the network moves."""
        self._constants = {name: fn(tensor) for name, tensor in self._constants.items()}
        self._plans.clear()

    def forget_plans(self) -> None:
        """Drop what was made for an order of channels that no longer holds."""
        self._plans.clear()
