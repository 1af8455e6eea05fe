"""A request with a deadline of its own: a smaller rung for it alone, and nothing for the policy to remember."""

from __future__ import annotations

import copy
import math
import statistics
import time

import pytest
from adapt_scenes import DEADLINE_US, LADDER, serve

from tailorbird_agent.adapt import POLICY_NAMES, RungProfile, make_policy

ADAPTIVE = [name for name in POLICY_NAMES if not name.startswith("static")]


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("held", [1, 4])
def test_the_rung_for_a_tight_request_is_in_time_and_never_above_the_one_held(name, held):
    policy = make_policy(name, LADDER)
    serve(policy, 100)
    for slack_us in (20_000.0, 5000.0, 3500.0, 2200.0, 1400.0, 800.0):
        rung = policy.within(slack_us, held)
        assert rung <= held
        assert LADDER[rung].cpu_us <= slack_us
    assert policy.within(20_000.0, held) == policy.within(math.inf, held) == held


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("slack_us", [100.0, 0.0, -5000.0])
def test_what_no_rung_can_answer_in_time_goes_to_the_smallest(name, slack_us):
    policy = make_policy(name, LADDER)
    serve(policy, 100)
    assert policy.within(slack_us, 4) == 0


@pytest.mark.parametrize("name", ["static-small", "static-large", "static:r2"])
def test_a_fixed_rung_stays_fixed(name):
    policy = make_policy(name, LADDER)
    assert policy.within(1.0, policy.current) == policy.current


def test_what_was_learned_of_the_device_counts_for_tight_requests_too():
    calm, slow = make_policy("two-channel", LADDER), make_policy("two-channel", LADDER)
    serve(calm, 100)
    serve(slow, 100, speed=2.0, deadline_us=20_000.0)
    assert calm.within(3500.0, 4) == 3
    assert slow.within(3500.0, 4) == 1


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_looking_for_such_a_rung_leaves_the_policy_as_it_was(name):
    policy = make_policy(name, LADDER)
    serve(policy, 100)
    twin = copy.deepcopy(policy)
    for slack_us in (3000.0, 900.0, 1.0) * 50:
        policy.within(slack_us, policy.current)
    assert serve(policy, 100, speed=1.7, wait_us=400.0) == serve(twin, 100, speed=1.7, wait_us=400.0)


def test_a_decision_with_a_tight_limit_stays_within_its_budget():
    ladder = tuple(RungProfile(f"r{index}", 0.6 + 0.02 * index, 500.0 * 1.3**index) for index in range(8))
    policy = make_policy("two-channel", ladder)
    serve(policy, 300, wait_us=700.0, deadline_us=DEADLINE_US)

    def decide_us() -> float:
        began_ns = time.thread_time_ns()
        decision = policy.choose(DEADLINE_US, 7, 1.0)
        policy.within(1200.0, decision.rung)
        return (time.thread_time_ns() - began_ns) / 1e3

    # Twice the budget of 30 us: what tests this may be busy, and then even on-CPU time grows.
    assert statistics.median(decide_us() for _ in range(500)) <= 60.0
