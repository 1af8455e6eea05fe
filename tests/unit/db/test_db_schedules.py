"""The schedule store, the same on every database: kernels, classes of boards, donors, history, merging."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text

from tailorbird.db import Store, StoredSchedule
from tailorbird.db.engine import parse_url
from tailorbird.errors import EnvironmentFaultError
from tailorbird.types import Cache, DeviceCard
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

ZEN = DeviceClass("x86_64-linux-gnu", "znver4", 1, "EPYC", 2, ("avx2", "avx512f"), (32768, 1 << 20, 1 << 25))
PI = DeviceClass("aarch64-linux-gnu", "cortex-a72", 4)
CONV = Workload("0x1", "0xa", "f32 conv window=3x3 stride=1x1", (1, 8, 8, 16), 1e6, "conv", "{}", "apache-tvm 1")
STRIDED = Workload("0x2", "0xb", "f32 conv window=3x3 stride=2x2", (1, 4, 4, 16), 1e5)
TARGET = "x86_64-linux-gnu znver4 threads=1"


def trial(workload: str = "0x1", us: float | None = 5.0, **changes) -> ScheduleRecord:
    known = ScheduleRecord(TARGET, workload, "conv", (1, 8), 0, "[[1,2]]", "[[1],[]]", us, compiler="apache-tvm 1")
    return replace(known, **changes)


def test_the_classes_name_tells_what_a_time_depends_on():
    assert ZEN.name == replace(ZEN).name
    others = [replace(ZEN, threads=2), replace(ZEN, cpu_model="Ryzen"), replace(ZEN, caches=(1, 2, 3)), PI]
    assert len({ZEN.name, *(boards.name for boards in others)}) == 5
    assert PI.name == "cortex-a72-t4"
    assert DeviceClass.from_target("aarch64-linux-gnu cortex-a72 threads=4") == PI
    assert DeviceClass.from_target("riscv64-linux-gnu generic threads=2") == DeviceClass("riscv64-linux-gnu", "", 2)
    assert (ZEN.vector_bits, PI.vector_bits, replace(PI, isa_features=("asimd",)).vector_bits) == (512, 0, 128)


def test_a_class_reads_what_was_added_on_any_of_its_boards_and_nothing_else(store: Store):
    one, two = store.schedules.of_class(ZEN, "board-1"), store.schedules.of_class(ZEN, "board-2")
    full = trial(run_us=(5.0, 5.5), environment=(("temperature_c", "40"),), batch="b/1", source="transfer")
    one.add(full)
    two.add(trial(us=None, error="crashed"))
    store.schedules.of_class(PI, "pi").add(trial())
    assert one.records() == two.records() == (full, trial(us=None, error="crashed"))
    assert len(one) == 2
    assert store.schedules.classes() == (PI, ZEN)
    assert [t.board for t in store.schedules.stored(ZEN.name)] == ["board-1", "board-2"]


def test_the_fastest_come_first_and_plain_loops_are_kept_apart(store: Store):
    schedules = store.schedules.of_class(ZEN, "b")
    for us in (7.0, 3.0, None, 5.0):
        schedules.add(trial(us=us))
    schedules.add(trial(us=1.0, source="default", sketch=-1))
    assert [record.cpu_us for record in schedules.fastest("0x1", 2)] == [3.0, 5.0]
    assert schedules.fastest("0x1", 2, "apache-tvm 2") == ()
    plain = schedules.default("0x1")
    assert plain is not None
    assert plain.cpu_us == 1.0
    assert schedules.default("0x2") is None


def test_a_kernel_keeps_its_module_when_it_is_described_again_without(store: Store):
    store.schedules.put_workloads([CONV, STRIDED])
    store.schedules.put_workloads([replace(CONV, module_json="", name="lost")])
    assert store.schedules.workload("0x1") == CONV
    store.schedules.put_workloads([replace(STRIDED, module_json="{2}")])
    assert store.schedules.workloads() == (CONV, replace(STRIDED, module_json="{2}"))
    assert store.schedules.workload("0x3") is None


def test_a_donor_is_the_best_of_a_kernel_on_each_class(store: Store):
    store.schedules.put_workloads([CONV, STRIDED])
    zen, pi = store.schedules.of_class(ZEN, "z"), store.schedules.of_class(PI, "p")
    for schedules, us in ((zen, 5.0), (zen, 4.0), (pi, 90.0)):
        schedules.add(trial(us=us))
    zen.add(trial(us=0.1, source="default", sketch=-1))
    zen.add(trial("0x2", 2.0))
    zen.add(trial("0x2", None, error="crashed"))
    found = store.schedules.donors("f32 conv window=3x3")
    assert {(d.workload.key, d.device_class, d.record.cpu_us) for d in found} == {
        ("0x1", ZEN, 4.0),
        ("0x1", PI, 90.0),
        ("0x2", ZEN, 2.0),
    }
    assert {d.workload for d in store.schedules.donors(CONV.pattern)} == {CONV}
    assert store.schedules.donors("f32 c_nv") == ()
    assert [d.workload for d in store.schedules.anchored("0xb")] == [STRIDED]
    assert store.schedules.anchored("") == ()


def test_history_counts_trials_and_failures(store: Store, clock):
    store.schedules.put_workloads([CONV])
    schedules = store.schedules.of_class(ZEN, "z")
    for us in (5.0, None, 3.0):
        clock.advance(1)
        schedules.add(trial(us=us))
    schedules.add(trial("unknown", 9.0))
    store.schedules.of_class(PI, "p").add(trial())
    slow, conv = store.schedules.history(ZEN.name)
    assert (conv.name, conv.trials, conv.failures, conv.best_us) == ("conv", 3, 1, 3.0)
    assert (conv.shape, conv.newest) == (CONV.shape, clock.now)
    assert (slow.workload, slow.name, slow.shape) == ("unknown", "", ())
    assert len(store.schedules.history()) == 3


def test_merging_again_adds_nothing(store: Store, clock):
    trials = [StoredSchedule(trial(us=us, run_us=(us,)), "b", ZEN.name, clock.now) for us in (1.0, 2.0)]
    assert store.schedules.merge([ZEN], trials) == 2
    later = replace(trials[0], recorded=clock.now.replace(year=2030))
    other_board = replace(trials[0], board="c")
    assert store.schedules.merge([ZEN], [*trials, later, other_board]) == 1
    assert [t.board for t in store.schedules.stored()] == ["b", "b", "c"]


def test_a_known_boards_card_decides_the_class_of_its_records(store: Store):
    caches = (Cache(1, "Data", 32768, 1), Cache(1, "Instruction", 65536, 1), Cache(2, "Unified", 1 << 20, 4))
    runtimes = (("tvm", "1"),)
    card = DeviceCard(
        "z", "1", "x86_64", "x86_64-linux-gnu", "EPYC", "znver4", 2, ("avx2",), caches, 1 << 30, "glibc", "6", runtimes
    )
    store.devices.seen("z", "unix:/z", card)
    store.schedules.on("z").add(trial())
    store.schedules.on("stranger").add(trial())
    known = DeviceClass.of_card(card, 1)
    assert known.caches == (32768, 1 << 20, 0)
    assert {boards.name for boards in store.schedules.classes()} == {known.name, "znver4-t1"}
    assert len(store.schedules.of_class(known, "")) == 1


def test_records_of_the_third_schema_get_the_class_their_target_names(tmp_path: Path):
    location = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", str(Path(sys.modules["tailorbird.db"].__file__).parent / "migrations"))
    engine = create_engine(parse_url(location))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        names = "device, target, workload, kernel_class, extents, sketch, decisions, trace, cpu_us, verdict, error"
        values = f"'a', '{TARGET}', '0x1', 'conv', '[1]', 0, '[2]', '[[],[]]', 3.5, 'ok', ''"
        recorded = "'apache-tvm 1', '2026-01-01 00:00:00'"
        connection.execute(text(f"INSERT INTO schedules ({names}, compiler, recorded) VALUES ({values}, {recorded})"))
    engine.dispose()
    with Store(location) as store:
        (record,) = store.schedules.on("a").records()
        assert (record.cpu_us, record.run_us, record.source) == (3.5, (), "search")
        assert store.schedules.of_class(DeviceClass.from_target(TARGET), "").records() == (record,)


def test_a_full_disk_is_explained_and_loses_nothing_that_was_stored(tmp_path: Path):
    def small(connection, _record) -> None:
        connection.execute("PRAGMA max_page_count = 60")

    with Store(tmp_path / "s.db") as store:
        schedules = store.schedules.of_class(ZEN, "b")
        schedules.add(trial())
        engine = store._engine
        event.listen(engine, "connect", small)
        engine.dispose()  # connections from here on have no space
        with pytest.raises(EnvironmentFaultError, match="did not take") as caught:
            for _ in range(100):
                schedules.add(trial(trace_json="x" * 4000))
        assert "full" in caught.value.why
        assert "space" in caught.value.fix
        kept = len(schedules)
        assert 0 < kept < 100
        event.remove(engine, "connect", small)
        engine.dispose()
        schedules.add(trial())
        assert len(schedules) == kept + 1
