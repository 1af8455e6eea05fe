"""The device's state at one moment: every sensor that a Linux board may have, each optional."""

from __future__ import annotations

from pathlib import Path

from tailorbird_agent.hardware.card import usable_cores
from tailorbird_agent.hardware.cgroup import read_cgroup
from tailorbird_agent.hardware.clocks import read_clocks
from tailorbird_agent.hardware.disk import read_disk
from tailorbird_agent.hardware.hwmon import chips
from tailorbird_agent.hardware.load import Ticks, read_load, read_ticks
from tailorbird_agent.hardware.memory import read_memory
from tailorbird_agent.hardware.power import read_power
from tailorbird_agent.hardware.pressure import read_pressure
from tailorbird_agent.hardware.reading import Reading, Sensors
from tailorbird_agent.hardware.temperature import read_temperatures
from tailorbird_agent.hardware.throttle import read_throttle
from tailorbird_agent.hardware.tree import Tree


class SensorReader:
    """Reads all sensors, as often as asked; shares of time refer to the time since the previous read."""

    def __init__(self, root: Path | str = "/", disk_path: Path | str = "/") -> None:
        self._tree = Tree(root)
        self._disk_path = Path(disk_path)
        self._ticks: Ticks | None = None

    def read(self) -> Sensors:
        """One look at everything; takes a few milliseconds at most and never raises for a missing sensor."""
        tree = self._tree
        monitors = chips(tree)
        before, self._ticks = self._ticks, read_ticks(tree)
        memory = read_memory(tree)
        return Sensors(
            (
                *read_clocks(tree),
                *read_temperatures(tree, monitors),
                *read_throttle(tree, monitors),
                *read_pressure(tree),
                *memory,
                *read_load(tree, before, self._ticks),
                *read_power(tree, monitors),
                *_limits(tree, memory),
                read_disk(self._disk_path),
            )
        )


def _limits(tree: Tree, memory: list[Reading]) -> list[Reading]:
    """What may be used: the tighter of the machine's (or the affinity's) size and the cgroup's limit."""
    cgroup = read_cgroup(tree)
    cores = Reading("cpu_limit_cores", float(usable_cores(tree)), f"CPU affinity ({cgroup.cpu_source})")
    if cgroup.cpu_cores is not None and cgroup.cpu_cores < (cores.value or 0.0):
        cores = Reading("cpu_limit_cores", cgroup.cpu_cores, cgroup.cpu_source)
    total = next((reading.value for reading in memory if reading.name == "memory_total_bytes"), None)
    if cgroup.memory_bytes is not None and (total is None or cgroup.memory_bytes < total):
        limit = Reading("memory_limit_bytes", cgroup.memory_bytes, cgroup.memory_source)
    else:
        limit = Reading("memory_limit_bytes", total, f"/proc/meminfo MemTotal ({cgroup.memory_source})")
    return [
        cores,
        limit,
        Reading("cpu_throttled_count", cgroup.throttled_count, cgroup.throttled_source),
        Reading("cpu_throttled_us", cgroup.throttled_us, cgroup.throttled_source),
    ]
