"""Ways to bring a cost network to a device of which there are few records: one interface, chosen by name.

scratch            a fresh network on the device's records alone
zero-shot          the pretrained network as it is
fine-tune          the pretrained network, trained on with every round of records (TenSet)
moses-paper        the same, but only the share of each tensor's weights with the largest |w * dL/dw| moves
                   (Moses, Zhao et al. 2022, section 3.3); the others decay
moa                each round starts at a moving average of the earlier ones (Pruner, Qiao et al., ASPLOS 2025)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.tune.cost.corpus import Task
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.cost.network import USUAL, CostNetwork, NetworkShape
from tailorbird.tune.cost.training import Mask, Schedule, train

ONLINE = Schedule()

#: As Moses trains; it does not give the weight decay.
PAPER = Schedule(weight_decay=1e-2)


class Adaptation(Protocol):
    """A cost network on its way to a device. One object for one tuning run."""

    @property
    def network(self) -> CostNetwork:
        """The network as it is now."""
        ...

    def update(self, tasks: Sequence[Task]) -> None:
        """Learn from all records that the device has given so far, by kernel."""
        ...


@dataclass(slots=True)
class Tuned:
    """scratch and fine-tune: train on, from wherever the network stands."""

    network: CostNetwork
    schedule: Schedule = ONLINE
    seed: int = 0

    def update(self, tasks: Sequence[Task]) -> None:
        """All weights learn."""
        train(self.network, tasks, self.schedule, self.seed)


@dataclass(slots=True)
class Frozen:
    """zero-shot: what the device answers changes nothing."""

    network: CostNetwork

    def update(self, tasks: Sequence[Task]) -> None:
        """Nothing is learnt."""


@dataclass(slots=True)
class Masked:
    """moses-paper: the transferable weights learn, the others decay. ratio: share that is transferable."""

    network: CostNetwork
    ratio: float = 0.5
    schedule: Schedule = PAPER
    seed: int = 0

    def update(self, tasks: Sequence[Task]) -> None:
        """The mask is found anew at every step."""
        train(self.network, tasks, self.schedule, self.seed, masked=largest(self.ratio))


@dataclass(slots=True)
class Averaged:
    """moa: a slow network follows a quick one, which starts from it each round and gives the scores."""

    network: CostNetwork
    momentum: float = 0.9
    schedule: Schedule = ONLINE
    seed: int = 0
    _slow: CostNetwork | None = field(default=None, init=False)

    def update(self, tasks: Sequence[Task]) -> None:
        """slow = momentum * slow + (1 - momentum) * quick, after the quick one has learnt."""
        slow = self._slow if self._slow is not None else copy.deepcopy(self.network)
        self.network.load_state_dict(slow.state_dict())
        train(self.network, tasks, self.schedule, self.seed)
        with torch.no_grad():
            for average, quick in zip(slow.parameters(), self.network.parameters(), strict=True):
                average.lerp_(quick, 1.0 - self.momentum)
        self._slow = slow


def largest(ratio: float) -> Mask:
    """Where |w * gradient| is among the largest `ratio` of its tensor (Moses, equation 5)."""

    def mask(weight: Tensor, gradient: Tensor) -> Tensor:
        importance = (weight * gradient).abs().flatten()
        kept = max(1, round(ratio * importance.numel()))
        threshold = importance.kthvalue(importance.numel() - kept + 1).values
        return (importance >= threshold).view_as(weight)

    return mask


_BY_NAME: dict[str, Callable[[CostNetwork, int], Adaptation]] = {
    "zero-shot": lambda network, _: Frozen(network),
    "fine-tune": lambda network, seed: Tuned(network, seed=seed),
    "moses-paper": lambda network, seed: Masked(network, 0.5, seed=seed),
    "moses-paper-0.3": lambda network, seed: Masked(network, 0.3, seed=seed),
    "moses-paper-0.7": lambda network, seed: Masked(network, 0.7, seed=seed),
    "moa": lambda network, seed: Averaged(network, seed=seed),
}

#: Names that `adaptation` takes.
MODES = ("scratch", *_BY_NAME)


def adaptation(
    mode: str, pretrained: CostNetwork | None = None, *, shape: NetworkShape = USUAL, seed: int = 0
) -> Adaptation:
    """A way by its name. The pretrained network is copied; shape: of a network from scratch.

    Raises UsageError for an unknown name, CostModelError for a way that needs a pretrained network and has none.
    """
    if mode == "scratch":
        fresh = CostNetwork(shape, seed)
        if pretrained is not None:
            fresh.mean.copy_(pretrained.mean)
            fresh.deviation.copy_(pretrained.deviation)
        return Tuned(fresh, seed=seed)
    if mode not in _BY_NAME:
        raise UsageError(f"there is no cost-model mode {mode!r}", fix=f"choose one of {', '.join(MODES)}")
    if pretrained is None:
        raise CostModelError(
            f"mode {mode} needs a pretrained cost model",
            why="none was given and none is installed",
            fix="pretrain one, or use mode scratch",
        )
    return _BY_NAME[mode](copy.deepcopy(pretrained), seed)
