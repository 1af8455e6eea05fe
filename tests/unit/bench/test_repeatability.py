"""The repeatability benchmark's arithmetic, and its honesty where it cannot measure."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tailorbird.device import Rounds
from tailorbird.types import Candidate, Measurement, ModuleKind, Verdict
from tests.bench import repeatability
from tests.bench.outcome import Outcome


def run(cpu_us: float, reference_us: str = "10") -> Measurement:
    return Measurement("kernel", (cpu_us,) * 9, (cpu_us,) * 9, environment=(("reference_us", reference_us),))


def test_differences_are_those_of_every_pair_that_tells_the_figure() -> None:
    pairs = [(run(100.0), run(102.0)), (run(100.0), run(90.0))]
    found = repeatability._spread(pairs, lambda m: m.cpu_median_us)
    assert (found["pairs"], found["share_within_3_percent"]) == (2, 0.5)
    assert found["worst"] == pytest.approx(0.1)
    assert repeatability._spread(pairs, lambda m: m.cpu_undisturbed_us) == {"pairs": 0}


def test_a_device_that_is_slower_as_a_whole_repeats_itself_over_the_reference_kernel() -> None:
    pairs = [(run(100.0, "10"), run(106.0, "10.6"))]
    assert repeatability._spread(pairs, lambda m: m.cpu_median_us)["worst"] == pytest.approx(0.06)
    assert repeatability._spread(pairs, lambda m: m.cpu_references)["worst"] == pytest.approx(0.0)


def test_without_stress_ng_the_target_is_not_met_and_the_reason_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = Outcome("test/1", "quick")
    repeatability._stress(outcome, [])
    document = json.loads(outcome.to_json())
    assert document["met"] == {repeatability.FLAGGED: False}
    assert "not installed" in document["figures"]["stress-ng"]["unmeasured"]


def test_a_run_that_has_ended_is_read_and_one_of_other_kernels_is_not(tmp_path, monkeypatch) -> None:
    def measured(*_: object) -> None:
        raise LookupError("measured anew")

    flagged = dataclasses.replace(run(100.0), verdict=Verdict.NOISY, environment=(("verdicts", "noisy contended"),))
    kept = tmp_path / "quick-0.json"
    rounds = [Rounds("kernel", (run(100.0), flagged))]
    kept.write_text(json.dumps([dataclasses.asdict(each) for each in rounds]))
    monkeypatch.setattr(repeatability, "_busy", measured)
    kernel = Candidate(ModuleKind.LITERT_MODEL, b"", (), "kernel")
    assert repeatability._run([kernel], 0, kept) == rounds
    with pytest.raises(LookupError):
        repeatability._run([dataclasses.replace(kernel, label="another")], 0, kept)
