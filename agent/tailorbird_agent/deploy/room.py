"""Whether a new worker may come up beside the one that serves."""

from __future__ import annotations

from tailorbird_agent.hardware.memory import meminfo_bytes
from tailorbird_agent.hardware.tree import Tree

#: Memory that stays free whatever comes up: the machine does other things, too.
RESERVE_BYTES = 32 << 20


def has_room(swap: str, needed_bytes: int, available_bytes: int | None) -> bool:
    """Whether so many bytes fit; swap: "available" and "sparing" decide without looking, "auto" by what is available.

    A machine that does not tell its memory is taken to have room: a load that fails changes nothing.
    """
    if swap != "auto":
        return swap == "available"
    return available_bytes is None or needed_bytes + RESERVE_BYTES <= available_bytes


def available_bytes() -> int | None:
    """Memory the kernel could give to a new process now; None when it does not tell."""
    return meminfo_bytes(Tree()).get("MemAvailable")
