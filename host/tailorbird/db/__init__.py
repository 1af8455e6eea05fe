"""The host's state: devices, measurements, schedules, bundles, leases, cached stages."""

from tailorbird.db.records import BundleRecord, DeviceRecord, MeasurementKey, Schedule, StageRecord
from tailorbird.db.store import Store, default_store, home

__all__ = [
    "BundleRecord",
    "DeviceRecord",
    "MeasurementKey",
    "Schedule",
    "StageRecord",
    "Store",
    "default_store",
    "home",
]
