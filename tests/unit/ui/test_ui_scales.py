"""Scales place values in order and choose round ticks; quantities read naturally."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.ui.svg import Scale, nice_step
from tailorbird.units import byte_words, count_words, share_words, time_words

values = st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=20)


@given(values, st.booleans())
def test_a_scale_keeps_order_and_stays_in_its_pixels(numbers, log):
    scale = Scale.around(numbers, 50.0, 350.0, log=log)
    pixels = [scale(v) for v in sorted(numbers)]
    assert pixels == sorted(pixels)
    assert all(50.0 - 1e-6 <= p <= 350.0 + 1e-6 for p in pixels)


@given(values, st.booleans(), st.integers(2, 8))
def test_ticks_lie_within_the_scale_and_are_not_too_many(numbers, log, count):
    scale = Scale.around(numbers, 0.0, 100.0, log=log)
    ticks = scale.ticks(count)
    slack = 1e-9 * max(abs(scale.high), 1.0)
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)
    assert len(ticks) <= count + 2


@given(st.floats(1e-9, 1e9))
def test_a_nice_step_is_one_two_or_five_and_not_smaller(raw):
    step = nice_step(raw)
    assert step >= raw * (1 - 1e-6)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 1e-6


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (time_words(12.3), "12.3 us"),
        (time_words(1240), "1.24 ms"),
        (time_words(24.5e6), "24.5 s"),
        (count_words(38_500_000), "38.5 M"),
        (count_words(999), "999"),
        (byte_words(32768), "32.0 KiB"),
        (share_words(0.9712), "97.1 %"),
    ],
)
def test_quantities_read_naturally(words, expected):
    assert words == expected
