"""Memory and swap of the machine, and what this process holds of them."""

from __future__ import annotations

from tailorbird_agent.hardware.number import whole
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import Tree

_MEMINFO = "/proc/meminfo"
_STATUS = "/proc/self/status"
_NAMES = {
    "memory_total_bytes": "MemTotal",
    "memory_available_bytes": "MemAvailable",
    "swap_total_bytes": "SwapTotal",
    "swap_free_bytes": "SwapFree",
}


def meminfo_bytes(tree: Tree) -> dict[str, int]:
    """/proc/meminfo in bytes, by the kernel's names."""
    return _kilobytes(tree.text(_MEMINFO))


def read_memory(tree: Tree) -> list[Reading]:
    """Total and available memory, swap, and the resident set of this process."""
    fields = meminfo_bytes(tree)
    resident = _kilobytes(tree.text(_STATUS)).get("VmRSS")
    return [
        *(Reading(name, fields.get(key), f"{_MEMINFO} {key}") for name, key in _NAMES.items()),
        Reading("process_rss_bytes", resident, f"{_STATUS} VmRSS"),
    ]


def _kilobytes(text: str | None) -> dict[str, int]:
    fields = {}
    for line in (text or "").splitlines():
        key, _, rest = line.partition(":")
        value, _, unit = rest.strip().partition(" ")
        kilobytes = whole(value)
        if unit == "kB" and kilobytes is not None and kilobytes >= 0:
            fields[key] = kilobytes * 1024
    return fields
