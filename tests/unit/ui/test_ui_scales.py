"""Scales place values in order and choose round ticks; quantities read and parse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.errors import UsageError
from tailorbird.ui.svg import Scale, nice_step
from tailorbird.ui.units import byte_words, count_words, parse_bytes, parse_time_us, share_words, time_words

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


@pytest.mark.parametrize(
    ("text", "microseconds"), [("25ms", 25e3), ("800us", 800), ("1.5 s", 1.5e6), ("30m", 1.8e9), ("2h", 7.2e9)]
)
def test_typed_times_parse(text, microseconds):
    assert parse_time_us(text) == microseconds


def test_typed_sizes_parse():
    assert parse_bytes("40MB") == 40e6
    assert parse_bytes("64KiB") == 65536


@pytest.mark.parametrize(("text", "why"), [("25", "the unit is missing"), ("25 lightyears", "one of us, ms"), ("-3ms", "positive"), ("0ms", "positive")])
def test_times_without_a_proper_unit_are_refused_with_an_example(text, why):
    with pytest.raises(UsageError) as caught:
        parse_time_us(text)
    assert why in caught.value.why
    assert "25ms" in caught.value.fix
