"""The context of a measurement: what it depends on beside the module, the runtime and the threads."""

from __future__ import annotations

from tailorbird.types import DeviceCard


def context_of(card: DeviceCard, power_mode: str) -> str:
    """`kernel=6.6.31 governor=performance`: one line that changes with whatever makes old figures stale."""
    return " ".join((f"kernel={card.kernel}", power_mode)).strip()
