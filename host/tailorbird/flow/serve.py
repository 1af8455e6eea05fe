"""Requests at a fixed rate over the Open Inference Protocol, in lanes that share every disturbance.

Each slot asks all lanes once, in random order, each after a pause of its own: asked back to back, the later lanes would
run on a used-up scheduler slice and see preemptions that are not theirs.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from tailorbird.device import Device
from tailorbird.errors import DeviceError
from tailorbird.flow.workspace import Note, silent
from tailorbird.types import Event
from tailorbird.ui.run import Burst, LaneSummary, Request, Serving, Switch

#: Fewer samples cannot support a 90th percentile (MLPerf Inference, early stopping at 99 % confidence).
_P90_REQUESTS = 64
#: Kind of the agent's event for a change of rung.
_SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Lane:
    """One way of choosing the rung: version "" leaves it to the policy, a rung's name pins it."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to ask: rate_hz slots per second for `seconds`, each asking every lane once, and the deadline."""

    lanes: tuple[Lane, ...]
    rate_hz: float
    seconds: float
    slo_us: float
    seed: int = 0


#: Called with the seconds since serving began, between requests: the place to start and stop a burner.
Tick = Callable[[float], None]


def serve(
    device: Device,
    model: str,
    traffic: Traffic,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    accuracy: Mapping[str, float],
    tick: Tick = lambda _seconds: None,
    bursts: Callable[[], tuple[Burst, ...]] = tuple,
    note: Note = silent,
) -> Serving:
    """Drive a served classifier and judge every answer.

    images: (N, C, H, W), labels: (N,); they are asked in random order, the same image for all lanes of a slot.
    accuracy: validation accuracy by rung, for the ladder-weighted figure. Latency is what the device took: queue and
    run, without the client.

    Raises:
        DeviceError: a request was refused or failed.
    """
    (tensor,), _ = device.signature(model)
    since = device.status().last_event
    order = random.Random(traffic.seed)  # noqa: S311  (an order of requests is no secret)
    requests: list[Request] = []
    started_at = datetime.now(UTC)
    started = time.monotonic()
    gap = 1.0 / traffic.rate_hz / len(traffic.lanes)
    slots = round(traffic.rate_hz * traffic.seconds)
    for slot in range(slots):
        pick = order.randrange(len(labels))
        lanes = order.sample(traffic.lanes, len(traffic.lanes))
        for place, lane in enumerate(lanes):
            due = slot / traffic.rate_hz + place * gap
            now = time.monotonic() - started
            tick(now)
            if due > now:
                time.sleep(due - now)
            sent = time.monotonic() - started
            answer = device.infer(model, {tensor.name: images[pick : pick + 1]}, lane.version, traffic.slo_us)
            latency = answer.queue_us + answer.wall_us
            missed = latency > traffic.slo_us if answer.missed is None else answer.missed
            (logits,) = answer.outputs.values()
            correct = int(np.argmax(logits)) == int(labels[pick])
            requests.append(Request(lane.name, sent, answer.rung, latency, missed, correct))
        if slot % max(round(traffic.rate_hz), 1) == 0:
            note(
                f"{slot / traffic.rate_hz:.0f} of {traffic.seconds:g} s, {_rung_words(requests, traffic.lanes[0].name)}"
            )
    tick(traffic.seconds)
    switches = tuple(_switch(event, started_at) for event in device.events(since, (_SWITCH,), model))
    lanes_done = tuple(
        replace(summarise(lane.name, requests, accuracy), switches=0 if lane.version else len(switches))
        for lane in traffic.lanes
    )
    return Serving(
        traffic.slo_us,
        traffic.rate_hz,
        time.monotonic() - started,
        lanes_done,
        tuple(requests),
        switches,
        bursts(),
    )


def summarise(lane: str, requests: Sequence[Request], accuracy: Mapping[str, float]) -> LaneSummary:
    """One lane's figures; the half width is that of a 95 % normal interval for a share."""
    mine = [request for request in requests if request.lane == lane]
    if not mine:
        raise DeviceError(f"no request was sent in the lane {lane}", fix="serve for longer, or at a higher rate")
    count = len(mine)
    good = sum(r.correct and not r.missed for r in mine) / count
    latencies = sorted(r.latency_us for r in mine)
    return LaneSummary(
        lane=lane,
        requests=count,
        misses=sum(r.missed for r in mine),
        miss_share=sum(r.missed for r in mine) / count,
        accuracy=sum(r.correct for r in mine) / count,
        effective_accuracy=good,
        effective_half_width=1.96 * math.sqrt(good * (1 - good) / count),
        weighted_accuracy=sum(accuracy.get(r.rung, 0.0) for r in mine if not r.missed) / count,
        p50_us=statistics.median(latencies),
        p90_us=latencies[math.ceil(0.9 * count) - 1] if count >= _P90_REQUESTS else None,
        switches=sum(a != b for a, b in itertools.pairwise(r.rung for r in mine)),
    )


def advantage(requests: Sequence[Request], lane: str, other: str) -> tuple[float, float]:
    """Effective accuracy of one lane minus another's, paired slot by slot, and its 95 % half width; fractions."""
    first, second = ([float(r.correct and not r.missed) for r in requests if r.lane == name] for name in (lane, other))
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(differences) < 2:
        return (differences[0] if differences else 0.0, math.inf)
    return statistics.fmean(differences), 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))


def _switch(event: Event, started_at: datetime) -> Switch:
    return Switch(
        at_s=(event.time - started_at).total_seconds(),
        from_rung=event.detail("from") or "",
        to_rung=event.detail("to") or "",
        cause=event.detail("cause") or "",
        message=event.message,
    )


def _rung_words(requests: Sequence[Request], lane: str) -> str:
    last = next((r for r in reversed(requests) if r.lane == lane), None)
    return f"{lane} on {last.rung}" if last else ""
