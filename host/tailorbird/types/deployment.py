"""What an agent says about itself: deployments, lease, events, device figures."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from tailorbird.types.device import DeviceCard, Sensors
from tailorbird.types.measurement import Measurement


class DeploymentState(enum.StrEnum):
    """Where a model stands on a device."""

    ABSENT = "absent"
    STAGED = "staged"  # verified, not loaded
    LOADED = "loaded"  # loaded and checked, not serving
    TRIAL = "trial"  # serving, not yet committed
    COMMITTED = "committed"  # serving, survives a restart
    ROLLED_BACK = "rolled back"  # came back to the previous bundle


@dataclass(frozen=True, slots=True)
class RungStatus:
    """A rung of the serving ladder and the requests it answered since activation."""

    name: str
    runtime: str
    accuracy: float
    cpu_us: float
    requests: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on a device. Bundles are named by SHA-256, None when there is none; rungs are smallest first."""

    model: str
    state: DeploymentState
    active: str | None
    previous: str | None
    staged: str | None
    generation: int
    rungs: tuple[RungStatus, ...]
    current_rung: str
    policy: str
    slo_us: float | None
    requests: int
    misses: int
    switches: int
    worker_pid: int | None


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """Who holds a device until when. fencing_token grows with every lease the agent ever granted.

    waiting: how many wait in line with at least the holder's priority.
    """

    lease_id: str
    holder: str
    fencing_token: int
    expires: datetime
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One snapshot of a device."""

    card: DeviceCard
    sensors: Sensors
    deployments: tuple[Deployment, ...]
    lease: LeaseGrant | None
    uptime_s: float
    sandbox: tuple[str, ...]
    last_event: int
    power_mode: str = ""  # governor, boost and the like; "" when the kernel does not tell
    benchmarks: tuple[str, ...] = ()  # names that benchmark() takes


@dataclass(frozen=True, slots=True)
class Event:
    """Something the agent did or noticed. Sequence numbers are persisted by the agent and never reused."""

    sequence: int
    time: datetime
    kind: str
    model: str
    message: str
    details: tuple[tuple[str, str], ...] = field(default=())

    def detail(self, name: str) -> str | None:
        """One of the details, None when the event does not carry it."""
        return dict(self.details).get(name)


@dataclass(frozen=True, slots=True)
class Policy:
    """The adaptation policy of a model, its deadline, and the policies the agent knows."""

    name: str
    slo_us: float | None
    available: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One micro-benchmark of a device: best sustained value, its unit (GFLOP/s, GB/s, ns), raw samples."""

    name: str
    value: float
    unit: str
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class BlobState:
    """How much of a blob the agent holds."""

    sha256: str
    complete: bool
    offset_bytes: int
