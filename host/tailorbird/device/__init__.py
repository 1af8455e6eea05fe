"""An agent seen from the host: connect, lease, measure, push, deploy, infer; several of them as a pool."""

from tailorbird.device.address import Address
from tailorbird.device.client import Device
from tailorbird.device.compare import Comparison, compare
from tailorbird.device.lease import Lease
from tailorbird.device.local import LocalAgent, default_state_dir, local
from tailorbird.device.pool import DevicePool, PoolEvent
from tailorbird.device.registry import Devices
from tailorbird.device.rounds import Rounds, measure_rounds

__all__ = [
    "Address",
    "Comparison",
    "Device",
    "DevicePool",
    "Devices",
    "Lease",
    "LocalAgent",
    "PoolEvent",
    "Rounds",
    "compare",
    "default_state_dir",
    "local",
    "measure_rounds",
]
