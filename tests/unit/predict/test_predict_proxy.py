"""Predicting a new device from proxies: on devices with a known law, and on input that cannot be used."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from tailorbird.errors import UsageError
from tailorbird.predict import proxy
from tests.unit.predict.fleet import Fleet, fleet

POOL, TEST = slice(0, 200), slice(200, 300)
TARGET = "d0"


@pytest.fixture(scope="module")
def boards() -> Fleet:
    return fleet()


def chosen(boards: Fleet, count: int, seed: int = 0) -> np.ndarray:
    return proxy.choose_samples(boards.features[POOL], boards.proxies(POOL, TARGET), count, np.random.default_rng(seed))


def predicted(boards: Fleet, rows: np.ndarray, target: np.ndarray | None = None):
    latency = boards.latency_ms[TARGET] if target is None else target
    return proxy.fit_predict(
        boards.features[POOL],
        boards.proxies(POOL, TARGET),
        boards.features[rows],
        latency[rows],
        boards.features[TEST],
    )


def test_without_samples_there_is_an_order_and_no_interval(boards: Fleet):
    score, lo, hi = predicted(boards, np.empty(0, dtype=int))
    assert spearmanr(score, boards.latency_ms[TARGET][TEST])[0] > 0.7
    assert np.isnan(lo).all()
    assert np.isnan(hi).all()


@pytest.mark.parametrize(("count", "rank", "error"), [(1, 0.7, 0.5), (5, 0.85, 0.25), (20, 0.97, 0.06)])
def test_a_handful_of_samples_predicts_a_device_never_seen(boards: Fleet, count: int, rank: float, error: float):
    measured = boards.latency_ms[TARGET][TEST]
    ms, lo, hi = predicted(boards, chosen(boards, count))
    assert spearmanr(ms, measured)[0] > rank
    assert np.mean(np.abs(ms - measured) / measured) < error
    assert ((lo < ms) & (ms < hi)).all()


def test_intervals_cover_what_they_say():
    covered = []
    for seed in range(6):
        boards = fleet(seed=seed)
        measured = boards.latency_ms[TARGET][TEST]
        _, lo, hi = predicted(boards, chosen(boards, 20))
        covered.append(np.mean((lo <= measured) & (measured <= hi)))
    assert 0.85 <= np.mean(covered) <= 0.99


def test_a_hundred_samples_are_better_than_ten(boards: Fleet):
    measured = boards.latency_ms[TARGET][TEST]
    few, many = (predicted(boards, chosen(boards, count))[0] for count in (10, 100))
    assert np.mean(np.abs(many - measured) / measured) < np.mean(np.abs(few - measured) / measured)


def test_proxies_may_be_measured_on_disjoint_architectures(boards: Fleet):
    proxies = {}
    for index, (name, column) in enumerate(boards.proxies(POOL, TARGET).items()):
        proxies[name] = np.where(np.arange(200) % 5 == index, column, np.nan)
    rows = chosen(boards, 10)
    measured = boards.latency_ms[TARGET]
    ms, _, _ = proxy.fit_predict(
        boards.features[POOL], proxies, boards.features[rows], measured[rows], boards.features[TEST]
    )
    assert spearmanr(ms, measured[TEST])[0] > 0.85


def test_units_of_latencies_and_of_features_do_not_matter(boards: Fleet):
    rows = chosen(boards, 10)
    measured = boards.latency_ms[TARGET]
    ms, lo, hi = predicted(boards, rows)
    factor = np.linspace(1, 1e6, boards.features.shape[1])
    again = proxy.fit_predict(
        boards.features[POOL] * factor + 7,
        {name: 1000 * column for name, column in boards.proxies(POOL, TARGET).items()},
        boards.features[rows] * factor + 7,
        1000 * measured[rows],
        boards.features[TEST] * factor + 7,
    )
    np.testing.assert_allclose(np.stack(again), 1000 * np.stack([ms, lo, hi]), rtol=1e-6)


def test_samples_that_were_not_measured_do_not_count(boards: Fleet):
    rows = chosen(boards, 10)
    latency = boards.latency_ms[TARGET].copy()
    latency[rows[7:]] = np.nan
    for with_gaps, without in zip(predicted(boards, rows, latency), predicted(boards, rows[:7]), strict=True):
        np.testing.assert_allclose(with_gaps, without)


def test_the_same_architecture_measured_twice_is_one_sample_with_less_noise(boards: Fleet):
    rows = chosen(boards, 5)
    ms, lo, hi = predicted(boards, np.concatenate([rows, rows]))
    assert np.isfinite([ms, lo, hi]).all()


def test_constant_latencies_predict_the_constant(boards: Fleet):
    rows = chosen(boards, 5)
    ms, lo, hi = predicted(boards, rows, np.full(300, 12.5))
    np.testing.assert_allclose(ms, 12.5, rtol=1e-3)
    assert ((lo <= 12.5) & (hi >= 12.5)).all()


def test_proxies_of_constant_latency_tell_nothing_and_harm_nothing(boards: Fleet):
    rows = chosen(boards, 10)
    flat = {"flat": np.full(200, 3.0)}
    measured = boards.latency_ms[TARGET]
    ms, lo, hi = proxy.fit_predict(
        boards.features[POOL], flat, boards.features[rows], measured[rows], boards.features[TEST]
    )
    assert spearmanr(ms, measured[TEST])[0] > 0.5
    assert np.isfinite([lo, hi]).all()
    assert len(set(proxy.choose_samples(boards.features[POOL], flat, 8, np.random.default_rng(0)))) == 8


def test_one_proxy_is_enough_to_start(boards: Fleet):
    rows = chosen(boards, 10)
    measured = boards.latency_ms[TARGET]
    one = {"d1": boards.latency_ms["d1"][POOL]}
    ms, _, _ = proxy.fit_predict(
        boards.features[POOL], one, boards.features[rows], measured[rows], boards.features[TEST]
    )
    assert spearmanr(ms, measured[TEST])[0] > 0.85


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 7, 20, 100, 200])
def test_chosen_samples_are_distinct_and_repeatable(boards: Fleet, count: int):
    rows = chosen(boards, count, seed=3)
    assert len(set(rows.tolist())) == count == len(rows)
    assert set(rows.tolist()) <= set(range(200))
    np.testing.assert_array_equal(rows, chosen(boards, count, seed=3))


def test_choosing_from_copies_of_two_architectures_takes_both(boards: Fleet):
    features = np.repeat(boards.features[:2], 20, axis=0)
    latency = {"d1": np.repeat(boards.latency_ms["d1"][:2], 20)}
    for count in (2, 4, 10):
        rows = proxy.choose_samples(features, latency, count, np.random.default_rng(0))
        assert {0, 1} == {int(row) // 20 for row in rows}
        assert len(set(rows.tolist())) == count


@pytest.mark.parametrize(("count", "better_by"), [(5, 0.9), (20, 0.9)])
def test_chosen_samples_serve_better_than_random_ones(count: int, better_by: float):
    errors: dict[str, list[float]] = {"chosen": [], "random": []}
    for seed in range(6):
        boards = fleet(seed=10 + seed)
        measured = boards.latency_ms[TARGET][TEST]
        random = np.random.default_rng(seed).permutation(200)[:count]
        for name, rows in (("chosen", chosen(boards, count)), ("random", random)):
            ms, _, _ = predicted(boards, rows)
            errors[name].append(float(np.mean(np.abs(ms - measured) / measured)))
    assert np.mean(errors["chosen"]) < better_by * np.mean(errors["random"])


def test_a_thousand_architectures_on_twenty_devices_fit_in_ten_seconds():
    boards = fleet(count=1100, devices=21)
    rng = np.random.default_rng(0)
    proxies = {
        name: np.where(rng.random(1000) < 0.9, column[:1000], np.nan)
        for name, column in boards.latency_ms.items()
        if name != TARGET
    }
    measured = boards.latency_ms[TARGET]
    begin = time.process_time()
    ms, _, _ = proxy.fit_predict(
        boards.features[:1000], proxies, boards.features[:100], measured[:100], boards.features[1000:]
    )
    assert time.process_time() - begin < 10
    assert spearmanr(ms, measured[1000:])[0] > 0.97


BAD = {
    "features that are not finite": (lambda a: a["features"].__setitem__((0, 0), np.nan), "not all finite"),
    "features of one dimension": (lambda a: a.update(features=a["features"][:, 0]), "wrong shape"),
    "other columns for the test": (lambda a: a.update(test=a["test"][:, 1:]), "wrong shape"),
    "fewer latencies than architectures": (lambda a: a.update(proxies={"p": np.ones(3)}), "do not fit"),
    "a latency of zero": (lambda a: a["latency"].__setitem__(0, 0.0), "not all positive"),
    "an infinite latency": (lambda a: a["latency"].__setitem__(0, np.inf), "not all positive"),
    "a negative proxy": (lambda a: a.update(proxies={"p": np.full(200, -1.0)}), "not all positive"),
    "a proxy never measured": (lambda a: a.update(proxies={"p": np.full(200, np.nan)}), "No latency is known of 'p'"),
    "no proxies": (lambda a: a.update(proxies={}), "nothing to transfer from"),
    "rows of different lengths": (lambda a: a.update(features=[[1.0, 2.0], [3.0]]), "rows of one length"),
    "latencies in words": (lambda a: a.update(latency=["fast"] * 5), "not real numbers"),
    "latencies in words among numbers": (lambda a: a.update(latency=np.array([1.0, "2", 3, 4, 5], object)), "not real"),
    "complex latencies": (lambda a: a.update(latency=a["latency"] + 1j), "not real numbers"),
    "latencies that are no dict": (lambda a: a.update(proxies=[np.ones(200)]), "have no names"),
    "no features at all": (lambda a: a.update(features=np.empty((200, 0)), samples=np.empty((5, 0))), "no features"),
    "another sample than latencies": (lambda a: a.update(latency=a["latency"][:4]), "do not fit"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("function", [proxy.fit_predict, proxy.adaproxy])
def test_input_that_cannot_be_used_is_named(boards: Fleet, fault: str, function):
    given = {
        "features": boards.features[POOL].copy(),
        "proxies": boards.proxies(POOL, TARGET),
        "samples": boards.features[:5].copy(),
        "latency": boards.latency_ms[TARGET][:5].copy(),
        "test": boards.features[TEST].copy(),
    }
    spoil, message = BAD[fault]
    spoil(given)
    with pytest.raises(UsageError, match=message) as raised:
        function(given["features"], given["proxies"], given["samples"], given["latency"], given["test"])
    assert raised.value.why
    assert raised.value.fix


@pytest.mark.parametrize("count", [-1, 201, 2.5, "5", True, None])
def test_what_is_no_number_of_architectures_is_refused(boards: Fleet, count: int):
    with pytest.raises(UsageError, match="cannot be chosen"):
        chosen(boards, count)


FLAT = np.full(200, 3.0)


@pytest.mark.parametrize("rows", [[0], [0, 0, 0, 0, 0], [0, 1, 1, 0]])
def test_two_architectures_and_proxies_that_tell_nothing_give_no_interval(boards: Fleet, rows: list[int]):
    measured = boards.latency_ms[TARGET]
    ms, lo, hi = proxy.fit_predict(
        boards.features[POOL], {"flat": FLAT}, boards.features[rows], measured[rows], boards.features[TEST]
    )
    assert (ms > 0).all()
    assert np.isnan(lo).all()
    assert np.isnan(hi).all()


@pytest.mark.parametrize("count", [3, 5])
def test_three_architectures_are_enough_for_an_honest_interval(boards: Fleet, count: int):
    measured = boards.latency_ms[TARGET]
    _, lo, hi = proxy.fit_predict(
        boards.features[POOL], {"flat": FLAT}, boards.features[:count], measured[:count], boards.features[TEST]
    )
    assert np.mean((lo <= measured[TEST]) & (measured[TEST] <= hi)) > 0.8


def test_samples_of_one_architecture_that_contradict_each_other_widen_the_interval(boards: Fleet):
    measured = boards.latency_ms[TARGET]
    rows = np.repeat(chosen(boards, 5), 2)
    noise = np.tile([0.5, 2.0], 5)
    ms, lo, hi = proxy.fit_predict(
        boards.features[POOL],
        boards.proxies(POOL, TARGET),
        boards.features[rows],
        noise * measured[rows],
        boards.features[TEST],
    )
    assert np.median((hi - lo) / ms) > 0.5
    assert np.mean((lo <= measured[TEST]) & (measured[TEST] <= hi)) > 0.8
