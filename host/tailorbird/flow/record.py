"""Record how long every rung takes, slot by slot, so that any policy can be replayed on it.

Each slot asks every rung once, in rotated order, each after a pause of its own: asked back to back, the later rungs
would run on a used-up scheduler slice and see preemptions that are not theirs.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tailorbird.device import Device
from tailorbird.errors import DeviceError, EnvironmentFaultError
from tailorbird.flow.example import example
from tailorbird.flow.workspace import Note, silent
from tailorbird.units import time_words
from tailorbird_agent.adapt import RungProfile, make_ladder
from tailorbird_agent.adapt.trace import Trace, trace_document

_WARM_UPS = 3
_BUNDLE_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to record, and the time between slots, seconds."""

    seconds: float
    period_s: float

    @property
    def slots(self) -> int:
        """How many slots that makes."""
        return max(1, round(self.seconds / self.period_s))


def record(device: Device, model: str, plan: Plan, note: Note = silent) -> Trace:
    """Every rung of a served model measured in every slot.

    The times are the device's own: of the rung alone, without transport and queue. Pinned requests leave the policy's
    picture of the device as it is.

    Raises:
        DeviceError: the model does not serve, a request failed, or another bundle began to serve meanwhile.
    """
    deployed = device.deployment(model)
    if not deployed.rungs or deployed.active is None:
        raise DeviceError(f"{model} does not serve on {device.name}", fix="deploy it with `tailorbird deploy`")
    ladder = make_ladder(RungProfile(rung.name, rung.accuracy, rung.cpu_us) for rung in deployed.rungs)
    versions = [f"{deployed.active[:_BUNDLE_DIGITS]}/{rung.name}" for rung in ladder]
    inputs = example(device.signature(model)[0], seed=0)
    for version in versions * _WARM_UPS:
        device.infer(model, inputs, version)
    at_s, walls, cpus = [], [], []
    gap_s = plan.period_s / len(ladder)
    began = time.monotonic()
    for slot in range(plan.slots):
        answers = {}
        for place in range(len(ladder)):
            left_s = began + slot * plan.period_s + place * gap_s - time.monotonic()
            if left_s > 0.0:
                time.sleep(left_s)
            if not place:
                at_s.append(time.monotonic() - began)
            rung = (slot + place) % len(ladder)
            answers[rung] = device.infer(model, inputs, versions[rung])
        walls.append(tuple(answers[rung].wall_us for rung in range(len(ladder))))
        cpus.append(tuple(answers[rung].cpu_us for rung in range(len(ladder))))
        if slot % max(1, round(1.0 / plan.period_s)) == 0:
            note(f"slot {slot + 1} of {plan.slots}, {ladder[-1].name} took {time_words(walls[-1][-1])}")
    return Trace(ladder, plan.period_s, tuple(at_s), tuple(walls), tuple(cpus))


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace, one row to a line; the file appears whole or not at all.

    Raises:
        EnvironmentFaultError: it cannot be written.
    """
    document = trace_document(trace)
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in document.pop("rows"))
    text = f'{json.dumps(document)[:-1]}, "rows": [\n{rows}\n]}}\n'
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFaultError(
            f"cannot write {path}", why=error.strerror or str(error), fix="give -o a file in a folder you may write to"
        ) from error
