"""The ratio of two modules timed in turns: its interval is honest, and what cannot be compared is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.device import compare
from tailorbird.errors import DeviceError
from tailorbird.types import Measurement


def measured(label: str, blocks: list[np.ndarray]) -> Measurement:
    samples = tuple(float(x) for block in blocks for x in block)
    return Measurement(label, samples, samples, blocks=tuple(len(block) for block in blocks))


def pair(seed: int, ratio: float, *, rounds: int = 25, size: int = 12) -> tuple[Measurement, Measurement]:
    """Two modules on a device whose speed wanders from round to round, which both feel, and which is noisy besides."""
    draw = np.random.default_rng(seed)
    pace = np.exp(np.cumsum(draw.normal(0.0, 0.02, rounds)))
    sides = [
        [100.0 * scale * speed * np.exp(draw.normal(0.0, 0.01) + draw.normal(0.0, 0.03, size)) for speed in pace]
        for scale in (ratio, 1.0)
    ]
    return measured("a", sides[0]), measured("b", sides[1])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    found = [compare(*pair(seed, 0.97), resamples=300, seed=seed) for seed in range(120)]
    covered = sum(each.low <= 0.97 <= each.high for each in found)
    assert 0.88 <= covered / len(found) <= 1.0
    assert all(each.low <= each.ratio <= each.high for each in found)


def test_a_clear_difference_is_told_and_none_is_not() -> None:
    clear = compare(*pair(1, 0.8))
    assert clear.decided
    assert clear.words.endswith("a is faster than b")
    same = compare(*pair(2, 1.0))
    assert not same.decided
    assert "no difference can be told" in same.words
    assert "b is faster than a" in compare(*pair(3, 1.3)).words


def test_swapping_the_sides_inverts_the_ratio() -> None:
    a, b = pair(4, 0.9)
    there, back = compare(a, b), compare(b, a)
    assert there.ratio == pytest.approx(1.0 / back.ratio)
    assert there.low == pytest.approx(1.0 / back.high)


def test_constant_times_have_an_interval_of_no_width() -> None:
    blocks = [np.full(5, 7.0) for _ in range(10)]
    found = compare(measured("a", blocks), measured("b", blocks))
    assert (found.ratio, found.low, found.high, found.decided) == (1.0, 1.0, 1.0, False)


def test_what_was_not_timed_in_turns_or_failed_is_refused() -> None:
    a, b = pair(5, 1.0)
    with pytest.raises(DeviceError, match="in turns"):
        compare(a, Measurement("b", b.wall_us, b.cpu_us))
    with pytest.raises(DeviceError, match="in turns"):
        compare(a, pair(5, 1.0, rounds=24)[1])
    with pytest.raises(DeviceError, match="it crashed"):
        compare(a, Measurement("b", error="it crashed"))
