"""The host's state: devices, measurements, schedules, bundles, leases, cached stages."""

from tailorbird.db.records import BundleRecord, DeviceRecord, FigureRecord, MeasurementKey, StageRecord
from tailorbird.db.schedules import DeviceSchedules
from tailorbird.db.store import Store, default_store, home

__all__ = [
    "BundleRecord",
    "DeviceRecord",
    "DeviceSchedules",
    "FigureRecord",
    "MeasurementKey",
    "StageRecord",
    "Store",
    "default_store",
    "home",
]
