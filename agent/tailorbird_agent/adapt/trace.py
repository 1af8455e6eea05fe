"""A recorded latency matrix: every variant measured in every slot, so any policy can be replayed exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tailorbird_agent.adapt.ladder import Ladder, RungProfile, make_ladder

SCHEMA = "tailorbird.trace/1"


@dataclass(frozen=True, slots=True)
class Trace:
    """wall_us and cpu_us: (slots, rungs), columns in the ladder's order; at_s: (slots,), when the requests arrive."""

    ladder: Ladder
    period_s: float
    at_s: tuple[float, ...]
    wall_us: tuple[tuple[float, ...], ...]
    cpu_us: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.wall_us:
            raise ValueError("a trace needs at least one row")
        if not len(self.at_s) == len(self.wall_us) == len(self.cpu_us):
            raise ValueError("a trace needs one time, one row of wall times and one of CPU times per slot")
        if any(later < earlier for earlier, later in pairwise(self.at_s)):
            raise ValueError("the times of a trace go back")
        for slot, rows in enumerate(zip(self.wall_us, self.cpu_us, strict=True)):
            for row in rows:
                if len(row) != len(self.ladder):
                    raise ValueError(f"trace row {slot} has {len(row)} times for {len(self.ladder)} variants")
                if not all(0.0 <= time_us < float("inf") for time_us in row):
                    raise ValueError(f"trace row {slot} holds a time that is negative or not finite")

    def __len__(self) -> int:
        return len(self.wall_us)


def parse_trace(document: Mapping[str, Any]) -> Trace:
    """Read a parsed `tailorbird.trace/1` document; milliseconds become microseconds, columns the ladder's order.

    Raises:
        ValueError: another schema, a field that is missing or of the wrong type, or rows that do not fit the variants.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"trace schema is {schema!r}, not {SCHEMA!r}")
    try:
        variants = [
            RungProfile(str(each["name"]), float(each["accuracy"]), float(each["cpu_ms"]) * 1e3)
            for each in document["variants"]
        ]
        ladder = make_ladder(variants)
        order = [variants.index(rung) for rung in ladder]
        rows = document["rows"]
        return Trace(
            ladder,
            float(document["period_s"]),
            tuple(float(row["t_s"]) for row in rows),
            tuple(_microseconds(row["wall_ms"], order) for row in rows),
            tuple(_microseconds(row["cpu_ms"], order) for row in rows),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"trace lacks a field or has one of the wrong type: {error!r}") from error


def trace_document(trace: Trace) -> dict[str, Any]:
    """The trace as a `tailorbird.trace/1` document, ready for json.dump."""
    return {
        "schema": SCHEMA,
        "period_s": trace.period_s,
        "variants": [
            {"name": rung.name, "accuracy": rung.accuracy, "cpu_ms": _milliseconds(rung.cpu_us)}
            for rung in trace.ladder
        ],
        "rows": [
            {"t_s": round(at_s, 5), "wall_ms": list(map(_milliseconds, wall)), "cpu_ms": list(map(_milliseconds, cpu))}
            for at_s, wall, cpu in zip(trace.at_s, trace.wall_us, trace.cpu_us, strict=True)
        ],
    }


def _milliseconds(time_us: float) -> float:
    """Rounded to 0.1 us, which is more than a clock read costs."""
    return round(time_us / 1e3, 4)


def _microseconds(row_ms: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    if len(row_ms) != len(order):
        raise ValueError(f"a trace row has {len(row_ms)} times for {len(order)} variants")
    return tuple(float(row_ms[index]) * 1e3 for index in order)
