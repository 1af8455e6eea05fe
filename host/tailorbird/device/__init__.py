"""An agent seen from the host: connect, lease, measure, push, deploy, infer."""

from tailorbird.device.address import Address
from tailorbird.device.client import Device
from tailorbird.device.compare import Comparison, compare
from tailorbird.device.lease import Lease
from tailorbird.device.local import LocalAgent, default_state_dir, local
from tailorbird.device.registry import Devices

__all__ = [
    "Address",
    "Comparison",
    "Device",
    "Devices",
    "Lease",
    "LocalAgent",
    "compare",
    "default_state_dir",
    "local",
]
