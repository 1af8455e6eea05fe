"""Values of sensors. One that is absent has no value, and says where it was looked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One sensor: its name with the unit in it, the value or None, and the file it came from (or that was tried)."""

    name: str
    value: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Sensors:
    """The device's state at one moment."""

    readings: tuple[Reading, ...]

    def __getitem__(self, name: str) -> float | None:
        for reading in self.readings:
            if reading.name == name:
                return reading.value
        return None

    def as_dict(self) -> dict[str, float | None]:
        """Name to value, as the adaptation's caps take them."""
        return {reading.name: reading.value for reading in self.readings}
