"""The adaptation policy at work: asks it before each request, tells it after, and times the switch itself."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Mapping
from dataclasses import fields

from tailorbird_agent.adapt import Cause, Policy, RungProfile, Switch, make_policy
from tailorbird_agent.adapt.caps import Cap, CapState, advance, uncapped
from tailorbird_agent.adapt.feasibility import Feasibility
from tailorbird_agent.worker.ladder import ResidentRung
from tailorbird_agent.worker.plan import Notice, ServePlan, SwitchNote
from tailorbird_agent.worker.residency import Residency

_SWITCHES_REMEMBERED = 4096


class Governor:
    """Chooses among resident rungs. live is the rung the policy holds for unpinned requests: one reference."""

    def __init__(self, plan: ServePlan, residency: Residency[ResidentRung]) -> None:
        self._residency = residency
        self._profiles = tuple(
            RungProfile(rung.name, rung.accuracy, rung.cpu_us, rung.memory_bytes) for rung in plan.rungs
        )
        self._switch_ns: collections.deque[int] = collections.deque(maxlen=_SWITCHES_REMEMBERED)
        self.switches = 0
        self.last_switch_ns = 0
        self.set_policy(plan.policy, plan.slo_us)

    def set_policy(self, name: str, slo_us: float | None) -> None:
        """Start over with a policy. Raises ValueError with those that exist."""
        policy = make_policy(name, self._profiles)
        self._policy: Policy = policy
        self.slo_us = slo_us
        # The policy's order, fastest first, is what its indices mean, here and in the residency.
        self._names = tuple(profile.name for profile in policy.ladder)
        self._needs = tuple(profile.memory_bytes for profile in policy.ladder)
        self._caps: CapState = uncapped(len(self._names))
        self._cap: Cap = self._caps.cap
        self._answering = policy.current
        self._feasibility = Feasibility()
        #: What the last decision made worth telling, beside its switch.
        self.notice: Notice | None = None
        self.settle()

    def settle(self) -> None:
        """Take the rung that the policy holds, or what stands in for it while it is not in memory."""
        self._residency.hold(self._policy.current)
        self.live = self._residency.at(self._policy.current)[1]

    def set_caps(self, readings: Mapping[str, float | None], now_s: float) -> Notice | None:
        """Look at the sensors once more; the cap holds from the next request on. Returns what to tell if it changed."""
        before = self._cap
        self._caps = advance(self._caps, readings, now_s, current=self._policy.current, needs_bytes=self._needs)
        self._cap = self._caps.cap
        return None if self._cap == before else self._cap_notice(before, readings)

    def choose(
        self, deadline_us: float, queued_us: float, now_s: float, limit_us: float = math.inf
    ) -> tuple[ResidentRung, Switch | None]:
        """The rung for a request, and why when that makes another rung the live one.

        deadline_us is what the policy holds a rung for; limit_us is the caller's own deadline for this request alone.
        Both count from the request's arrival, and queued_us of them have gone. A limit that is the tighter one never
        moves the policy: a smaller rung answers this request if the policy expects it in time, and the smallest if it
        expects that of none. (Refusing by forecast, as Clockwork does, would need certain times; a board has none.)
        """
        cap = self._cap
        cause = Cause.OPERATOR if cap.cause is None else cap.cause
        decision = self._policy.choose(deadline_us, cap.index, now_s, cause, queued_us)
        index = decision.rung
        if limit_us < deadline_us:
            index = self._policy.within(limit_us - queued_us, index)
        self._answering, rung = self._residency.at(index)
        self.notice = None
        if self._feasibility.look(self._policy.best_chance):
            self.notice = self._feasibility_notice(deadline_us, queued_us)
        if decision.switch is not None:
            started_ns = time.perf_counter_ns()
            self.live = self._residency.at(self._policy.current)[1]
            self.last_switch_ns = time.perf_counter_ns() - started_ns
            self._switch_ns.append(self.last_switch_ns)
            self.switches += 1
            self._residency.hold(self._policy.current)
        return rung, decision.switch

    def observe(self, wall_us: float, cpu_us: float, slack_us: float, now_s: float) -> None:
        """Tell the policy how the request it chose a rung for last went."""
        self._policy.observe(self._answering, wall_us, cpu_us, slack_us, now_s)

    def _cap_notice(self, before: Cap, readings: Mapping[str, float | None]) -> Notice:
        name, old = self._names[self._cap.index], self._names[before.index]
        cause = self._cap.cause or before.cause
        details = {"cap": name, "cap_before": old, "cause": "" if cause is None else cause.value}
        details |= {reading: _text(value) for reading, value in readings.items() if value is not None}
        if self._cap.cause is None:
            return Notice("cap", f"all rungs are allowed again, up to {name}", details)
        return Notice("cap", f"{self._cap.cause.value} allows rungs up to {name}, before up to {old}", details)

    def _feasibility_notice(self, deadline_us: float, queued_us: float) -> Notice:
        chance, fastest = self._policy.best_chance, self._names[0]
        details = {
            "feasible": str(self._feasibility.feasible).lower(),
            "p_on_time": _text(chance),
            "deadline_us": _text(deadline_us),
            "queued_us": _text(queued_us),
            "rung": fastest,
        }
        words = "can meet its deadline again" if self._feasibility.feasible else "cannot meet its deadline"
        return Notice("infeasible", f"the smallest rung, {fastest}, {words}: {deadline_us / 1e3:.3g} ms", details)

    def switch_quantile_ns(self, share: float) -> float:
        """Nearest-rank quantile of the last switches' durations, NaN before the first."""
        if not self._switch_ns:
            return math.nan
        ordered = sorted(self._switch_ns)
        return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])


def note(switch: Switch, actuation_ns: int) -> SwitchNote:
    """A switch as people and machines read it; numbers keep their full precision as text.

    actuation_ns: how long it took to make the other rung the live one.
    """
    numbers = ((field.name, getattr(switch, field.name)) for field in fields(switch) if field.name != "outlook")
    details = {name: _text(value) for name, value in numbers if value is not None}
    details["actuation_us"] = _text(actuation_ns / 1e3)
    message = switch.explain()
    # Finding the way back is a search: take it from the message rather than search again before the answer leaves.
    _, found, condition = message.partition("; would return to ")
    if found:
        details["returns_when"] = condition.partition(" when ")[2]
    return SwitchNote(switch.from_name, switch.to_name, switch.cause.value, message, details)


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(getattr(value, "value", value))
