"""Load average, and the share of CPU time that the hypervisor gave to others."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.hardware.number import decimal, whole
from tailorbird_agent.hardware.reading import Reading
from tailorbird_agent.hardware.tree import Tree

_STAT = "/proc/stat"
_LOADAVG = "/proc/loadavg"


@dataclass(frozen=True, slots=True)
class Ticks:
    """CPU time of the whole machine since boot, in clock ticks."""

    total: int
    stolen: int


def read_ticks(tree: Tree) -> Ticks | None:
    """Counters of /proc/stat. Guest time is part of user time there, so only the first eight fields add up."""
    first = (tree.text(_STAT) or "").partition("\n")[0].split()
    fields = [count for count in map(whole, first[1:9]) if count is not None]
    if len(fields) < 8 or first[0] != "cpu":
        return None
    return Ticks(sum(fields), fields[7])


def read_load(tree: Tree, before: Ticks | None, now: Ticks | None) -> list[Reading]:
    """`load_1min`, and `steal_share` (0..1) between two looks at the counters; unknown at the first look."""
    words = (tree.text(_LOADAVG) or "").split()
    load = decimal(words[0]) if words else None
    share = None
    if before is not None and now is not None and now.total > before.total:
        share = max(0, now.stolen - before.stolen) / (now.total - before.total)
    return [
        Reading("load_1min", load, _LOADAVG),
        Reading("steal_share", share, f"{_STAT} steal, between two reads"),
    ]
