"""What the device is (`read_card`) and how it is at this moment (`SensorReader`), from /proc and /sys alone.

Everything takes a root, so that the same code reads a recorded tree. A sensor that is absent has the value None and
names the file that was tried; it is never 0.
"""

from tailorbird_agent.hardware.cache import Cache
from tailorbird_agent.hardware.card import Card, read_card
from tailorbird_agent.hardware.power_mode import read_power_mode
from tailorbird_agent.hardware.reading import Reading, Sensors
from tailorbird_agent.hardware.sensors import SensorReader

__all__ = ["Cache", "Card", "Reading", "SensorReader", "Sensors", "read_card", "read_power_mode"]
