"""The default policy: a speed factor from on-CPU time, and off-CPU waits as a process of their own.

A single slowdown factor is the wrong model on a shared CPU: heat, clock and memory bandwidth multiply a request's time,
other processes add to it. The two are told apart by the request's on-CPU time, and each predicts differently for a
larger rung. See `conditions` for the model, `waits` for the second channel, `incumbent` for the bar that moves have to
pass, `counterfactual` for the explanations.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.adapt.conditions import Conditions
from tailorbird_agent.adapt.counterfactual import TwoChannelOutlook
from tailorbird_agent.adapt.incumbent import Incumbent
from tailorbird_agent.adapt.ladder import Ladder
from tailorbird_agent.adapt.policy import Decision, LadderPolicy
from tailorbird_agent.adapt.queues import Queues
from tailorbird_agent.adapt.switch import Cause, Switch
from tailorbird_agent.adapt.waits import Waits

#: Queueing beyond the usual that is worth a second look, as a share of the deadline.
_DETOUR_SHARE = 0.1
#: A chance to be on time that no smaller rung can better by a gain worth a detour.
_SURE = 0.999


@dataclass(frozen=True, slots=True)
class TwoChannelSettings:
    """Half-lives, dwell and probe are counted in requests. The defaults were fixed before the held-out recordings."""

    half_life: float = 64.0  # of the wait rate
    fast_half_life: float = 8.0  # of its fast twin, which catches bursts
    risk: float = 0.5  # standard deviations added to the wait rate
    gain: float = 0.004  # expected accuracy that a move must win
    gain_share: float = 0.05  # the same as a share of the accuracy that the ladder spans; the smaller one holds
    dwell: int = 6  # requests before an up-move; doubles, up to dwell_max, with each up-move that fails
    dwell_max: int = 512
    probe: int = 16  # requests within which a miss makes an up-move a failed one
    wait_floor_us: float = 150.0  # shorter waits are interrupts and timer noise
    spread_floor: float = 0.04  # relative spread of on-CPU time that is always reckoned with
    incumbent_half_life: float = 512.0  # of the memory for which rung would have done best
    leave: float = 2.0  # times `gain` to leave that rung
    rejoin: float = 0.5  # times `gain` to go back to it


class TwoChannel(LadderPolicy):
    """Highest expected accuracy; down at once, up after a dwell that backs off when probing upwards fails."""

    def __init__(self, ladder: Ladder, settings: TwoChannelSettings | None = None) -> None:
        super().__init__("two-channel", ladder)
        self._settings = settings or TwoChannelSettings()
        accuracies = [rung.accuracy for rung in self.ladder]
        span = max(accuracies) - min(accuracies)
        self._gain = min(self._settings.gain, self._settings.gain_share * span)
        self._queues = Queues()
        self._waits = Waits(self._settings.half_life, self._settings.fast_half_life, self._settings.risk)
        self._speed = 1.0
        self._spread = 0.03
        self._since = 10**9
        self._dwell = self._settings.dwell
        self._probing = 0
        self._incumbent = Incumbent(self.ladder, self._settings.incumbent_half_life)
        self._surprise = 0.0
        self._before = self._seen = self._conditions()
        self._deadline_before_us: float | None = None

    @property
    def speed(self) -> float:
        """Factor on the profiled on-CPU time: 1 as profiled, 2 half as fast."""
        return self._speed

    @property
    def hit_rate_hz(self) -> float:
        """Waits per second spent on the CPU, risk margin included."""
        return self._waits.rate_per_us * 1e6

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,
    ) -> Decision:
        """The rung with the highest expected accuracy, if it is worth the move.

        The rung held is chosen for the time requests usually have left. One that queued for longer than usual may take
        a detour to a smaller rung: by the next request that delay is over, and a dwell on its account would only cost.
        """
        usual_us = self._queues.usual_us(queued_us)
        slack_us = deadline_us - queued_us
        deadline_us -= usual_us
        if self._deadline_before_us is None:
            self._deadline_before_us = deadline_us
        top = self._top(cap)
        seen = self._seen = self._conditions()
        decision = self._hold(seen, deadline_us, top, now_s, cap_cause)
        if queued_us - usual_us <= _DETOUR_SHARE * deadline_us:
            return decision
        detour = self._detour(seen, slack_us, decision.rung)
        return self._steady[detour] if decision.switch is None else Decision(detour, decision.switch)

    def within(self, slack_us: float, held: int) -> int:
        """A detour for one request with a deadline of its own."""
        best, most = 0, self._gain
        for index in range(held, -1, -1):
            rung = self.ladder[index]
            chance = self._seen.p_on_time(rung.cpu_us, slack_us)
            if rung.accuracy * chance > most:
                # Like any move, leaving the rung held must win something.
                best, most = index, rung.accuracy * chance + (self._gain if index == held else 0.0)
            if chance >= _SURE:
                break  # most deadlines are far away: one look is enough
        return best

    def _detour(self, seen: Conditions, deadline_us: float, held: int) -> int:
        """The rung for one request with less time than usual: the one held or a smaller one."""
        expected = [rung.accuracy * seen.p_on_time(rung.cpu_us, deadline_us) for rung in self.ladder[: held + 1]]
        best = max(range(held + 1), key=expected.__getitem__)
        if expected[best] <= self._gain:
            return 0  # it will be late anyway; the smallest rung makes room for the next
        return best if expected[best] - expected[held] > self._gain else held

    def _hold(self, seen: Conditions, deadline_us: float, top: int, now_s: float, cap_cause: Cause) -> Decision:
        """Stay on the rung held or move from it, for requests with so much time."""
        chances = [seen.p_on_time(rung.cpu_us, deadline_us) for rung in self.ladder[: top + 1]]
        expected = [rung.accuracy * chance for rung, chance in zip(self.ladder, chances, strict=False)]
        best = max(range(top + 1), key=expected.__getitem__)
        held = min(self.current, top)
        self.best_chance = chances[0]
        target = held
        if expected[best] <= self._gain:
            target = 0  # nothing will be on time; the smallest rung catches up first
        elif expected[best] - expected[held] > self._threshold(held, best, top) and (
            best < held or self._since >= self._dwell
        ):
            target = best
        self._since += 1
        if target == self.current:
            return self._steady[target]
        switch = self._move(target, top, seen, chances, expected, deadline_us, now_s, cap_cause)
        return Decision(target, switch)

    def _threshold(self, held: int, target: int, top: int) -> float:
        """The gain that a move between two rungs must win: more to leave the incumbent, less to go back to it."""
        incumbent = self._incumbent.best(top)
        if target == incumbent:
            return self._settings.rejoin * self._gain
        return self._settings.leave * self._gain if held == incumbent else self._gain

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:  # noqa: ARG002
        """Update both channels, and judge the last up-move."""
        settings = self._settings
        off = cpu_us / self.ladder[rung].cpu_us - self._speed
        surprise = off if abs(off) > 3.0 * settings.spread_floor * self._speed else 0.0
        # A large step is followed faster than noise, and faster still when two in a row agree on its direction; its
        # size counts at most half in the spread.
        weight = 0.7 if surprise * self._surprise > 0.0 else 0.35 if surprise else 0.2
        self._surprise = surprise
        self._speed += weight * off
        self._spread += 0.1 * (min(abs(off) / self._speed, 0.5) - self._spread)
        wait_us = wall_us - cpu_us if wall_us - cpu_us > settings.wait_floor_us else 0.0
        # By the waits known before this one: it must not explain itself.
        self._incumbent.note(rung, cpu_us, wait_us, deadline_us, self._waits.rate_per_us, self._waits.sums)
        self._waits.add(cpu_us, wait_us or None)
        # A detour says nothing about the rung moved up to.
        if self._probing and rung == self.current:
            self._probing -= 1
            if wall_us > deadline_us:
                self._dwell = min(2 * self._dwell, settings.dwell_max)
                self._probing = 0
            elif self._probing == 0:
                self._dwell = max(settings.dwell, self._dwell // 2)

    def _conditions(self) -> Conditions:
        spread = max(self._spread, self._settings.spread_floor)
        return Conditions(self._speed, spread, self._waits.rate_per_us, self._waits.sums)

    def _move(
        self,
        target: int,
        top: int,
        seen: Conditions,
        chances: list[float],
        expected: list[float],
        deadline_us: float,
        now_s: float,
        cap_cause: Cause,
    ) -> Switch:
        """Take the rung and write down why."""
        source = self.current
        old, new = self.ladder[source], self.ladder[target]
        before, self._before = self._before, seen
        deadline_before_us, self._deadline_before_us = self._deadline_before_us or deadline_us, deadline_us
        outlook = TwoChannelOutlook(seen, deadline_us, old, new, self._gain, Cause.DEADLINE)
        channel = outlook.attribute(before, deadline_before_us)
        cause = self._cause(target, top, cap_cause, channel)
        back = self._threshold(target, source, len(self.ladder) - 1)
        others = [index for index in range(top + 1) if index != target]
        runner_up = max(others, key=expected.__getitem__) if others else None
        p_from = chances[source] if source <= top else seen.p_on_time(old.cpu_us, deadline_us)
        self.current = target
        self._since = 1
        self._probing = self._settings.probe if target > source else 0
        return Switch(
            now_s,
            source,
            target,
            old.name,
            new.name,
            cause,
            deadline_us,
            speed_before=before.speed,
            speed_after=seen.speed,
            hit_rate_before_hz=before.hit_rate_per_us * 1e6,
            hit_rate_after_hz=seen.hit_rate_per_us * 1e6,
            wait_us=seen.sums.one[len(seen.sums.one) // 2] if seen.sums.one else None,
            p_from=p_from,
            p_to=chances[target],
            gain=expected[target] - old.accuracy * p_from,
            runner_up=runner_up,
            runner_up_name=None if runner_up is None else self.ladder[runner_up].name,
            runner_up_utility=None if runner_up is None else expected[runner_up],
            outlook=TwoChannelOutlook(seen, deadline_us, old, new, back, channel),
        )
