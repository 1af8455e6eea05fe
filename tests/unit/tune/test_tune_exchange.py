"""Schedules in and out of the store: whole files, damaged ones, and the records MetaSchedule wrote."""

from __future__ import annotations

import json
import lzma
import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tailorbird.db import Store, StoredSchedule
from tailorbird.errors import EnvironmentFaultError, MissingFileError, UsageError
from tailorbird.tune.exchange import export_schedules, import_schedules
from tailorbird.tune.foreign import import_metaschedule, is_metaschedule
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

ZEN = DeviceClass("x86_64-linux-gnu", "znver4", 1, "EPYC", 2, ("avx2",), (1, 2, 3))
PI = DeviceClass("aarch64-linux-gnu", "cortex-a72", 4)
CONV = Workload("0x1", "0xa", "f32 conv window=3x3 stride=1x1", (1, 8), 1e6, "conv", '{"a": "é"}', "apache-tvm 1")
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRACE = json.dumps([[["GetSBlock", [], ["conv", "main"], ["b0"]]], []])
GOOD = ScheduleRecord(
    "t",
    "0x1",
    "conv",
    (1, 8),
    0,
    "[[1,2]]",
    TRACE,
    2.5,
    "ok",
    "",
    "apache-tvm 1",
    (2.0, 2.5),
    (("k", "v"),),
    "b",
    "search",
)


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "s.db", clock=lambda: WHEN) as opened:
        yield opened


@pytest.fixture
def filled(store: Store) -> Store:
    store.schedules.put_workloads([CONV])
    trials = [StoredSchedule(replace(GOOD, cpu_us=float(us)), "b", ZEN.name, WHEN) for us in range(1, 4)]
    failed = StoredSchedule(replace(GOOD, cpu_us=None, run_us=(), error="crashed"), "pi", PI.name, WHEN)
    store.schedules.merge([ZEN, PI], [*trials, failed])
    return store


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.xz"])
def test_what_is_exported_comes_back_whole(filled: Store, tmp_path: Path, name: str):
    path = tmp_path / name
    assert export_schedules(filled.schedules, path) == 4
    with Store(tmp_path / "other.db") as other:
        first = import_schedules(other.schedules, path)
        assert (first.read, first.added, first.workloads, first.damaged) == (4, 4, 1, ())
        assert list(other.schedules.stored()) == list(filled.schedules.stored())
        assert other.schedules.classes() == filled.schedules.classes()
        assert other.schedules.workload("0x1") == CONV
        assert import_schedules(other.schedules, path).added == 0


def test_one_class_is_exported_alone_and_an_unknown_one_refused(filled: Store, tmp_path: Path):
    path = tmp_path / "pi.jsonl"
    assert export_schedules(filled.schedules, path, PI.name) == 1
    with pytest.raises(UsageError, match="cortex-a99") as caught:
        export_schedules(filled.schedules, path, "cortex-a99")
    assert PI.name in caught.value.why
    assert len(path.read_text().splitlines()) == 3


def test_a_damaged_line_costs_itself_and_is_named(filled: Store, tmp_path: Path):
    path = tmp_path / "all.jsonl"
    export_schedules(filled.schedules, path)
    lines = path.read_text().splitlines()
    trials = [number for number, line in enumerate(lines) if "tailorbird.schedule/1" in line]
    lines[trials[0]] = lines[trials[0]][:-30]
    lines[trials[1]] = lines[trials[1]].replace('"0x1"', "17", 1)
    lines.append('{"schema": "tailorbird.schedule/9"}')
    path.write_text("\n".join(lines) + "\n")
    with Store(tmp_path / "other.db") as other:
        outcome = import_schedules(other.schedules, path)
        assert (outcome.read, outcome.added) == (2, 2)
        assert [damage.line for damage in outcome.damaged] == [trials[0] + 1, trials[1] + 1, len(lines)]
        assert [
            word
            for word, damage in zip(("not JSON", "expected str", "schedule/9"), outcome.damaged, strict=True)
            if word in damage.why
        ] == ["not JSON", "expected str", "schedule/9"]


def test_a_file_of_something_else_is_refused(store: Store, tmp_path: Path):
    path = tmp_path / "x.jsonl"
    with pytest.raises(MissingFileError):
        import_schedules(store.schedules, path)
    path.write_text("")
    with pytest.raises(UsageError, match="holds no schedules"):
        import_schedules(store.schedules, path)
    path.write_text('{"a": 1}\n')
    with pytest.raises(UsageError, match="holds no schedules"):
        import_schedules(store.schedules, path)
    packed = tmp_path / "x.jsonl.xz"
    packed.write_bytes(lzma.compress(b"abc" * 1000)[:-20])
    with pytest.raises(UsageError, match="cannot be read"):
        import_schedules(store.schedules, packed)


def test_an_export_that_fails_leaves_the_old_file(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "all.jsonl"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFaultError, match="cannot write") as caught:
        export_schedules(filled.schedules, path)
    assert "No space left" in caught.value.why
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".all")] == []
    with pytest.raises(EnvironmentFaultError):
        export_schedules(filled.schedules, tmp_path / "missing" / "all.jsonl")


def _records(layout: str) -> Path:
    data = os.environ.get("TAILORBIRD_DATA")
    folder = Path(data or "/nonexistent") / "tvm" / f"mbv2_224_{layout}_znver4"
    if data is None or not folder.is_dir():
        pytest.skip("TAILORBIRD_DATA does not name a folder with MetaSchedule records")
    return folder


def _head(path: Path, count: int) -> list[str]:
    with lzma.open(path, "rt") as stream:
        return [line for _, line in zip(range(count), stream, strict=False)]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the records name no triple: they are of x86_64")
def test_metaschedules_own_files_are_read_up_to_what_is_damaged(store: Store, tmp_path: Path):
    source = _records("nhwc")
    kernels = _head(source / "database_workload.json.xz", 3)
    records = [line for line in _head(source / "database_tuning_record.json.xz", 120) if json.loads(line)[0] < 3]
    assert len(records) > 20
    kernels[2] = '["17", "AAAA"]\n'
    broken = [line for line in records if json.loads(line)[0] == 2]
    assert is_metaschedule(source)
    assert not is_metaschedule(tmp_path)
    (tmp_path / "database_workload.json").write_text("".join(kernels))
    (tmp_path / "database_tuning_record.json").write_text("".join(records) + '[0,[["x"\n')
    outcome = import_metaschedule(store.schedules, tmp_path)
    assert (outcome.workloads, outcome.read) == (2, len(records) - len(broken))
    assert outcome.added == outcome.read
    assert len(outcome.damaged) == len(broken) + 2
    assert import_metaschedule(store.schedules, tmp_path).added == 0
    (boards,) = store.schedules.classes()
    assert boards == DeviceClass("x86_64-linux-gnu", "znver4", 1)
    assert all(len(trial.record.run_us) > 0 and trial.record.cpu_us for trial in store.schedules.stored())
    assert {w.pattern.split()[1] for w in store.schedules.workloads()} == {"SSR", "SS"}


def test_half_a_metaschedule_database_is_refused(store: Store, tmp_path: Path):
    (tmp_path / "database_tuning_record.json").write_text("")
    with pytest.raises(MissingFileError, match="database_workload"):
        import_metaschedule(store.schedules, tmp_path)
    (tmp_path / "database_workload.json").write_text("nonsense\n")
    with pytest.raises(UsageError, match="can be loaded"):
        import_metaschedule(store.schedules, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the records name no triple: they are of x86_64")
def test_three_thousand_records_become_donors(store: Store):
    outcome = import_metaschedule(store.schedules, _records("nhwc"))
    assert (outcome.read, outcome.added, outcome.workloads, outcome.damaged) == (3091, 3091, 34, ())
    patterns = {workload.pattern for workload in store.schedules.workloads()}
    assert len(patterns) == 8  # 1x1 and depthwise (two strides) convolutions, the stem, pooling, the classifier, copies
    pointwise = next(w for w in store.schedules.workloads() if w.shape == (1, 14, 14, 96, 1, 1, 576))
    assert len(store.schedules.donors(pointwise.pattern)) == 20
    best = store.schedules.of_class(DeviceClass("x86_64-linux-gnu", "znver4"), "").fastest(pointwise.key)[0]
    assert best.cpu_us is not None
    assert pointwise.flops / best.cpu_us > 80e3  # 80 GFLOP/s
