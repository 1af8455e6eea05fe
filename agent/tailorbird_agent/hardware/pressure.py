"""Pressure stall information: the share of time in which tasks waited for CPU, memory or I/O.

Kernels built without PSI, or booted with psi=0, have none.
"""

from __future__ import annotations

from tailorbird_agent.hardware.number import decimal
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import Tree

_LINES = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"))


def read_pressure(tree: Tree) -> list[Reading]:
    """`RESOURCE_some_avg10_percent` for cpu, memory and io, and `memory_full_avg10_percent`; over the last 10 s."""
    texts = {resource: tree.text(f"/proc/pressure/{resource}") for resource in ("cpu", "memory", "io")}
    return [
        Reading(
            f"{resource}_{kind}_avg10_percent", _avg10(texts[resource], kind), f"/proc/pressure/{resource} {kind} avg10"
        )
        for resource, kind in _LINES
    ]


def _avg10(text: str | None, kind: str) -> float | None:
    for line in (text or "").splitlines():
        words = line.split()
        if words and words[0] == kind:
            for word in words[1:]:
                key, _, value = word.partition("=")
                if key == "avg10":
                    return decimal(value)
    return None
