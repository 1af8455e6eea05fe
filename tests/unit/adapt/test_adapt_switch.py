import pytest

from tailorbird_agent.adapt import Cause, Return, Switch


def switch(**changes):
    known = {"p_from": 0.714, "p_to": 0.98, "gain": 0.19, "speed_after": 1.42}
    return Switch(1.0, 5, 4, "5", "4", Cause.SPEED, 9500.0, **{**known, **changes})


def test_a_slowdown_reads_as_one_line():
    line = switch(outlook=Return("speed", 1.18, below=True)).explain()
    assert line == "5->4 speed x1.42 P(on time) .71->.98 gain +.19; would return to 5 when speed < 1.18"


def test_what_cannot_be_undone_by_one_quantity_has_no_return_clause():
    assert switch().explain() == "5->4 speed x1.42 P(on time) .71->.98 gain +.19"


@pytest.mark.parametrize(
    ("gain", "text"), [(0.004, "+.004"), (0.01, "+.01"), (-0.3, "-.30"), (1.0, "+1.00"), (0.0, "+.00")]
)
def test_small_gains_keep_a_digit_that_tells(gain, text):
    assert f" gain {text}" in switch(gain=gain).explain()


@pytest.mark.parametrize(
    ("point", "text"),
    [
        (Return("speed", 1.18, below=True), "speed < 1.18"),
        (Return("waits", 123.4, below=False), "waits > 123/s"),
        (Return("waits", 100.0, below=True), "waits < 100/s"),
        (Return("deadline", 9500.0, below=False), "deadline > 9.50 ms"),
        (Return("latency", 47500.0, below=True), "latency < 47.5 ms"),
    ],
)
def test_return_points_carry_their_units(point, text):
    assert str(point) == text
    assert point.return_point() is point
