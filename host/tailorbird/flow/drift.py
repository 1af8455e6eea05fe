"""Whether the rungs of a ladder still take as long on a device as when they were measured."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.device import Device
from tailorbird.errors import GateError
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.search import SearchOutcome
from tailorbird.flow.subnets import SubnetTimer
from tailorbird.flow.transfer import confirmed_drift
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.predict.drift import Drift, context_change
from tailorbird.types import Rung


@dataclass(frozen=True, slots=True)
class RungDrift:
    """A rung, its baseline in microseconds, and now / then; None where it was not measured in this context."""

    rung: str
    baseline_us: float | None
    ratio: float | None


def ladder_drift(
    workspace: Workspace, searched: SearchOutcome, device: Device, *, note: Note = silent
) -> tuple[Drift, tuple[RungDrift, ...]]:
    """Measure every rung again and compare it with its own baseline; in another context nothing is measured.

    Raises:
        GateError: no rung was ever measured on this device.
        DeviceError: it cannot time subnets, or went away.
    """
    net = searched.network.net
    timer = SubnetTimer(workspace.store, net, searched.network.example, latency_identity(net), note=note)
    present, rungs = timer.context(device), searched.ladder.rungs
    baseline = timer.known(device)
    watched = [rung.config for rung in rungs if rung.config in baseline]
    if not watched:
        earlier = [context for context in timer.contexts() if context.device == device.name and context != present]
        changed = context_change(earlier[-1], present) if earlier else None
        if changed is None:
            raise GateError(
                f"no rung of this ladder was measured on {device.name}",
                why="there is no baseline to compare with",
                fix=f"run `tailorbird search --proxy` or `tailorbird search` for {device.name}",
                reason="NOT_MEASURED",
            )
        return changed, tuple(RungDrift(rung.name, None, None) for rung in rungs)
    with device.lease() as lease:
        found = confirmed_drift(timer, device, watched, lease)
    return found, tuple(_of(rung, baseline.get(rung.config), found) for rung in rungs)


def _of(rung: Rung, baseline_us: float | None, found: Drift) -> RungDrift:
    return RungDrift(rung.name, baseline_us, found.ratios.get(rung.config))
