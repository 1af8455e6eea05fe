"""The latency part of ALERT, as a bar to pass and a policy to select.

Wan et al., "ALERT: Accurate Learning for Energy and Timeliness", USENIX ATC 2020: one global slowdown factor
xi = latency / profiled latency, xi ~ N(mu, variance), tracked by a Kalman filter whose process noise adapts to the last
innovation; the rung with the highest expected accuracy, accuracy x P(xi * profile <= deadline), is taken each time.
The power knob is left out: boards without a power cap have none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tailorbird_agent.adapt.counterfactual import first_crossing
from tailorbird_agent.adapt.ladder import Ladder, RungProfile
from tailorbird_agent.adapt.policy import Decision, LadderPolicy
from tailorbird_agent.adapt.switch import Cause, Return, Switch


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """The filter's constants are recalled from the paper, not checked against it: read them as a re-implementation's.

    hysteresis and dwell are our additions (0 = as published): an up-move needs that much more expected accuracy, and
    that many requests since the last move.
    """

    initial_gain: float = 0.5  # K(0)
    measurement_noise: float = 0.001  # R
    process_noise: float = 0.1  # Q(0), also its floor
    noise_memory: float = 0.3  # alpha
    hysteresis: float = 0.0
    dwell: int = 0


@dataclass(frozen=True, slots=True)
class CalmAlertSettings(AlertSettings):
    """ALERT as one would tune it against flapping: less process noise, and hysteresis on the way up."""

    measurement_noise: float = 0.05
    process_noise: float = 0.01
    hysteresis: float = 0.005
    dwell: int = 8


@dataclass(frozen=True, slots=True)
class _Slowdown:
    """P(on time) under xi ~ N(mean, variance), and where the old rung of a switch would be better again."""

    mean: float
    variance: float
    deadline_us: float
    source: RungProfile
    target: RungProfile

    def expected(self, rung: RungProfile) -> float:
        return rung.accuracy * _p_on_time(self.mean, self.variance, rung.cpu_us, self.deadline_us)

    def return_point(self) -> Return | None:
        better_below = self.source.cpu_us > self.target.cpu_us

        def returned(mean: float) -> bool:
            seen = replace(self, mean=mean)
            return seen.expected(self.source) > seen.expected(self.target)

        value = first_crossing(returned, self.mean, rising=not better_below)
        return None if value is None else Return("speed", value, below=better_below)


class Alert(LadderPolicy):
    """One slowdown factor for everything that makes requests late."""

    def __init__(self, ladder: Ladder, settings: AlertSettings | None = None, name: str = "alert") -> None:
        super().__init__(name, ladder)
        self._settings = settings or AlertSettings()
        self._mean = 1.0
        self._variance = 0.1
        self._gain = self._settings.initial_gain
        self._noise = self._settings.process_noise
        self._innovation = 0.0
        self._since = 10**9
        self._mean_at_switch = 1.0

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,
    ) -> Decision:
        """The rung with the highest expected accuracy."""
        deadline_us -= queued_us
        top = self._top(cap)
        chances = [_p_on_time(self._mean, self._variance, rung.cpu_us, deadline_us) for rung in self.ladder[: top + 1]]
        expected = [rung.accuracy * chance for rung, chance in zip(self.ladder, chances, strict=False)]
        best = max(range(top + 1), key=expected.__getitem__)
        held = self.current
        if top >= held and best > held:
            settings = self._settings
            if self._since < settings.dwell or expected[best] - expected[held] <= settings.hysteresis:
                best = held
        self._since += 1
        self.best_chance = chances[0]
        if best == held:
            return self._steady[held]
        self._since = 1
        return Decision(best, self._move(best, top, chances, expected, deadline_us, now_s, cap_cause))

    def within(self, slack_us: float, held: int) -> int:
        """The rung up to `held` with the highest expected accuracy in so much time."""
        chances = [_p_on_time(self._mean, self._variance, rung.cpu_us, slack_us) for rung in self.ladder[: held + 1]]
        if chances[0] < 0.5:
            return 0  # it will be late anyway
        return max(range(held + 1), key=lambda index: self.ladder[index].accuracy * chances[index])

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:  # noqa: ARG002
        """One step of the adaptive-noise Kalman filter on wall time / profiled time."""
        settings = self._settings
        innovation = wall_us / self.ladder[rung].cpu_us - self._mean
        surprise = (self._gain * self._innovation) ** 2
        memory = settings.noise_memory
        self._noise = max(settings.process_noise, memory * self._noise + (1.0 - memory) * surprise)
        predicted = (1.0 - self._gain) * self._variance + self._noise
        self._gain = predicted / (predicted + settings.measurement_noise)
        self._mean += self._gain * innovation
        self._variance = predicted
        self._innovation = innovation

    def _move(
        self,
        target: int,
        top: int,
        chances: list[float],
        expected: list[float],
        deadline_us: float,
        now_s: float,
        cap_cause: Cause,
    ) -> Switch:
        source = self.current
        cause = self._cause(target, top, cap_cause, Cause.SPEED)
        old, new = self.ladder[source], self.ladder[target]
        p_from = _p_on_time(self._mean, self._variance, old.cpu_us, deadline_us)
        others = [index for index in range(top + 1) if index != target]
        runner_up = max(others, key=expected.__getitem__) if others else None
        self.current = target
        before, self._mean_at_switch = self._mean_at_switch, self._mean
        return Switch(
            now_s,
            source,
            target,
            old.name,
            new.name,
            cause,
            deadline_us,
            speed_before=before,
            speed_after=self._mean,
            p_from=p_from,
            p_to=chances[target],
            gain=expected[target] - old.accuracy * p_from,
            runner_up=runner_up,
            runner_up_name=None if runner_up is None else self.ladder[runner_up].name,
            runner_up_utility=None if runner_up is None else expected[runner_up],
            outlook=_Slowdown(self._mean, self._variance, deadline_us, old, new),
        )


def _p_on_time(mean: float, variance: float, profile_us: float, deadline_us: float) -> float:
    """P(xi * profile <= deadline), xi ~ N(mean, variance)."""
    deviation_us = math.sqrt(2.0 * variance) * profile_us
    return 0.5 * (1.0 + math.erf((deadline_us - mean * profile_us) / deviation_us))
