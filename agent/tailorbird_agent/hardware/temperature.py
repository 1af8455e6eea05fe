"""Temperatures, and the distance to the temperature at which the kernel slows the device down."""

from __future__ import annotations

from tailorbird_agent.hardware.hwmon import HWMON, Chip
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import Tree

_ZONES = "/sys/class/thermal"
_SLOWING = frozenset({"passive", "hot", "critical"})  # "active" trip points only start fans
_COLDEST_C = -55.0  # drivers of absent sensors answer -274 or similar


def read_temperatures(tree: Tree, chips: list[Chip]) -> list[Reading]:
    """`temperature_c.NAME` per zone and chip channel, the highest, and the smallest headroom to a trip point."""
    readings: list[Reading] = []
    headrooms: list[tuple[float, str]] = []
    for zone in tree.names(_ZONES, "thermal_zone"):
        folder = f"{_ZONES}/{zone}"
        value = _celsius(tree, f"{folder}/temp")
        readings.append(_named(readings, tree.text(f"{folder}/type") or zone, zone, value, f"{folder}/temp"))
        trip = _trip(tree, folder)
        if value is not None and trip is not None:
            headrooms.append((trip[0] - value, trip[1]))
    for chip in chips:
        for channel in chip.channels("temp", "input"):
            path = f"{chip.folder}/temp{channel}_input"
            label = tree.text(f"{chip.folder}/temp{channel}_label") or str(channel)
            value = _celsius(tree, path)
            readings.append(_named(readings, f"{chip.name}.{label}", chip.folder.rpartition("/")[2], value, path))
            limit = _limit(tree, chip, channel)
            if value is not None and limit is not None:
                headrooms.append((limit[0] - value, limit[1]))
    known = [(reading.value, reading.source) for reading in readings if reading.value is not None]
    hottest, where = max(known, default=(None, f"{_ZONES}/thermal_zone*/temp {HWMON}/hwmon*/temp*_input"))
    headroom, trip_at = min(headrooms, default=(None, f"{_ZONES}/thermal_zone*/trip_point_*_temp"))
    return [
        Reading("temperature_max_c", hottest, where),
        Reading("thermal_headroom_c", headroom, trip_at),
        *readings,
    ]


def _named(taken: list[Reading], name: str, place: str, value: float | None, source: str) -> Reading:
    """Two zones may have the same type; the second is told apart by its place."""
    full = f"temperature_c.{name}"
    return Reading(full if all(each.name != full for each in taken) else f"{full}.{place}", value, source)


def _celsius(tree: Tree, path: str) -> float | None:
    millidegrees = tree.integer(path)
    return millidegrees / 1e3 if millidegrees is not None and millidegrees > _COLDEST_C * 1e3 else None


def _trip(tree: Tree, folder: str) -> tuple[float, str] | None:
    """Lowest trip point of a zone that slows the device, with its file; disabled ones are not above 0 degrees."""
    trips = []
    for file in tree.names(folder, "trip_point_"):
        if file.endswith("_temp") and tree.text(f"{folder}/{file[:-5]}_type") in _SLOWING:
            value = _celsius(tree, f"{folder}/{file}")
            if value is not None and value > 0.0:
                trips.append((value, f"{folder}/{file}"))
    return min(trips, default=None)


def _limit(tree: Tree, chip: Chip, channel: int) -> tuple[float, str] | None:
    for suffix in ("max", "crit"):
        path = f"{chip.folder}/temp{channel}_{suffix}"
        value = _celsius(tree, path)
        if value is not None and value > 0.0:
            return value, path
    return None
