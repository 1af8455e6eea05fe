"""An agent seen from the host: connect, lease, measure, push, deploy, infer."""

from tailorbird.device.address import Address
from tailorbird.device.client import Device
from tailorbird.device.lease import Lease
from tailorbird.device.local import LocalAgent, default_state_dir, local
from tailorbird.device.registry import Devices

__all__ = ["Address", "Device", "Devices", "Lease", "LocalAgent", "default_state_dir", "local"]
