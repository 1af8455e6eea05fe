"""Evaluator: subnets recalibrated and judged on held-out samples, by several processes where asked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.identity import tensors_digest
from tailorbird.supernet.accuracy.measure import judged
from tailorbird.supernet.accuracy.memory import Memory, packed, unpacked
from tailorbird.supernet.accuracy.samples import Samples
from tailorbird.supernet.accuracy.shards import spread
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.recalibrate import find_statistics, has_batch_norm
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_RECALIBRATION_BATCH = 128  # samples whose mean and variance are taken at once

Statistics = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """How a subnet did: its metric, and the batch_norm statistics it was found with."""

    config: Config
    accuracy: float
    statistics: Statistics
    remembered: bool


@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """Judges subnets of a net on the same samples. The net is left as it is.

    recalibration: batches whose statistics are measured, none for a network that keeps none; adopted: whether a subnet
    that was fine-tuned alone is judged with its own weights, or as what the shared ones make of it.
    """

    net: SuperNet
    task: Task
    held_out: tuple[Batch, ...]
    recalibration: tuple[Batch, ...]
    question: Mapping[str, Any]
    adopted: bool = False

    @classmethod
    def of(cls, net: SuperNet, task: Task, held_out: Samples, recalibration: Samples | None, images: int) -> Evaluator:
        """recalibration: samples for batch_norm, by default the held-out ones (without their labels); images: so many.

        Raises: UsageError when the held-out samples have no labels.
        """
        for batch in held_out.batches:
            batch.known()
        if not has_batch_norm(net):
            return cls(net, task, held_out.batches, (), {"kind": "evaluation", "samples": held_out.sha256()})
        source = recalibration or held_out
        chunks = source.chunks(images, _RECALIBRATION_BATCH, whole=net.graph.batch is None)
        question = {
            "kind": "evaluation",
            "samples": held_out.sha256(),
            "recalibration": source.sha256(),
            "images": sum(chunk.size for chunk in chunks),
        }
        return cls(net, task, held_out.batches, chunks, question)

    def __call__(self, config: Config) -> tuple[float, Statistics]:
        """Metric of a canonical configuration and the statistics found for it. Raises: UsageError."""
        images = sum(batch.size for batch in self.recalibration)
        weights = self._weights(config)
        found = find_statistics(self.net, config, self.recalibration, images, weights) if images else {}
        return judged(self.net, config, self.held_out, self.task, {**weights, **found}).mean(), found

    def all(
        self,
        configs: Sequence[Config],
        memory: Memory,
        workers: int | None,
        on_done: Callable[[], None] = lambda: None,
    ) -> list[Judged]:
        """All configurations (canonical, distinct), in their order, each remembered as soon as it is known.

        Raises: UsageError, or EnvironmentFaultError when the worker processes die.
        """
        found: dict[Config, Judged] = {}
        for config in configs:
            answer = memory.find(self._asked(config))
            if answer is not None:
                found[config] = Judged(config, float(answer["metric"]), _unpack(answer["statistics"]), True)
                on_done()
        left = [config for config in configs if config not in found]
        with contextlib.closing(spread(self._portable, left, workers)) as results:
            for config, (metric, statistics) in results:
                memory.keep(self._asked(config), {"metric": metric, "statistics": statistics})
                found[config] = Judged(config, metric, _unpack(statistics), False)
                on_done()
        return [found[config] for config in configs]

    def _portable(self, config: Config) -> tuple[float, dict[str, Any]]:
        metric, statistics = self(config)
        return metric, {name: _pack(value) for name, value in statistics.items()}

    def _asked(self, config: Config) -> dict[str, Any]:
        asked = {**self.question, "config": config.to_json()}
        weights = self._weights(config)
        return {**asked, "weights": tensors_digest(weights)} if weights else asked

    def _weights(self, config: Config) -> Statistics:
        if not self.adopted:
            return {}
        own = self.net.statistics(config)
        return {name: value for name, value in own.items() if name in self.net.graph.parameters}


def require_finite(evaluation: Judged, what: str) -> None:
    """Raises: UsageError when a metric is no number."""
    if not math.isfinite(evaluation.accuracy):
        raise UsageError(
            f"the metric of {what} is {evaluation.accuracy}",
            why="the network answers with NaN or infinity, or the metric divides by nothing",
            fix="check the network's weights and the task's metric on the held-out data",
        )


def _pack(tensor: Tensor) -> dict[str, Any]:
    kind = tensor.dtype if tensor.dtype in {torch.float32, torch.float64} else torch.float32
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "values": packed(tensor.detach().cpu().to(kind).contiguous().numpy().tobytes()),
    }


def _unpack(statistics: Mapping[str, Any]) -> Statistics:
    found: Statistics = {}
    for name, item in statistics.items():
        dtype: torch.dtype = getattr(torch, item["dtype"])
        kind = np.float64 if dtype == torch.float64 else np.float32
        values = np.frombuffer(unpacked(item["values"]), dtype=kind).copy()
        found[name] = torch.from_numpy(values).view(item["shape"]).to(dtype)
    return found
