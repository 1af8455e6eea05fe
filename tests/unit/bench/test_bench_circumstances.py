"""What is noted around a measurement, on a device that throttles meanwhile and whose clock is set."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from tailorbird_agent.bench.circumstances import Circumstances, Device
from tailorbird_agent.bench.protocol import Samples, time_call
from tailorbird_agent.bench.reference import Reference
from tailorbird_agent.bench.stats import judge
from tailorbird_agent.bench.stopwatch import make_stopwatch
from tailorbird_agent.worker.plan import Protocol

FREQUENCY = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
STEADY = [100.0 + 0.01 * (i * 7 % 11) for i in range(60)]


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def steady_reference() -> Reference:
    now_ns = itertools.count(0, 5_000)
    return Reference(lambda: next(now_ns), lambda: None)


def samples(cpu_us: list[float]) -> Samples:
    return Samples(tuple(cpu_us), tuple(cpu_us), (), 1, (len(cpu_us),), complete=True)


def test_a_device_that_throttles_between_two_batches_keeps_what_was_measured_and_says_so(tmp_path) -> None:
    write(tmp_path, FREQUENCY, "1800000\n")
    write(tmp_path, "proc/sys/kernel/osrelease", "6.6.31\n")
    seen = Circumstances(Device(tmp_path, steady_reference()))
    seen.look()
    write(tmp_path, FREQUENCY, "1000000\n")
    seen.look()
    write(tmp_path, FREQUENCY, "1800000\n")
    seen.look()
    evidence = seen.evidence(samples(STEADY), 1)
    assert list(evidence.cpu_us) == STEADY
    verdict = judge(evidence)
    assert verdict.name == "throttled"
    assert "fell from 1800 to 1000 MHz" in verdict.reason
    notes = seen.notes()
    assert (notes["frequency_hz.before"], notes["frequency_hz.after"]) == ("1.8e+09", "1.8e+09")
    assert notes["kernel"] == "6.6.31"
    assert float(notes["reference_us"]) == pytest.approx(float(notes["reference_usual_us"]))
    assert "temperature_max_c.before" not in notes  # absent is not 0


def test_short_measurements_that_follow_each_other_share_one_timing_of_the_reference_kernel(tmp_path) -> None:
    worked, now_s = itertools.count(), [10.0]
    ticks_ns = itertools.count(0, 5_000)
    device = Device(tmp_path, Reference(lambda: next(ticks_ns), lambda: next(worked)), lambda: now_s[0])
    so_far = [next(worked)]
    for moment_s in (10.0, 10.1, 10.4, 10.6, 10.7):
        now_s[0] = moment_s
        seen = Circumstances(device)
        seen.look()
        seen.look()
        so_far.append(next(worked))
    timed = [after - before > 1 for before, after in itertools.pairwise(so_far)]
    assert timed == [True, False, False, True, False]


def test_setting_the_clock_changes_no_measurement(tmp_path, monkeypatch) -> None:
    jumps = itertools.cycle([-1e9, 2e9, 0.0, 5e10])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(jumps) * 1e9))
    seen = Circumstances(Device(tmp_path))
    protocol = Protocol("kernel", 20, 5.0, 2000.0)
    found = time_call(lambda: sum(range(2000)), protocol, make_stopwatch(1, queueing=True), seen.look)
    assert found.complete
    assert len(found.cpu_us) >= 20
    assert all(0.0 < cpu <= wall * 1.01 for cpu, wall in zip(found.cpu_us, found.wall_us, strict=True))
    assert 0.0 <= seen.evidence(found, 1).elapsed_s < 60.0
