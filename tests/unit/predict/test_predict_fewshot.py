"""The stop rule, doubts, and what is refused without samples, on a made-up fleet with a known law."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.errors import UsageError
from tailorbird.predict import Sample
from tailorbird.predict.fewshot import MOST, NARROW, MeasuredHull, TransferredLatency
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.types import Config
from tests.unit.predict.fleet import fleet

FLEET = fleet(count=160, devices=4, noise=0.005)
CONFIGS = [Config.of({"row": number}) for number in range(160)]
ROWS = CONFIGS[:100]
TARGET_US = FLEET.latency_ms["d3"] * 1e3


def features(configs) -> np.ndarray:
    return FLEET.features[[dict(config.sizes)["row"] for config in configs]]


def measured(*numbers: int, us=TARGET_US) -> list[Sample]:
    return [Sample(CONFIGS[number], float(us[number])) for number in numbers]


def model(samples=(), proxies=None) -> TransferredLatency:
    proxies = proxies or {name: FLEET.latency_ms[name][:100] for name in ("d0", "d1", "d2")}
    return TransferredLatency(features, ROWS, ProxyTable.of(features(ROWS), proxies), samples)


def test_without_samples_it_orders_subnets_and_refuses_milliseconds():
    made = model()
    order = [made.score(config) for config in CONFIGS[100:]]
    assert np.corrcoef(np.argsort(np.argsort(order)), np.argsort(np.argsort(TARGET_US[100:])))[0, 1] > 0.5
    assert made.error is None
    for ask in (made, made.predict_us, made.interval, made.doubt):
        with pytest.raises(UsageError, match="never measured"):
            ask(CONFIGS[120])


def test_samples_give_milliseconds_of_subnets_that_no_device_has_run():
    made = model(measured(*range(0, 60, 3)))
    predicted = np.array([made(config) for config in CONFIGS[100:]])
    assert np.median(np.abs(predicted / TARGET_US[100:] - 1)) < 0.1
    assert made.error is not None
    assert made.error.samples == 20
    inside = [found.low_us <= us <= found.high_us
              for found, us in zip(made.intervals(CONFIGS[100:]), TARGET_US[100:], strict=True)]  # fmt: skip
    assert np.mean(inside) > 0.75


def test_a_measured_subnet_has_its_own_time_and_no_doubt():
    made = model(measured(0, 5, 9, 70, 130))
    assert made(CONFIGS[130]) == TARGET_US[130]
    assert made.interval(CONFIGS[130]).width == 0
    assert made.doubt(CONFIGS[130], slo_us=float(TARGET_US[130])) == ""


def test_measuring_stops_when_the_interval_is_narrow_and_at_twenty():
    made = model(measured(*range(4)))
    assert not made.settled
    for count in range(5, MOST):
        made = model(measured(*range(count)))
        assert made.settled == (made.median_width < NARROW)
    assert model(measured(*range(MOST))).settled


def test_a_deadline_within_the_interval_is_a_reason_to_measure():
    made = model(measured(*range(0, 60, 3)))
    config = next(c for c in CONFIGS[100:] if made.doubt(c) == "")
    found = made.interval(config)
    assert "deadline" in made.doubt(config, slo_us=found.us)
    assert made.doubt(config, slo_us=2 * found.high_us) == ""


def test_a_wide_interval_is_a_reason_to_measure():
    noisy = TARGET_US * np.random.default_rng(0).lognormal(0, 0.8, len(TARGET_US))
    made = model(measured(*range(6), us=noisy))
    assert "wide" in made.doubt(CONFIGS[120])


def test_a_subnet_beyond_all_measured_ones_is_outside():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    hull = MeasuredHull(points)
    assert hull.holds(points).mean() > 0.8
    assert not hull.holds(np.array([[9.0, 0, 0], [0, -9.0, 0]])).any()


def test_more_samples_replace_older_ones_of_the_same_subnet():
    made = model(measured(0, 1, 2, 3, 4)).with_samples([Sample(CONFIGS[0], 1.0), Sample(CONFIGS[7], 2.0)])
    assert made(CONFIGS[0]) == 1.0
    assert [sample.config for sample in made.samples] == [*CONFIGS[:5], CONFIGS[7]]


@pytest.mark.parametrize("constant", ["target", "proxies"])
def test_constant_latencies_give_that_constant(constant):
    same = np.full(len(TARGET_US), 2000.0)
    if constant == "target":
        made = model(measured(*range(8), us=same))
        assert [made(config) for config in CONFIGS[100:110]] == pytest.approx([2000.0] * 10, rel=0.05)
        return
    made = model(measured(*range(0, 60, 4)), {"flat": np.full(100, 3.0)})
    assert all(np.isfinite(made(config)) and made(config) > 0 for config in CONFIGS[100:])


def test_one_proxy_with_gaps_is_enough():
    column = FLEET.latency_ms["d0"][:100].copy()
    column[::2] = np.nan
    made = model(measured(*range(0, 60, 4)), {"d0": column})
    assert all(np.isfinite(made(config)) for config in CONFIGS[100:])


def test_one_sample_beside_a_proxy_that_tells_nothing_is_never_enough():
    made = model(measured(0), {"flat": np.full(100, 3.0)})
    assert made(CONFIGS[120]) == pytest.approx(TARGET_US[0])
    assert not made.settled
    assert "how far" in made.doubt(CONFIGS[120], slo_us=float(TARGET_US[0]))
