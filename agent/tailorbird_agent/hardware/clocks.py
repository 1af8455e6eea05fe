"""CPU clocks: now, the most the hardware can do, and the most the kernel allows at present."""

from __future__ import annotations

from tailorbird_agent.hardware.cpu import clocks_hz
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import CPUS, Tree, cpu_folders


def read_clocks(tree: Tree) -> list[Reading]:
    """`frequency_hz.cpuN` per core and over all cores the highest `frequency_hz`, `frequency_max_hz` (hardware) and
    `frequency_limit_hz` (kernel; heat lowers it).
    """
    cores = cpu_folders(tree)
    per_core = [_kilohertz(tree, core, "scaling_cur_freq") for core in cores]
    if not any(reading.value for reading in per_core):
        per_core = [
            Reading(f"frequency_hz.cpu{core}", hertz, "/proc/cpuinfo cpu MHz")
            for core, hertz in clocks_hz(tree).items()
        ]
    return [
        _highest("frequency_hz", per_core, "scaling_cur_freq"),
        _highest("frequency_max_hz", [_kilohertz(tree, c, "cpuinfo_max_freq") for c in cores], "cpuinfo_max_freq"),
        _highest("frequency_limit_hz", [_kilohertz(tree, c, "scaling_max_freq") for c in cores], "scaling_max_freq"),
        *per_core,
    ]


def _kilohertz(tree: Tree, core: str, file: str) -> Reading:
    path = f"{CPUS}/{core}/cpufreq/{file}"
    kilohertz = tree.integer(path)
    # Virtual machines and some drivers answer 0 for "unknown".
    return Reading(f"frequency_hz.{core}", kilohertz * 1e3 if kilohertz else None, path)


def _highest(name: str, readings: list[Reading], file: str) -> Reading:
    known = [(reading.value, reading.source) for reading in readings if reading.value is not None]
    value, source = max(known, default=(None, f"{CPUS}/cpu*/cpufreq/{file}"))
    return Reading(name, value, source)
