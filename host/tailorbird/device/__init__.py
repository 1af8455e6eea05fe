"""An agent seen from the host: connect, lease, measure, push, deploy, infer; several of them as a pool."""

from tailorbird.device.address import Address
from tailorbird.device.client import Device
from tailorbird.device.compare import Comparison
from tailorbird.device.lease import Lease
from tailorbird.device.local import LocalAgent, default_state_dir, local
from tailorbird.device.pool import DevicePool, PoolEvent
from tailorbird.device.registry import Devices

__all__ = [
    "Address",
    "Comparison",
    "Device",
    "DevicePool",
    "Devices",
    "Lease",
    "LocalAgent",
    "PoolEvent",
    "default_state_dir",
    "local",
]
