import math
import re

import pytest
from adapt_scenes import DEADLINE_US, LADDER, serve

from tailorbird_agent.adapt import Cause, RungProfile, make_ladder, make_policy


def settled():
    policy = make_policy("two-channel", LADDER)
    serve(policy, 100)
    return policy


def test_a_calm_device_gets_the_largest_rung_from_the_first_request():
    rungs, switches = serve(make_policy("two-channel", LADDER), 200)
    assert set(rungs) == {4}
    assert switches == []


def test_a_two_fold_slowdown_is_answered_within_four_requests_and_undone_when_it_ends():
    policy = settled()
    deadline_us = 6000.0
    slow, switches = serve(policy, 60, speed=2.0, deadline_us=deadline_us)
    assert {2.0 * LADDER[rung].cpu_us <= deadline_us for rung in slow[4:]} == {True}
    assert slow[4:] == [slow[-1]] * 56
    assert switches[0].cause is Cause.SPEED
    rungs, back = serve(policy, 60, deadline_us=deadline_us)
    assert rungs[-1] == 4
    assert back[-1].cause is Cause.SPEED
    assert back[-1].to_rung > back[-1].from_rung


def test_waiting_for_the_cpu_leads_to_a_smaller_rung_and_names_waits():
    policy = settled()
    rungs, switches = serve(policy, 60, wait_us=6000.0)
    assert rungs[-1] < 4
    assert switches[0].cause is Cause.WAITS
    assert switches[0].hit_rate_after_hz > switches[0].hit_rate_before_hz
    assert switches[0].wait_us == pytest.approx(6000.0)
    assert re.match(r"r4->r\d waits 10\.0->\d+\.\d/s of 6\.00 ms P\(on time\) ", switches[0].explain())


def test_a_shorter_deadline_is_the_cause_of_the_switch_it_forces():
    policy = settled()
    decision = policy.choose(3200.0, 4, 20.0)
    assert decision.rung == 3
    assert decision.switch.cause is Cause.DEADLINE


def test_a_rung_that_never_fitted_is_left_at_the_first_request_because_of_the_deadline():
    decision = make_policy("two-channel", LADDER).choose(2200.0, 4, 0.0)
    assert decision.rung == 2
    assert decision.switch.cause is Cause.DEADLINE


@pytest.mark.parametrize(("queued_us", "rung"), [(5000.0, 4), (6000.0, 3), (8000.0, 1), (9400.0, 0), (40_000.0, 0)])
def test_a_request_that_queued_takes_a_detour_and_the_next_one_does_not(queued_us, rung):
    policy = settled()
    detour = policy.choose(DEADLINE_US, 4, 10.0, queued_us=queued_us)
    assert (detour.rung, detour.switch) == (rung, None)
    assert policy.choose(DEADLINE_US, 4, 10.1) == policy.choose(DEADLINE_US, 4, 10.2)
    assert policy.current == 4


def test_a_late_detour_does_not_hold_back_the_rung_it_left():
    policy = make_policy("two-channel", LADDER)
    serve(policy, 30, deadline_us=3200.0)
    up, _ = serve(policy, 7)
    assert up[-1] > 3  # moved up, and is being watched
    for index in range(10):
        decision = policy.choose(DEADLINE_US, 4, 20.0 + index, queued_us=20_000.0 if index % 2 else 0.0)
        cpu_us = LADDER[decision.rung].cpu_us
        slack_us = DEADLINE_US - (20_000.0 if index % 2 else 0.0)
        policy.observe(decision.rung, cpu_us, cpu_us, slack_us, 20.0 + index)
    assert policy.current == up[-1]


def test_a_backlog_becomes_usual_and_moves_the_rung_held():
    policy = settled()
    for index in range(15):
        policy.choose(DEADLINE_US, 4, 10.0 + index, queued_us=7000.0)
    assert policy.current == 2  # 1.67 of the 2.5 ms that are left
    serve(policy, 30, start_s=30.0)
    assert policy.current == 4


@pytest.mark.parametrize("cause", [Cause.MEMORY, Cause.THERMAL, Cause.BATTERY, Cause.OPERATOR, Cause.FAULT])
def test_a_cap_is_obeyed_at_once_named_and_named_again_when_it_lifts(cause):
    policy = settled()
    down = policy.choose(DEADLINE_US, 1, 20.0, cause)
    assert (down.rung, down.switch.cause) == (1, cause)
    assert down.switch.explain().endswith(f"would return to r4 when the {cause.value} cap lifts")
    _, switches = serve(policy, 20)
    assert (switches[0].to_rung, switches[0].cause) == (4, cause)
    assert f"{cause.value} cap lifted" in switches[0].explain()


def test_a_cap_that_lifts_rung_by_rung_is_named_for_each_and_not_for_other_moves():
    policy = settled()
    policy.choose(DEADLINE_US, 2, 10.0, Cause.THERMAL)
    _, down = serve(policy, 40, wait_us=9000.0, cap=2, start_s=11.0)
    _, up = serve(policy, 400, cap=2, start_s=20.0)
    assert {switch.cause for switch in down + up} == {Cause.WAITS}
    _, first = serve(policy, 20, cap=3, start_s=70.0)
    _, second = serve(policy, 20, cap=4, start_s=80.0)
    assert [(s.to_name, s.cause) for s in first + second] == [("r3", Cause.THERMAL), ("r4", Cause.THERMAL)]
    _, slower = serve(policy, 60, speed=2.0, deadline_us=6000.0, start_s=90.0)
    _, faster = serve(policy, 60, deadline_us=6000.0, start_s=100.0)
    assert {switch.cause for switch in slower + faster} == {Cause.SPEED}
    assert faster[-1].to_name == "r4"


def test_without_a_deadline_the_most_accurate_rung_answers_however_long_it_waits():
    policy = settled()
    serve(policy, 40, wait_us=9000.0)
    decision = policy.choose(math.inf, 4, 20.0)
    assert decision.rung == 4
    assert " no deadline P(on time) " in decision.switch.explain()
    rungs, _ = serve(policy, 40, wait_us=9000.0, deadline_us=math.inf)
    assert set(rungs) == {4}


def test_when_nothing_can_be_on_time_the_smallest_rung_catches_up():
    policy = settled()
    assert policy.choose(-500.0, 4, 20.0).rung == 0


def test_up_moves_that_fail_are_tried_ever_more_rarely():
    def ups(**settings):
        policy = make_policy("two-channel", LADDER, **settings)
        return sum(switch.to_rung > switch.from_rung for switch in serve_with_hits(policy, 1500, 3000.0))

    assert ups() < 0.7 * ups(dwell_max=6)


def serve_with_hits(policy, count, deadline_us):
    switches = []
    for index in range(count):
        decision = policy.choose(deadline_us, 4, 0.1 * index)
        cpu_us = policy.ladder[decision.rung].cpu_us
        wait_us = 1200.0 if decision.rung >= 3 else 0.0
        policy.observe(decision.rung, cpu_us + wait_us, cpu_us, deadline_us, 0.1 * index)
        if decision.switch is not None:
            switches.append(decision.switch)
    return switches


def test_the_return_point_of_a_slowdown_is_where_the_old_rung_wins_again():
    policy = settled()
    _, switches = serve(policy, 60, speed=2.0, deadline_us=6000.0)
    switch = switches[0]
    point = switch.returns
    assert point.quantity == "speed"
    assert point.below
    assert 1.0 < point.value < switch.speed_after
    seen = switch.outlook.seen

    def advantage_of_old(speed):
        old, new = LADDER[switch.from_rung], LADDER[switch.to_rung]
        seen_then = type(seen)(speed, seen.spread, seen.hit_rate_per_us, seen.sums)
        return old.accuracy * seen_then.p_on_time(old.cpu_us, 6000.0) - new.accuracy * seen_then.p_on_time(
            new.cpu_us, 6000.0
        )

    gain = switch.outlook.threshold
    assert 0.002 <= gain <= 0.008
    assert advantage_of_old(point.value * 0.999) > gain > advantage_of_old(point.value * 1.001)


def test_a_switch_explains_itself_in_one_line():
    policy = settled()
    _, switches = serve(policy, 60, speed=2.0, deadline_us=6000.0)
    line = switches[0].explain()
    assert line.startswith("r4->r3 speed x1.")
    assert " P(on time) ." in line
    assert "; would return to r4 when speed < 1." in line
    assert "\n" not in line


def test_the_runner_up_is_the_best_rung_not_taken():
    switch = make_policy("two-channel", LADDER).choose(2200.0, 4, 0.0).switch
    assert switch.to_rung == 2
    assert switch.runner_up_name == "r1"
    assert switch.runner_up_utility == pytest.approx(LADDER[1].accuracy, abs=1e-3)


def test_a_ladder_of_one_rung_never_switches():
    policy = make_policy("two-channel", (RungProfile("only", 0.9, 5000.0),))
    rungs, switches = serve(policy, 50, speed=3.0, wait_us=20000.0, cap=0)
    assert set(rungs) == {0}
    assert switches == []


def test_one_odd_request_moves_the_speed_less_than_two_that_agree():
    odd, step = settled(), settled()
    top_us = LADDER[4].cpu_us
    odd.observe(4, 2.0 * top_us, 2.0 * top_us, DEADLINE_US, 20.0)
    step.observe(4, 2.0 * top_us, 2.0 * top_us, DEADLINE_US, 20.0)
    odd.observe(4, top_us, top_us, DEADLINE_US, 20.1)
    step.observe(4, 2.0 * top_us, 2.0 * top_us, DEADLINE_US, 20.1)
    assert odd.speed < 1.25
    assert step.speed > 1.75


def test_the_rung_that_did_best_lately_is_left_for_a_larger_gain_than_any_other():
    """Two policies in equal conditions, one of which has just seen another rung do best: only that one moves."""
    ladder = make_ladder(
        [RungProfile("xs", 0.70, 500.0), RungProfile("s", 0.80, 1000.0), RungProfile("l", 0.806, 1200.0)]
    )
    held = make_policy("two-channel", ladder)
    free = make_policy("two-channel", ladder, leave=1.0, rejoin=1.0)
    for policy in (held, free):
        serve(policy, 300, deadline_us=1150.0)
        assert policy.current == 1
    assert serve(held, 12, deadline_us=5000.0, cap=2)[0][-1] == 1
    assert serve(free, 12, deadline_us=5000.0, cap=2)[0][-1] == 2
    assert serve(held, 4500, deadline_us=5000.0, cap=2)[0][-1] == 2


def test_a_ladder_of_small_steps_is_climbed_for_small_gains():
    """The gain that a move must win is a share of what there is to win."""
    ladder = make_ladder(RungProfile(f"r{k}", 0.90 + 0.003 * k, 1000.0 * (k + 1)) for k in range(4))
    policy = make_policy("two-channel", ladder)
    serve(policy, 40, deadline_us=2500.0, cap=3)
    assert policy.current == 1
    serve(policy, 40, deadline_us=3700.0, cap=3)
    assert policy.current == 2


@pytest.mark.parametrize(("deadline_us", "likely"), [(DEADLINE_US, True), (100.0, False)])
def test_a_policy_tells_whether_even_its_smallest_rung_can_be_on_time(deadline_us, likely):
    policy = make_policy("two-channel", LADDER)
    assert policy.best_chance is None
    policy.choose(deadline_us, 4, 0.0)
    assert (policy.best_chance > 0.5) is likely
