"""What a measurement tells of its samples, and when it keeps silent."""

from __future__ import annotations

import pytest

from tailorbird.types import KERNEL, MLPERF, QUICK, STANDARD, Measurement, Verdict


def of(count: int) -> Measurement:
    samples = tuple(float(x) for x in range(1, count + 1))
    return Measurement("m", samples, samples)


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(63, None, None), (64, 58.0, None), (661, 595.0, None), (662, 596.0, 656.0)]
)
def test_percentiles_are_told_from_as_many_samples_as_they_need(count, p90, p99) -> None:
    assert (of(count).wall_p90_us, of(count).wall_p99_us) == (p90, p99)


def test_median_and_spread_leave_nothing_out() -> None:
    outlier = Measurement("m", (1.0, 2.0, 3.0, 100.0), (1.0, 2.0, 3.0, 100.0))
    assert (outlier.cpu_median_us, outlier.cpu_mad_us) == (2.5, 1.0)
    assert (outlier.wall_median_us, outlier.wall_mad_us) == (2.5, 1.0)


@pytest.mark.parametrize(
    ("protocol", "runs", "seconds"), [(QUICK, 20, 0.5), (STANDARD, 100, 5.0), (MLPERF, 1024, 60.0), (KERNEL, 20, 0.05)]
)
def test_the_modes_have_their_minima(protocol, runs, seconds) -> None:
    assert (protocol.min_runs, protocol.min_seconds) == (runs, seconds)
    assert protocol.max_seconds >= 2 * protocol.min_seconds


def test_contention_alone_leaves_the_cpu_time_usable() -> None:
    assert {verdict for verdict in Verdict if not verdict.spoils_cpu_time} == {Verdict.OK, Verdict.CONTENDED}
