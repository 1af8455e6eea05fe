"""The reuse ladder for real: every rung of it on small kernels, each schedule measured and never slower than none."""

from __future__ import annotations

import json
import platform
from dataclasses import replace

import pytest
import torch
from torch import nn
from tuning_rig import TARGET

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.backend import built
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import compiler
from tailorbird.compile.verify import verify
from tailorbird.db import Store, StoredSchedule
from tailorbird.errors import UsageError
from tailorbird.tune.assemble import build_rungs
from tailorbird.tune.database import database_of
from tailorbird.tune.kernels import ms
from tailorbird.tune.measuring import target_name
from tailorbird.tune.tuner import Tuning
from tailorbird.tune.workload import anchor_key, describe, relaxations
from tailorbird.types.schedule import DeviceClass

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

BOARDS = DeviceClass.from_target(target_name(TARGET))


class Net:
    """A small network, captured and prepared."""

    def __init__(self, *layers: nn.Module) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(*layers).eval()
        self.x = torch.randn(1, 8, 12, 12)
        self.captured = capture(self.module, (self.x,))
        self.prepared = prepare(import_network(self.captured), TARGET)


@pytest.fixture(scope="module")
def donor_net() -> Net:
    return Net(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())


@pytest.fixture(scope="module")
def other_net() -> Net:
    return Net(nn.Conv2d(8, 24, 3, padding=1, stride=2), nn.ReLU())


@pytest.fixture(scope="module")
def tuned(donor_net, tuning, tmp_path_factory) -> list[StoredSchedule]:
    """Trials of the donor network's kernels."""
    with Store(tmp_path_factory.mktemp("donor") / "s.db") as store:
        tuning([donor_net.prepared], store, most_trials=8)
        return list(store.schedules.stored())


@pytest.fixture
def climb(tuning, store):
    """Reuse alone, on the store of the test."""

    def run(net: Net, boards: DeviceClass = BOARDS, **options) -> Tuning:
        return tuning([net.prepared], store, boards=boards, search=False, **options)

    return run


def convolution(outcome: Tuning):
    return next(kernel for kernel in outcome.kernels if "conv" in kernel.name)


def test_an_empty_store_gives_plain_loops_and_remembers_the_kernels(donor_net, climb, store) -> None:
    outcome = climb(donor_net)
    assert {kernel.source for kernel in outcome.kernels} == {"default"}
    assert outcome.trials == len(outcome.kernels)
    assert outcome.total_us == outcome.untuned_us > 0
    assert {w.key for w in store.schedules.workloads()} == {kernel.workload for kernel in outcome.kernels}
    assert climb(donor_net).trials == 0


def test_a_kernel_tuned_before_costs_no_measurement(donor_net, tuned, climb, store) -> None:
    store.schedules.merge([BOARDS], tuned)
    kernel = convolution(climb(donor_net))
    assert (kernel.source, kernel.measurements, kernel.attempts) == ("exact", 0, ())
    assert kernel.us == min(t.record.cpu_us for t in tuned if t.record.workload == kernel.workload and t.record.cpu_us)


def test_records_of_another_release_are_confirmed_once(donor_net, tuned, climb, store) -> None:
    old = [replace(trial, record=replace(trial.record, compiler="apache-tvm 0.1")) for trial in tuned]
    store.schedules.merge([BOARDS], old)
    first = convolution(climb(donor_net))
    assert sorted(attempt.mode for attempt in first.attempts if attempt.us is not None) == ["default", "stored"]
    assert first.record is not None
    assert first.record.compiler == compiler()
    assert first.us <= first.untuned_us
    again = convolution(climb(donor_net))
    assert again.measurements == 0
    assert again.us == first.us


def test_another_epilogue_takes_the_main_blocks_schedule(donor_net, tuned, climb, store) -> None:
    climb(donor_net)
    store.schedules.merge([BOARDS], tuned)
    kernel = convolution(climb(Net(nn.Conv2d(8, 16, 3, padding=1), nn.Hardtanh())))
    assert sorted(attempt.mode for attempt in kernel.attempts if attempt.us is not None) == ["anchor", "default"]
    assert kernel.source == "anchor"
    assert kernel.us < kernel.untuned_us


def test_kernels_of_other_sizes_and_boards_lend_their_schedules(
    donor_net, other_net, tuned, climb, tuning, store, builders
) -> None:
    climb(donor_net)
    store.schedules.merge([BOARDS], tuned)
    elsewhere = replace(BOARDS, cpu_model="another CPU", isa_features=("avx2",))
    assert convolution(climb(other_net, accept=lambda _: False)).source == "default"
    outcome = climb(other_net, elsewhere, measurements=4)
    kernel = convolution(outcome)
    assert kernel.source == "transfer"
    assert kernel.us < kernel.untuned_us
    assert 2 <= kernel.measurements <= 4
    donors = {attempt.donor_class for attempt in kernel.attempts if attempt.mode != "default"}
    assert donors == {BOARDS.name}
    assert {attempt.mode for attempt in kernel.attempts} >= {"default", "nearest"}
    assert all(k.us <= k.untuned_us for k in outcome.kernels if k.us and k.untuned_us)

    library, seconds = build_rungs([other_net.prepared], outcome.best, builders)[0]
    made = built(other_net.captured, TARGET, library, seconds, ())
    assert verify(made, other_net.module, [(other_net.x,)]).max_error < 1e-4

    searched = tuning([other_net.prepared], store, boards=elsewhere, most_trials=4)
    assert searched.trials >= 4
    assert convolution(searched).us <= kernel.us


def test_reuse_begins_no_second_batch_after_its_time(donor_net, climb) -> None:
    outcome = climb(donor_net, budget_s=0.001, batch=1)
    assert outcome.trials == 1
    assert [kernel.us is None for kernel in outcome.kernels].count(False) == 1


def test_lent_schedules_that_do_not_apply_leave_the_kernel_with_its_plain_loops(
    donor_net, other_net, tuned, climb, store
) -> None:
    climb(donor_net)
    strange = json.dumps([[["GetSBlock", [], ["no such block", "main"], ["b0"]]], []])
    broken = [replace(each, record=replace(each.record, trace_json=strange)) for each in tuned if each.record.cpu_us]
    store.schedules.merge([BOARDS], broken)
    kernel = convolution(climb(other_net))
    assert kernel.source == "default"
    lent = [attempt for attempt in kernel.attempts if attempt.mode != "default"]
    assert lent
    assert all(attempt.us is None and attempt.error for attempt in lent)


def test_metaschedule_reads_and_writes_the_store(donor_net, tuned, climb, store) -> None:
    kernel = convolution(climb(donor_net))
    store.schedules.merge([BOARDS], tuned)
    mod = ms.relax_integration.extract_tasks(donor_net.prepared, {"kind": "llvm", "num-cores": 1})
    mod = next(task.dispatched[0] for task in mod if "conv" in task.task_name)
    database = database_of(store.schedules, BOARDS, "b", TARGET)
    size = len(database)
    assert size == len(tuned) + len(store.schedules.workloads())
    workload = database.commit_workload(mod)
    top = database.get_top_k(workload, 2)
    times = [float(record.run_secs[0]) for record in top]
    assert len(times) == 2
    machine = top[0].target
    assert database.has_workload(mod)
    best = database.query_tuning_record(mod, machine, "main")
    assert str(best.trace) == str(top[0].trace)
    assert database.query_ir_module(mod, machine, "main") is not None
    other = type(machine)({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 1})
    assert database.query_tuning_record(mod, other, "main") is None
    assert len(database.get_all_tuning_records()) >= 2

    database.commit_tuning_record(ms.database.TuningRecord(top[1].trace, workload, [1e-9], machine, top[1].args_info))
    database.commit_tuning_record(ms.database.TuningRecord(top[1].trace, workload, [1e10], machine, None))
    assert len(database) == size + 2
    fastest = store.schedules.of_class(BOARDS, "b").fastest(kernel.workload)[0]
    assert fastest.run_us == pytest.approx((1e-3,))
    assert store.schedules.of_class(BOARDS, "b").records()[-1].cpu_us is None
    with pytest.raises(UsageError, match="are not for"):
        database_of(store.schedules, BOARDS, "b", CompileTarget("x86_64-linux-gnu", "x86-64-v3", 2))


def test_records_that_do_not_replay_are_passed_over_and_kept(donor_net, tuned, climb, store) -> None:
    kernel = convolution(climb(donor_net))
    strange = [[["GetSBlock", [], ["no such block", "main"], ["b0"]]], []]
    broken = replace(tuned[0].record, workload=kernel.workload, trace_json=json.dumps(strange), cpu_us=0.1, sketch=0)
    store.schedules.merge([BOARDS], [replace(tuned[0], record=broken)])
    mod = ms.relax_integration.extract_tasks(donor_net.prepared, {"kind": "llvm", "num-cores": 1})
    mod = next(task.dispatched[0] for task in mod if "conv" in task.task_name)
    database = database_of(store.schedules, BOARDS, "b", TARGET)
    assert list(database.get_top_k(database.commit_workload(mod), 5)) == []
    assert broken in store.schedules.of_class(BOARDS, "b").records()


def test_the_pattern_knows_stride_and_window_and_the_anchor_ignores_the_epilogue(donor_net, other_net) -> None:
    def kernel(net: Net):
        tasks = ms.relax_integration.extract_tasks(net.prepared, {"kind": "llvm", "num-cores": 1})
        return next(task.dispatched[0] for task in tasks if "conv" in task.task_name)

    one, two = describe(kernel(donor_net), "a"), describe(kernel(other_net), "b")
    assert one.pattern.endswith("window=3x3 stride=1x1")
    assert two.pattern.endswith("window=3x3 stride=2x2")
    assert one.shape == (1, 12, 12, 16, 3, 3, 8)
    assert two.shape == (1, 6, 6, 24, 3, 3, 8)
    assert relaxations(one.pattern)[1:] == relaxations(two.pattern)[1:]
    assert one.flops > 2 * 12 * 12 * 16 * 9 * 8
    clipped = kernel(Net(nn.Conv2d(8, 16, 3, padding=1), nn.Hardtanh()))
    assert anchor_key(clipped) == one.anchor != two.anchor
    assert describe(clipped).key != one.key
