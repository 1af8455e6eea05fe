"""What the store takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tailorbird.types import DeviceCard, Figure
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device by name. card and last_seen are None until it was reached once."""

    name: str
    address: str
    tags: tuple[str, ...]
    card: DeviceCard | None
    added: datetime
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class MeasurementKey:
    """What was measured where and how: two measurements with one key may stand for each other.

    kind: kernel | subnet | figure; subject: canonical text that identifies it (a KernelSpec's or Config's JSON,
    a micro-benchmark's name); mode: the timing protocol's; context: what else it depends on (Device.context): with
    another kernel or power mode the device is measured anew.
    """

    device: str
    runtime: str
    runtime_version: str
    kind: str
    subject: str
    mode: str
    threads: int = 1
    context: str = ""


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """A bundle packed on this host."""

    sha256: str
    model: str
    device: str
    folder: str
    manifest: bytes
    packed: datetime


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A cached stage result."""

    key: str
    stage: str
    folder: str
    seconds: float
    built: datetime


@dataclass(frozen=True, slots=True)
class FigureRecord:
    """A measured property of a device: with how many threads, in which context (Device.context), and when."""

    figure: Figure
    threads: int
    context: str
    measured: datetime


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A tuning trial with the board it was made on, the class of that board, and when."""

    record: ScheduleRecord
    board: str
    device_class: str
    recorded: datetime


@dataclass(frozen=True, slots=True)
class Donor:
    """The fastest schedule of one kernel on one class of boards."""

    workload: Workload
    device_class: DeviceClass
    record: ScheduleRecord


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What the store knows of one kernel on one class of boards. best_us: None when every trial failed."""

    device_class: str
    workload: str
    name: str
    pattern: str
    shape: tuple[int, ...]
    flops: float
    trials: int
    failures: int
    best_us: float | None
    compiler: str
    newest: datetime
