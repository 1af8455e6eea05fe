import math

import pytest

from tailorbird_agent.adapt.caps import Cap, Limits, advance, seconds_to_trip, uncapped
from tailorbird_agent.adapt.switch import Cause

CALM = {"memory_some_avg10_percent": 0.0, "thermal_headroom_c": 30.0, "battery_percent": 90.0}
PRESSED = {**CALM, "memory_some_avg10_percent": 8.0}


def run(state, readings, first_s, last_s, *, step_s=1.0, current=None):
    now_s = first_s
    while now_s <= last_s:
        state = advance(state, readings, now_s, current=state.cap.index if current is None else current)
        now_s += step_s
    return state


@pytest.mark.parametrize("readings", [CALM, {}, dict.fromkeys(CALM)])
def test_nothing_is_capped_on_a_calm_device_or_one_without_sensors(readings):
    assert run(uncapped(5), readings, 0.0, 100.0).cap == Cap(4)


def test_memory_pressure_takes_one_rung_per_two_seconds_and_gives_one_back_per_calm_half_minute():
    state = advance(uncapped(5), PRESSED, 0.0, current=4)
    assert state.cap == Cap(3, Cause.MEMORY)
    assert advance(state, PRESSED, 1.0, current=3).cap.index == 3
    state = advance(state, PRESSED, 2.0, current=3)
    assert state.cap.index == 2
    state = run(state, CALM, 3.0, 32.0)
    assert state.cap.index == 2
    state = run(state, CALM, 33.0, 34.0)
    assert state.cap.index == 3
    assert run(state, CALM, 35.0, 63.0).cap == Cap(4)


def test_a_cap_lands_below_the_rung_that_serves_not_below_the_largest():
    assert advance(uncapped(5), PRESSED, 0.0, current=2).cap.index == 1


def test_too_little_memory_for_the_serving_rung_is_pressure():
    needs = (10, 20, 30, 40, 50)
    short = {"memory_available_bytes": 60.0}
    assert advance(uncapped(5), short, 0.0, current=4, needs_bytes=needs).cap == Cap(3, Cause.MEMORY)
    assert advance(uncapped(5), short, 0.0, current=3, needs_bytes=needs).cap == Cap(4)


def test_heating_towards_the_trip_point_is_capped_before_it_is_reached():
    state = uncapped(5)
    for second in range(10):
        state = advance(state, {"thermal_headroom_c": 20.0 - 0.5 * second}, float(second), current=4)
    assert state.cap == Cap(3, Cause.THERMAL)


def test_a_steady_temperature_near_the_trip_point_is_not_capped():
    assert run(uncapped(5), {"thermal_headroom_c": 3.0}, 0.0, 100.0).cap == Cap(4)


def test_the_slope_of_the_temperature_is_that_of_the_last_twenty_seconds():
    state = uncapped(5)
    for second in range(60):
        fast = max(0.0, 30.0 - second)  # one degree per second for half a minute, then steady at 20 degrees of headroom
        state = advance(state, {"thermal_headroom_c": 20.0 + fast}, float(second), current=4)
    assert {time_s for time_s, _ in state.headrooms} == {float(second) for second in range(39, 60)}
    assert seconds_to_trip(state.headrooms) == math.inf


def test_a_throttled_device_is_capped_at_once():
    assert advance(uncapped(5), {"throttled": 1.0}, 0.0, current=4).cap == Cap(3, Cause.THERMAL)


def test_seconds_to_trip_follows_the_slope():
    assert seconds_to_trip([(0.0, 10.0), (1.0, 9.0), (2.0, 8.0)]) == pytest.approx(8.0)
    assert seconds_to_trip([(0.0, 8.0), (1.0, 9.0), (2.0, 10.0)]) == math.inf
    assert seconds_to_trip([(0.0, 10.0), (1.0, 9.0)]) == math.inf
    assert seconds_to_trip([(0.0, -1.0)]) == 0.0


@pytest.mark.parametrize(("percent", "index"), [(80.0, 4), (29.0, 2), (12.0, 0)])
def test_a_draining_battery_caps_by_its_curve(percent, index):
    readings = {"battery_percent": percent, "battery_discharging": 1.0}
    assert advance(uncapped(5), readings, 0.0, current=4).cap.index == index


def test_a_charging_or_unknown_battery_caps_nothing():
    for discharging in (0.0, None):
        readings = {"battery_percent": 5.0, "battery_discharging": discharging}
        assert advance(uncapped(5), readings, 0.0, current=4).cap == Cap(4)


def test_a_battery_that_wavers_around_a_threshold_does_not_flap():
    state, seen = uncapped(5), []
    for percent in (31.0, 30.0, 31.0, 30.0, 31.5, 33.0):
        state = advance(state, {"battery_percent": percent, "battery_discharging": 1.0}, 0.0, current=4)
        seen.append(state.cap.index)
    assert seen == [4, 2, 2, 2, 2, 4]


def test_the_tightest_cap_is_named():
    readings = {"memory_some_avg10_percent": 9.0, "battery_percent": 20.0, "battery_discharging": 1.0}
    assert advance(uncapped(5), readings, 0.0, current=4).cap == Cap(2, Cause.BATTERY)


def test_the_smallest_rung_stays_allowed_under_lasting_pressure():
    assert run(uncapped(3), PRESSED, 0.0, 60.0).cap == Cap(0, Cause.MEMORY)


def test_limits_can_be_set():
    strict = Limits(memory_pressure_percent=0.5)
    assert advance(uncapped(5), {"memory_some_avg10_percent": 1.0}, 0.0, current=4, limits=strict).cap.index == 3
