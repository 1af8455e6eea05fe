"""Rank agreement of devices, and what is not known of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tailorbird.predict.monotonicity import MIN_COMMON, agreement, monotonicity
from tailorbird.types import Config


def times(values) -> dict[Config, float]:
    return {Config.of({"a": number}): value for number, value in enumerate(values)}


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=MIN_COMMON, max_size=40))
def test_it_is_spearmans_coefficient_and_the_same_both_ways(rows):
    first, second = zip(*rows, strict=True)
    found = monotonicity({"a": times(first), "b": times(second)})
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found["a", "b"].srcc is None
        return
    expected = spearmanr(first, second)[0]
    for pair in (found["a", "b"], found["b", "a"]):
        assert pair.srcc == pytest.approx(expected, abs=1e-9)
        assert pair.low <= pair.srcc + 1e-6
        assert pair.srcc - 1e-6 <= pair.high


def test_any_rising_change_of_scale_keeps_the_agreement_whole():
    values = [1.0 + 0.3 * n for n in range(12)]
    pair = agreement("p", times(values), "t", times([math.exp(v) for v in values]))
    assert pair.srcc == pytest.approx(1.0)
    assert pair.serves


def test_a_reversed_order_never_serves():
    pair = agreement("p", times(range(1, 13)), "t", times(range(12, 0, -1)))
    assert pair.srcc == pytest.approx(-1.0)
    assert not pair.serves


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (range(1, MIN_COMMON), range(1, MIN_COMMON), f"{MIN_COMMON - 1} common subnets"),
        ([], range(1, 20), "0 common subnets"),
        ([2.0] * 12, range(1, 13), "same time"),
        ([*range(1, MIN_COMMON), math.nan, math.inf], range(1, MIN_COMMON + 2), f"{MIN_COMMON - 1} common subnets"),
    ],
)
def test_what_cannot_be_known_says_why(first, second, words):
    pair = agreement("p", times(first), "t", times(second))
    assert (pair.srcc, pair.low, pair.high, pair.serves) == (None, None, None, False)
    assert words in pair.unknown


def test_the_proxy_that_orders_most_alike_comes_first_and_unknown_ones_last():
    target = [1.0 * n for n in range(1, 13)]
    nearly = [2.0, 1.0, *target[2:]]
    found = monotonicity({"t": times(target), "nearly": times(nearly), "same": times(target), "new": times(target[:3])})
    assert [pair.proxy for pair in found.of("t")] == ["same", "nearly", "new"]
    assert found.best("t") == found["same", "t"]
    assert found.best("new") is None


def test_one_device_alone_has_no_pair():
    found = monotonicity({"only": times([1.0, 2.0])})
    assert (dict(found.pairs), found.best("only")) == ({}, None)


def test_more_common_subnets_narrow_the_interval():
    def width(count: int) -> float:
        values = [float(n) for n in range(count)]
        swapped = [v + (1.5 if n % 2 else 0.0) for n, v in enumerate(values)]
        pair = agreement("p", times(values), "t", times(swapped))
        return pair.high - pair.low

    assert width(80) < width(20) < width(10)
