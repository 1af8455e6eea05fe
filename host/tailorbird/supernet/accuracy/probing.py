"""Probing: changes made alone, and how far they take the network's answers."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.memory import Memory
from tailorbird.supernet.accuracy.probe import Probe, named
from tailorbird.supernet.accuracy.samples import sample_digests
from tailorbird.supernet.accuracy.shards import spread
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

#: The batch a probe ran on, and the configuration.
_Item = tuple[int, Config]


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """Divergence of each configuration, and how many runs were remembered."""

    divergences: dict[Config, float]
    remembered: int


@dataclass(slots=True, eq=False)
class Prober:
    """Probes configurations of a net on batches of held-out inputs, batch by batch: each holds many activations."""

    net: SuperNet
    task: Task
    batches: Sequence[Batch]
    _probe: Probe | None = field(default=None, init=False)
    _place: int = field(default=-1, init=False)

    def all(
        self,
        configs: Sequence[Config],
        memory: Memory,
        workers: int | None,
        on_done: Callable[[], None] = lambda: None,
    ) -> Probed:
        """Every configuration on every batch, each remembered as soon as it is known. on_done: after every run.

        Raises: UsageError, or EnvironmentFaultError when the worker processes die.
        """
        items = [(place, config) for place in range(len(self.batches)) for config in configs]
        found: dict[_Item, float] = {}
        asked = [self._asked(place) for place in range(len(self.batches))]
        for item in items:
            answer = memory.find({**asked[item[0]], "config": item[1].to_json()})
            if answer is not None:
                found[item] = float(answer["divergence"])
                on_done()
        left = [item for item in items if item not in found]
        with contextlib.closing(spread(self._run, left, workers)) as results:
            for item, divergence in results:
                memory.keep({**asked[item[0]], "config": item[1].to_json()}, {"divergence": divergence})
                found[item] = divergence
                on_done()
        samples = sum(batch.size for batch in self.batches)
        divergences = {
            config: sum(found[place, config] * b.size for place, b in enumerate(self.batches)) / samples
            for config in configs
        }
        return Probed(
            {config: max(0.0, value) for config, value in divergences.items()},
            (len(items) - len(left)) // max(1, len(self.batches)),
        )

    def _asked(self, place: int) -> dict[str, Any]:
        """What a probe's result depends on beside the network: all samples of its batch, whose statistics it uses."""
        digests = "".join(sample_digests(self.batches[place]))
        return {"kind": "probe", "batch": hashlib.sha256(digests.encode()).hexdigest()}

    def _run(self, item: _Item) -> float:
        place, config = item
        if self._probe is None or self._place != place:
            self._probe, self._place = None, place  # the old one first: two would not fit
            self._probe = Probe(self.net, self.batches[place], self.task)
        divergence = self._probe.divergence(config)
        if not math.isfinite(divergence):
            raise UsageError(
                f"the divergence of {named(config)} from the full network is {divergence}",
                why="one of them answers with NaN or infinity on the held-out samples",
                fix="check the network's weights and the data, or freeze this part: freeze=[...] of elastic()",
            )
        return divergence
