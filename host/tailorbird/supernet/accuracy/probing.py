"""Probing: changes made alone, and in pairs, and how far they take the network's answers."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.answers import Answers, comparable
from tailorbird.supernet.accuracy.memory import Memory, packed, unpacked
from tailorbird.supernet.accuracy.probe import Probe, named
from tailorbird.supernet.accuracy.samples import sample_digests
from tailorbird.supernet.accuracy.shards import spread
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_MOST_ELEMENTS = 1 << 24  # of answers kept in a table, 64 MiB

#: The batch a probe ran on, and the configuration.
_Item = tuple[int, Config]


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """Divergence of each configuration, the answers where they are kept, and how many runs were remembered."""

    divergences: dict[Config, float]
    answers: Answers | None
    remembered: int


@dataclass(slots=True, eq=False)
class Prober:
    """Probes configurations of a net on batches of held-out inputs, batch by batch: each holds many activations."""

    net: SuperNet
    task: Task
    batches: Sequence[Batch]
    _probe: Probe | None = field(default=None, init=False)
    _place: int = field(default=-1, init=False)
    _kept: int = field(default=0, init=False)  # batches whose answers go into the table

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
        own = self._found([(place, Config()) for place in range(len(self.batches))], memory, workers)
        reference = [_tensor(own[place, Config()]) for place in range(len(self.batches))]
        self._kept = _fitting(reference, len(configs))
        items = [(place, config) for place in range(len(self.batches)) for config in configs]
        found = self._found(items, memory, workers, on_done)
        samples = sum(batch.size for batch in self.batches)
        divergences = {
            config: sum(found[place, config]["divergence"] * b.size for place, b in enumerate(self.batches)) / samples
            for config in configs
        }
        kept = [wanted for wanted in reference[: self._kept] if wanted is not None]
        answers = None
        if kept:
            rows = [torch.cat([_change(found[place, c]) for place in range(len(kept))]) for c in configs]
            answers = Answers(tuple(kept), torch.stack(rows) if rows else torch.zeros(0, sum(x.numel() for x in kept)))
        return Probed(
            {config: max(0.0, value) for config, value in divergences.items()},
            answers,
            sum(found[item]["remembered"] for item in items) // max(1, len(self.batches)),
        )

    def _found(
        self, items: Sequence[_Item], memory: Memory, workers: int | None, on_done: Callable[[], None] = lambda: None
    ) -> dict[_Item, dict[str, Any]]:
        found: dict[_Item, dict[str, Any]] = {}
        asked = [self._asked(place) for place in range(len(self.batches))]

        def question(item: _Item) -> dict[str, Any]:
            return {**asked[item[0]], "config": item[1].to_json(), "answers": item[0] < self._kept}

        for item in items:
            answer = memory.find(question(item))
            if answer is not None:
                found[item] = {**answer, "remembered": True}
                on_done()
        left = [item for item in items if item not in found]
        with contextlib.closing(spread(self._run, left, workers)) as results:
            for item, answer in results:
                memory.keep(question(item), answer)
                found[item] = {**answer, "remembered": False}
                on_done()
        return found

    def _asked(self, place: int) -> dict[str, Any]:
        """What a probe's result depends on beside the network: all samples of its batch, whose statistics it uses."""
        digests = "".join(sample_digests(self.batches[place]))
        return {"kind": "probe", "batch": hashlib.sha256(digests.encode()).hexdigest()}

    def _run(self, item: _Item) -> dict[str, Any]:
        place, config = item
        if self._probe is None or self._place != place:
            self._probe, self._place = None, place  # the old one first: two would not fit
            self._probe = Probe(self.net, self.batches[place], self.task)
        probe = self._probe
        if config.is_full:
            reference = comparable(self.task, probe.reference)
            if reference is None or 2 * reference.numel() > _MOST_ELEMENTS:
                return {"shape": None, "values": None}
            return {"shape": list(reference.shape), "values": _packed(reference)}
        answer = probe.answer(config)
        divergence = probe.distance(answer, config)
        if not math.isfinite(divergence):
            raise UsageError(
                f"the divergence of {named(config)} from the full network is {divergence}",
                why="one of them answers with NaN or infinity on the held-out samples",
                fix="check the network's weights and the data, or freeze this part: freeze=[...] of elastic()",
            )
        change = None
        if place < self._kept:
            now, before = comparable(self.task, answer), comparable(self.task, probe.reference)
            assert now is not None
            assert before is not None
            change = now - before
        return {"divergence": divergence, "values": _packed(change)}


def _fitting(reference: Sequence[Tensor | None], rows: int) -> int:
    """How many batches' answers can be kept: as many as fit, in order, from the first."""
    total = 0
    for place, wanted in enumerate(reference):
        total += 0 if wanted is None else wanted.numel() * (rows + 1)
        if wanted is None or total > _MOST_ELEMENTS:
            return place
    return len(reference)


def _packed(values: Tensor | None) -> str | None:
    return None if values is None else packed(values.contiguous().numpy().tobytes())


def _change(found: dict[str, Any]) -> Tensor:
    return torch.from_numpy(np.frombuffer(unpacked(found["values"]), dtype=np.float32).copy())


def _tensor(found: dict[str, Any]) -> Tensor | None:
    return None if found["shape"] is None else _change(found).view(found["shape"])
