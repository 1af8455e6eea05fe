"""What the store knows of the subnets of a SuperNet, context by context."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tailorbird.db import MeasurementKey, Store
from tailorbird.types import Config, Context, Measurement, Verdict


@dataclass(frozen=True, slots=True)
class SubnetHistory:
    """Median on-CPU microseconds of the subnets of one SuperNet, by context; throttled: measurements left out.

    model: the SuperNet's identity, as profile_subnets was told.
    """

    model: str
    times: Mapping[Context, Mapping[Config, float]]
    throttled: int = 0

    @property
    def measurements(self) -> int:
        """How many times there are in all."""
        return sum(map(len, self.times.values()))


def subnet_subject(model: str, config: Config, built_as: str = "") -> str:
    """Canonical text of a subnet of a SuperNet: the subject of its measurements."""
    built = {"built": built_as} if built_as else {}
    return json.dumps({"model": model, "config": config.to_json()} | built, sort_keys=True, separators=(",", ":"))


def context_of(key: MeasurementKey, built: str = "") -> Context:
    """Where and under which circumstances something was measured; built: what else decides about its code."""
    system = " ".join(word for word in (key.context, built and f"built={built}") if word)
    return Context(key.device, key.runtime, key.runtime_version, key.threads, system)


def subnet_histories(store: Store) -> tuple[SubnetHistory, ...]:
    """One for each SuperNet that was ever measured, that with most measurements first.

    Of several measurements of a subnet in one context the newest counts, whichever protocol it was timed by. Times of a
    throttled device say how hot it was, not how fast: they are left out.
    """
    times: dict[str, dict[Context, dict[Config, float]]] = {}
    throttled: dict[str, int] = {}
    for key, measurement in store.measurements.newest("subnet").items():
        model, config, built = _subject(key.subject)
        if not _usable(measurement):
            throttled[model] = throttled.get(model, 0) + (measurement.verdict is Verdict.THROTTLED)
            continue
        times.setdefault(model, {}).setdefault(context_of(key, built), {})[config] = measurement.cpu_median_us
    found = [SubnetHistory(model, contexts, throttled.get(model, 0)) for model, contexts in times.items()]
    return tuple(sorted(found, key=lambda history: (-history.measurements, history.model)))


def _subject(text: str) -> tuple[str, Config, str]:
    fields = json.loads(text)
    return str(fields["model"]), Config.from_json(fields["config"]), str(fields.get("built", ""))


def _usable(measurement: Measurement) -> bool:
    return measurement.ok and measurement.verdict is not Verdict.THROTTLED and measurement.cpu_median_us > 0
