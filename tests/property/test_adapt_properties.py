import ast
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tailorbird_agent.adapt
from tailorbird_agent.adapt import POLICY_NAMES, RungProfile, make_ladder, make_policy
from tailorbird_agent.adapt.caps import advance, uncapped
from tailorbird_agent.adapt.conditions import Conditions
from tailorbird_agent.adapt.waits import Waits

times_us = st.floats(1.0, 1e7)


@st.composite
def ladders(draw):
    """2-6 rungs, each 1.3-2.5x slower and at least a point more accurate than the one before."""
    count = draw(st.integers(2, 6))
    cpu_us, accuracy, rungs = draw(st.floats(200.0, 20_000.0)), draw(st.floats(0.3, 0.6)), []
    for index in range(count):
        rungs.append(RungProfile(f"r{index}", accuracy, cpu_us))
        cpu_us *= draw(st.floats(1.3, 2.5))
        accuracy += draw(st.floats(0.01, 0.06))
    return make_ladder(rungs)


requests = st.lists(
    st.tuples(
        st.floats(0.2, 8.0),  # slowdown
        st.floats(0.0, 50_000.0),  # wait while running, us
        st.floats(-1e4, 1e5),  # deadline, us
        st.integers(-1, 7),  # cap
        st.sampled_from([0.0, 0.0, 0.0, 800.0, 30_000.0]),  # queued, us
    ),
    min_size=1,
    max_size=80,
)


def play(policy, sequence):
    decisions = []
    for index, (speed, wait_us, deadline_us, cap, queued_us) in enumerate(sequence):
        decision = policy.choose(deadline_us, cap, float(index), queued_us=queued_us)
        cpu_us = speed * policy.ladder[decision.rung].cpu_us
        policy.observe(decision.rung, cpu_us + wait_us, cpu_us, deadline_us - queued_us, float(index))
        decisions.append(decision)
    return decisions


@pytest.mark.parametrize("name", POLICY_NAMES)
@given(ladder=ladders(), sequence=requests)
@settings(max_examples=40, deadline=None)
def test_no_policy_ever_exceeds_the_cap_and_every_move_is_an_event(name, ladder, sequence):
    policy = make_policy(name, ladder)
    held = policy.current
    for decision, (_, _, _, cap, _) in zip(play(policy, sequence), sequence, strict=True):
        assert 0 <= decision.rung <= max(0, min(cap, len(ladder) - 1))
        if decision.switch is not None:
            assert decision.switch.from_rung == held != decision.switch.to_rung
            assert decision.switch.explain()
            held = decision.switch.to_rung
        assert decision.rung <= held  # a detour only ever leads down
    assert policy.current == held


@pytest.mark.parametrize("name", POLICY_NAMES)
@given(ladder=ladders(), sequence=requests)
@settings(max_examples=15, deadline=None)
def test_the_same_history_gives_the_same_decisions(name, ladder, sequence):
    assert play(make_policy(name, ladder), sequence) == play(make_policy(name, ladder), sequence)


@given(ladder=ladders(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_without_disturbance_two_channel_stays_at_the_largest_rung_that_is_on_time(ladder, data):
    index = data.draw(st.integers(0, len(ladder) - 1))
    deadline_us = 1.15 * ladder[index].cpu_us  # below 0.89x of the next rung
    decisions = play(make_policy("two-channel", ladder), [(1.0, 0.0, deadline_us, 7, 0.0)] * 60)
    assert {decision.rung for decision in decisions} == {index}


@given(ladder=ladders(), calm=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_a_two_fold_slowdown_is_answered_within_eight_requests_and_forgotten_afterwards(ladder, calm):
    deadline_us = 1.4 * ladder[-1].cpu_us
    assume(2.0 * ladder[0].cpu_us < 0.9 * deadline_us)  # otherwise no rung answers it
    policy = make_policy("two-channel", ladder)
    play(policy, [(1.0, 0.0, deadline_us, 7, 0.0)] * calm)
    slow = play(policy, [(2.0, 0.0, deadline_us, 7, 0.0)] * 40)
    assert all(2.0 * ladder[decision.rung].cpu_us <= deadline_us for decision in slow[8:])
    assert play(policy, [(1.0, 0.0, deadline_us, 7, 0.0)] * 100)[-1].rung == len(ladder) - 1


@given(waits=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_preemption_does_not_change_the_speed_factor(waits):
    ladder = make_ladder([RungProfile("s", 0.7, 1000.0), RungProfile("l", 0.8, 3000.0)])
    policy = make_policy("two-channel", ladder)
    play(policy, [(1.0, wait_us, 5000.0, 7, 0.0) for wait_us in waits])
    assert policy.speed == pytest.approx(1.0)


@given(
    speed=st.floats(0.2, 10.0),
    spread=st.floats(0.04, 0.5),
    cpu_us=st.floats(100.0, 1e5),
    deadline_us=st.floats(100.0, 1e5),
    waits=st.lists(st.tuples(times_us, st.one_of(st.none(), times_us)), max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_the_chance_to_be_on_time_is_one_and_grows_with_the_deadline(speed, spread, cpu_us, deadline_us, waits):
    process = Waits(64.0, 8.0, 0.5)
    for on_cpu_us, wait_us in waits:
        process.add(on_cpu_us, wait_us)
    seen = Conditions(speed, spread, process.rate_per_us, process.sums)
    chance = seen.p_on_time(cpu_us, deadline_us)
    assert 0.0 <= chance <= 1.0 + 1e-12
    assert seen.p_on_time(cpu_us, 1.5 * deadline_us) >= chance - 1e-12


readings = st.fixed_dictionaries(
    {},
    optional={
        "memory_some_avg10_percent": st.none() | st.floats(0.0, 100.0),
        "memory_available_bytes": st.none() | st.floats(0.0, 1e9),
        "thermal_headroom_c": st.none() | st.floats(-20.0, 60.0),
        "throttled": st.none() | st.sampled_from([0.0, 1.0]),
        "battery_percent": st.none() | st.floats(0.0, 100.0),
        "battery_discharging": st.none() | st.sampled_from([0.0, 1.0]),
    },
)


@given(rungs=st.integers(1, 8), history=st.lists(readings, max_size=60))
@settings(max_examples=60, deadline=None)
def test_caps_stay_on_the_ladder_and_name_a_cause_exactly_when_they_bind(rungs, history):
    state = uncapped(rungs)
    for second, each in enumerate(history):
        state = advance(state, each, float(second), current=state.cap.index, needs_bytes=(10**8,) * rungs)
        assert 0 <= state.cap.index < rungs
        assert (state.cap.cause is None) == (state.cap.index == rungs - 1)


def test_the_policy_code_imports_nothing_but_itself_and_clockless_standard_modules():
    forbidden = {"time", "datetime", "os", "io", "pathlib", "threading", "asyncio", "socket", "subprocess"}
    for path in Path(tailorbird_agent.adapt.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.partition(".")[0]
                assert name.startswith("tailorbird_agent.adapt") or root in sys.stdlib_module_names, (path.name, name)
                assert root not in forbidden, (path.name, name)
