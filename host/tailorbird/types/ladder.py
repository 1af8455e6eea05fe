"""A ladder of subnets, from the smallest rung to the largest."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.types.config import Config


@dataclass(frozen=True, slots=True)
class Rung:
    """One subnet of a ladder. accuracy is a fraction measured on validation data; times are microseconds per batch."""

    name: str  # r0 is the smallest
    config: Config
    accuracy: float
    predicted_us: float
    measured_us: float | None
    macs: int
    params: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs sorted from fastest to slowest, accuracy rising with them; slo_us is the deadline they are meant for."""

    model: str
    device: str
    rungs: tuple[Rung, ...]
    slo_us: float | None = None
