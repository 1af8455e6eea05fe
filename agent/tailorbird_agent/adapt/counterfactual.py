"""What would have been decided under other conditions: the cause of a switch, and when it would be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tailorbird_agent.adapt.conditions import Conditions
from tailorbird_agent.adapt.ladder import RungProfile
from tailorbird_agent.adapt.switch import Cause, Return

_STEP, _STEPS, _HALVINGS = 1.15, 20, 12  # looks up to a factor of 16 away, to within 4e-5 of the value


def first_crossing(returned: Callable[[float], bool], start: float, *, rising: bool) -> float | None:
    """The value nearest to `start`, above it (rising) or below it, at which `returned` becomes true; None if none is.

    A geometric scan finds the first interval (far away both rungs are hopeless, so the predicate is not monotone),
    bisection the point in it.
    """
    factor = _STEP if rising else 1.0 / _STEP
    near = start
    for _ in range(_STEPS):
        far = near * factor
        if returned(far):
            for _ in range(_HALVINGS):
                middle = 0.5 * (near + far)
                near, far = (near, middle) if returned(middle) else (middle, far)
            return far
        near = far
    return None


@dataclass(frozen=True, slots=True)
class TwoChannelOutlook:
    """Conditions and deadline at a switch between two rungs; threshold is the gain for which the policy moves."""

    seen: Conditions
    deadline_us: float
    source: RungProfile
    target: RungProfile
    threshold: float
    cause: Cause

    def advantage(self) -> float:
        """Expected accuracy won by the switch."""
        p_target = self.seen.p_on_time(self.target.cpu_us, self.deadline_us)
        p_source = self.seen.p_on_time(self.source.cpu_us, self.deadline_us)
        return self.target.accuracy * p_target - self.source.accuracy * p_source

    def attribute(self, before: Conditions, deadline_before_us: float) -> Cause:
        """The channel without whose change since `before` the switch would have gained least.

        The deadline is blamed if no change explains the gain: then the old rung never fitted it.
        """
        slower = replace(self.seen, speed=before.speed, spread=before.spread)
        calmer = replace(self.seen, hit_rate_per_us=before.hit_rate_per_us, sums=before.sums)
        without = {
            Cause.DEADLINE: replace(self, deadline_us=deadline_before_us).advantage(),
            Cause.SPEED: replace(self, seen=slower).advantage(),
            Cause.WAITS: replace(self, seen=calmer).advantage(),
        }
        return min(without, key=without.__getitem__)

    def return_point(self) -> Return | None:
        """Vary the quantity that caused the switch, then the others, until the old rung wins by the threshold."""
        channels = {Cause.SPEED: self._by_speed, Cause.WAITS: self._by_waits, Cause.DEADLINE: self._by_deadline}
        for channel in sorted(channels, key=lambda cause: cause is not self.cause):
            point = channels[channel]()
            if point is not None:
                return point
        return None

    @property
    def _down(self) -> bool:
        return self.target.cpu_us < self.source.cpu_us

    def _returned(self, other: TwoChannelOutlook) -> bool:
        return -other.advantage() > self.threshold

    def _by_speed(self) -> Return | None:
        def returned(speed: float) -> bool:
            return self._returned(replace(self, seen=replace(self.seen, speed=speed)))

        value = first_crossing(returned, self.seen.speed, rising=not self._down)
        return None if value is None else Return("speed", value, below=self._down)

    def _by_waits(self) -> Return | None:
        def returned(rate: float) -> bool:
            return self._returned(replace(self, seen=replace(self.seen, hit_rate_per_us=rate)))

        value = first_crossing(returned, self.seen.hit_rate_per_us, rising=not self._down)
        return None if value is None else Return("waits", value * 1e6, below=self._down)

    def _by_deadline(self) -> Return | None:
        def returned(deadline_us: float) -> bool:
            return self._returned(replace(self, deadline_us=deadline_us))

        if self.deadline_us <= 0.0:
            return None
        value = first_crossing(returned, self.deadline_us, rising=self._down)
        return None if value is None else Return("deadline", value, below=not self._down)
