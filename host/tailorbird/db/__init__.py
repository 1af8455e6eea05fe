"""The host's state: devices, measurements, schedules, bundles, leases, cached stages."""

from tailorbird.db.records import (
    BundleRecord,
    DeviceRecord,
    Donor,
    FigureRecord,
    HistoryRow,
    MeasurementKey,
    StageRecord,
    StoredSchedule,
)
from tailorbird.db.schedules import ClassSchedules, DeviceSchedules, ScheduleTable
from tailorbird.db.store import Store, default_store, home

__all__ = [
    "BundleRecord",
    "ClassSchedules",
    "DeviceRecord",
    "DeviceSchedules",
    "Donor",
    "FigureRecord",
    "HistoryRow",
    "MeasurementKey",
    "ScheduleTable",
    "StageRecord",
    "Store",
    "StoredSchedule",
    "default_store",
    "home",
]
