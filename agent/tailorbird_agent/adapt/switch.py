"""One change of rung, with everything needed to say why it happened and when it would be undone."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from math import isinf
from typing import Protocol


class Cause(enum.StrEnum):
    """What made a policy change the rung."""

    SPEED = "speed"  # the silicon runs slower or faster than profiled: clock, heat, memory bandwidth
    WAITS = "waits"  # others use the CPU: requests are kept off it more or less often
    MEMORY = "memory"
    THERMAL = "thermal"
    BATTERY = "battery"
    DEADLINE = "deadline"  # the request's deadline changed, or never fitted the old rung
    OPERATOR = "operator"
    FAULT = "fault"


CAPS = frozenset({Cause.MEMORY, Cause.THERMAL, Cause.BATTERY, Cause.OPERATOR, Cause.FAULT})


@dataclass(frozen=True, slots=True)
class Return:
    """The value of one quantity past which the old rung would be better again (below it, or above it)."""

    quantity: str  # "speed" (x), "waits" (per second on CPU), "deadline" (us), "latency" (us)
    value: float
    below: bool

    def return_point(self) -> Return:
        """Itself: a return point that needs no search."""
        return self

    def __str__(self) -> str:
        scale, unit = {"deadline": (1e-3, " ms"), "latency": (1e-3, " ms"), "waits": (1.0, "/s")}.get(
            self.quantity, (1.0, "")
        )
        return f"{self.quantity} {'<' if self.below else '>'} {_significant(self.value * scale)}{unit}"


class Outlook(Protocol):
    """What a policy knew when it switched, enough to find out when it would switch back."""

    def return_point(self) -> Return | None:
        """The return point, None when no value of any one quantity would undo the switch."""
        ...


@dataclass(frozen=True, slots=True)
class Switch:
    """A policy moved from one rung to another.

    speed is the factor on the profiled on-CPU time; hit rates are waits per second spent on the CPU; "before" means at
    the switch before this one. Probabilities and utilities are those at the moment of the switch, None where the policy
    has no such notion.
    """

    at_s: float
    from_rung: int
    to_rung: int
    from_name: str
    to_name: str
    cause: Cause
    deadline_us: float
    speed_before: float | None = None
    speed_after: float | None = None
    hit_rate_before_hz: float | None = None
    hit_rate_after_hz: float | None = None
    wait_us: float | None = None  # median of the waits seen lately
    p_from: float | None = None
    p_to: float | None = None
    gain: float | None = None
    runner_up: int | None = None  # the best rung not taken
    runner_up_name: str | None = None
    runner_up_utility: float | None = None
    outlook: Outlook | None = field(default=None, repr=False, compare=False)

    @property
    def returns(self) -> Return | None:
        """When the old rung would be better again; searched for on demand, off the request's path."""
        return self.outlook.return_point() if self.outlook is not None else None

    def explain(self) -> str:
        """One line: `r5->r4 speed x1.42 P(on time) .71->.98 gain +.19; would return to r5 when speed < 1.18`."""
        parts = [f"{self.from_name}->{self.to_name}", self._reason()]
        if self.p_from is not None and self.p_to is not None:
            parts.append(f"P(on time) {_fraction(self.p_from)}->{_fraction(self.p_to)}")
        if self.gain is not None:
            parts.append(f"gain {'-' if self.gain < 0 else '+'}{_fraction(abs(self.gain))}")
        line = " ".join(parts)
        if self.cause in CAPS and self.to_rung < self.from_rung:
            return f"{line}; would return to {self.from_name} when the {self.cause.value} cap lifts"
        point = self.returns
        return f"{line}; would return to {self.from_name} when {point}" if point is not None else line

    def _reason(self) -> str:
        if self.cause in CAPS:
            return f"{self.cause.value} cap" + (" lifted" if self.to_rung > self.from_rung else "")
        if self.cause is Cause.SPEED and self.speed_after is not None:
            return f"speed x{self.speed_after:.2f}"
        if self.cause is Cause.WAITS and self.hit_rate_before_hz is not None and self.hit_rate_after_hz is not None:
            size = "" if self.wait_us is None else f" of {_significant(self.wait_us / 1e3)} ms"
            return f"waits {_significant(self.hit_rate_before_hz)}->{_significant(self.hit_rate_after_hz)}/s{size}"
        if self.cause is Cause.DEADLINE:
            return "no deadline" if isinf(self.deadline_us) else f"deadline {_significant(self.deadline_us / 1e3)} ms"
        return self.cause.value


def _fraction(value: float) -> str:
    """.71, as people write probabilities; 1.00 keeps its digit, and what two digits would hide gets a third."""
    text = f"{value:.3f}" if 0.0 < value < 0.01 else f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text


def _significant(value: float) -> str:
    """Three significant digits without an exponent: 0.0123, 1.18, 85.0, 1240."""
    if value == 0.0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:#.3g}"
