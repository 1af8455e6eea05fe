"""The largest rung that memory, heat and battery allow: pure functions of sensor readings and time.

Readings are looked up by the names the agent's sensors use; one that is absent or None never tightens a cap:
memory_some_avg10_percent, memory_available_bytes, thermal_headroom_c, throttled, battery_percent, battery_discharging.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tailorbird_agent.adapt.switch import Cause

Readings: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """When caps tighten and release; percentages as the kernel and the battery report them."""

    memory_pressure_percent: float = 5.0  # share of the last 10 s in which some task waited for memory
    memory_headroom: float = 1.3  # available memory over the rung's need
    memory_step_s: float = 2.0
    thermal_horizon_s: float = 60.0  # act when the trip point would be reached within this time
    thermal_window_s: float = 20.0  # the slope is taken over this time
    thermal_step_s: float = 10.0  # a board needs about this long to answer to a smaller rung
    calm_s: float = 30.0  # quiet time before each rung that a cap gives back
    battery_curve: tuple[tuple[float, float], ...] = (
        (15.0, 0.0),
        (30.0, 0.5),
    )  # (at most percent, share of the ladder)
    battery_hysteresis_percent: float = 2.0


@dataclass(frozen=True, slots=True)
class Cap:
    """Largest rung allowed, and which cap is the tightest (None: all rungs are allowed)."""

    index: int
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """One cap with a memory: it tightens in steps and releases after a calm time."""

    index: int
    changed_s: float = -math.inf
    calm_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class CapState:
    """All caps at one moment; headrooms are (time s, degrees C to the nearest trip point), oldest first."""

    top: int
    memory: Hold
    thermal: Hold
    battery: int
    headrooms: tuple[tuple[float, float], ...] = ()

    @property
    def cap(self) -> Cap:
        """The tightest cap; of equal ones memory before heat before battery."""
        caps = (
            Cap(self.memory.index, Cause.MEMORY),
            Cap(self.thermal.index, Cause.THERMAL),
            Cap(self.battery, Cause.BATTERY),
        )
        tightest = min(caps, key=lambda cap: cap.index)
        return tightest if tightest.index < self.top else Cap(self.top)


def uncapped(rungs: int) -> CapState:
    """The state to begin with, for a ladder of so many rungs."""
    top = rungs - 1
    return CapState(top, Hold(top), Hold(top), top)


def advance(
    state: CapState,
    readings: Readings,
    now_s: float,
    *,
    current: int,
    needs_bytes: Sequence[int | None] = (),
    limits: Limits | None = None,
) -> CapState:
    """The caps after one more look at the sensors; current is the rung serving, needs_bytes each rung's memory."""
    limits = limits or Limits()
    short = _memory_short(readings, current, needs_bytes, limits)
    headrooms = _remember(state.headrooms, readings.get("thermal_headroom_c"), now_s, limits.thermal_window_s)
    hot = readings.get("throttled") == 1.0 or seconds_to_trip(headrooms) < limits.thermal_horizon_s
    return replace(
        state,
        memory=_step(state.memory, state.top, current, now_s, limits.memory_step_s, limits.calm_s, stressed=short),
        thermal=_step(state.thermal, state.top, current, now_s, limits.thermal_step_s, limits.calm_s, stressed=hot),
        battery=_battery(state, readings, limits),
        headrooms=headrooms,
    )


def seconds_to_trip(headrooms: Sequence[tuple[float, float]]) -> float:
    """Time until the headroom is used up at its present (least-squares) slope; inf if unknown or not falling."""
    if headrooms and headrooms[-1][1] <= 0.0:
        return 0.0
    n = len(headrooms)
    if n < 3:
        return math.inf
    middle_s = sum(time_s for time_s, _ in headrooms) / n
    middle_c = sum(degrees for _, degrees in headrooms) / n
    variance = sum((time_s - middle_s) ** 2 for time_s, _ in headrooms)
    slope = sum((time_s - middle_s) * (degrees - middle_c) for time_s, degrees in headrooms)
    if variance == 0.0 or slope >= 0.0:
        return math.inf
    return headrooms[-1][1] * variance / -slope


def _memory_short(readings: Readings, current: int, needs_bytes: Sequence[int | None], limits: Limits) -> bool:
    pressure = readings.get("memory_some_avg10_percent")
    if pressure is not None and pressure > limits.memory_pressure_percent:
        return True
    available = readings.get("memory_available_bytes")
    need = needs_bytes[current] if current < len(needs_bytes) else None
    return available is not None and need is not None and available < limits.memory_headroom * need


def _remember(
    headrooms: tuple[tuple[float, float], ...], headroom_c: float | None, now_s: float, window_s: float
) -> tuple[tuple[float, float], ...]:
    kept = tuple(pair for pair in headrooms if pair[0] >= now_s - window_s)
    return kept if headroom_c is None else (*kept, (now_s, headroom_c))


def _step(hold: Hold, top: int, current: int, now_s: float, step_s: float, calm_s: float, *, stressed: bool) -> Hold:
    """Tighten to below the rung that serves now: a cap above it would relieve nothing."""
    if stressed:
        if now_s - hold.changed_s < step_s:
            return replace(hold, calm_since_s=None)
        return Hold(max(0, min(hold.index, current) - 1), now_s)
    if hold.index >= top:
        return hold
    calm_since_s = now_s if hold.calm_since_s is None else hold.calm_since_s
    if now_s - calm_since_s < calm_s:
        return replace(hold, calm_since_s=calm_since_s)
    return Hold(hold.index + 1, now_s, now_s)


def _battery(state: CapState, readings: Readings, limits: Limits) -> int:
    percent = readings.get("battery_percent")
    if percent is None or readings.get("battery_discharging") != 1.0:
        return state.top

    def allowed(charge: float) -> int:
        shares = [share for limit, share in limits.battery_curve if charge <= limit]
        return math.floor(min(shares, default=1.0) * state.top)

    # Between the two thresholds the cap stays as it was, so a charge that wavers by a percent moves nothing.
    low, high = allowed(percent - limits.battery_hysteresis_percent), allowed(percent)
    return min(max(state.battery, low), high)
