"""Trying schedules on real agents: every candidate has a time or a reason, whatever happens around it."""

from __future__ import annotations

import dataclasses
import math
import platform
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import DevicePool, Devices, LocalAgent
from tailorbird.errors import EnvironmentFaultError
from tailorbird.tune.builders import Builders
from tailorbird.tune.failure import Failure, FailureKind, Tally, TuningError, failure_of
from tailorbird.tune.gather import describe_spaces, distinct_kernels
from tailorbird.tune.session import boards_of, tune
from tailorbird.tune.space import FOREIGN_SKETCH, Decisions, VectorUnit, sample
from tailorbird.tune.trials import Outcome, Plan, Trials, difference
from tailorbird.types import Measurement, TimingProtocol

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")
BRIEF = TimingProtocol("kernel", min_runs=3, min_seconds=0.002, max_seconds=0.1)
LIBRARY = runtime_library(TARGET.triple)


def prepared(*layers: nn.Module, size: int) -> Any:
    torch.manual_seed(0)
    network = nn.Sequential(*layers).eval()
    return prepare(import_network(capture(network, (torch.randn(1, 8, size, size),))), TARGET)


@pytest.fixture(scope="module")
def module() -> Any:
    return prepared(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), size=12)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LocalAgent]]:
    folder = tmp_path_factory.mktemp("agents")
    started = {name: LocalAgent.start(folder / name, name=name) for name in ("a", "b")}
    yield started
    for agent in started.values():
        agent.stop()


@pytest.fixture
def devices(agents: dict[str, LocalAgent], tmp_path: Path) -> Iterator[Devices]:
    with Store(tmp_path / "s.db") as store:
        known = Devices(store)
        for name, agent in agents.items():
            known.add(name, str(agent.control), ("board",))
        yield known


@pytest.fixture
def pool(devices: Devices) -> Iterator[DevicePool]:
    with devices.pool("a", lease_s=5.0, linger_s=0.1) as opened:
        yield opened


class Faulty(Builders):
    """Builders whose finished libraries are spoilt on the way, as a broken linker or disk would."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spoil: Callable[[Path], None] = lambda _: None
        self.place: Callable[[Path], Path] = lambda path: path

    def new_file(self, suffix: str) -> Path:
        return self.place(super().new_file(suffix))

    def submit(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        if request["do"] != "library":
            return super().submit(request)
        answer: Future[dict[str, Any]] = Future()

        def spoil(done: Future[dict[str, Any]]) -> None:
            self.spoil(Path(request["output"]))
            answer.set_result(done.result())

        super().submit(request).add_done_callback(spoil)
        return answer


@pytest.fixture(scope="module")
def shared_builders() -> Iterator[Faulty]:
    with Faulty(TARGET, workers=1, timeout_s=90.0) as started:
        yield started


@pytest.fixture
def builders(shared_builders: Faulty) -> Faulty:
    shared_builders.spoil, shared_builders.place = (lambda _: None), (lambda path: path)
    return shared_builders


def drawn(module: Any, builders: Builders, count: int, seed: int = 0) -> list[Plan]:
    """So many schedules of each of the module's heavy kernels, none of them plain loops."""
    kernels = distinct_kernels([module], builders)
    spaces = describe_spaces([(kernel.name, kernel.path) for kernel in kernels], builders)
    rng, plans = random.Random(seed), dict[tuple[str, Decisions], Plan]()
    for kernel, space in zip(kernels, spaces, strict=True):
        while space is not None and "conv" in kernel.name and sum(key == kernel.key for key, _ in plans) < count:
            sketch = rng.randrange(len(space.sketches))
            decisions = sample(space.sketches[sketch], VectorUnit(8, 16), rng)
            plans[kernel.key, decisions] = Plan(kernel.key, kernel.name, kernel.path, sketch, decisions)
    return list(plans.values())


def volume(plan: Plan) -> int:
    """How often a kernel's innermost statement runs."""
    return math.prod(math.prod(tile) for tile in plan.decisions if isinstance(tile, tuple))


@pytest.fixture
def plans(module: Any, builders: Faulty) -> list[Plan]:
    """Schedules of the module's two kernels."""
    return drawn(module, builders, 3)


def once(plans: Sequence[Plan], size: int = 100) -> Callable[[int], Sequence[Plan]]:
    """A `propose` that gives these plans, `size` at a time, and then none."""
    left = list(plans)

    def propose(_: int) -> Sequence[Plan]:
        batch, left[:] = left[:size], left[size:]
        return batch

    return propose


def tried(
    builders: Builders, pool: DevicePool, plans: Sequence[Plan], size: int = 100, **options: Any
) -> list[Outcome]:
    with Trials(builders, pool, protocol=BRIEF, runtime_library=LIBRARY, **options) as trials:
        return list(trials.stream(once(plans, size)))


def test_every_plan_has_a_time_and_the_answer_of_the_plain_loops(builders, pool, plans) -> None:
    outcomes = tried(builders, pool, plans)
    defaults = [each for each in outcomes if each.plan.is_default]
    assert {each.plan.workload for each in defaults} == {plan.workload for plan in plans}
    assert sorted(each.plan.decisions for each in outcomes if not each.plan.is_default) == sorted(
        plan.decisions for plan in plans
    )
    for each in outcomes:
        assert each.failure is None, each.failure
        assert each.us > 0
        assert each.trace or each.plan.is_default
        assert each.checked != each.plan.is_default
        assert "reference_drift" in dict(each.measurement.environment)


def test_the_incumbent_is_timed_again_and_times_on_another_board_are_brought_to_it(builders, devices, plans) -> None:
    with devices.pool("class:board", lease_s=5.0, linger_s=0.1) as both:
        outcomes = tried(builders, both, plans, 4, control_every=4)
    assert {each.device for each in outcomes} <= {"a", "b"}
    for each in outcomes:
        assert each.us == pytest.approx(each.measurement.cpu_median_us / (1.0 + each.drift))


def test_a_candidate_that_answers_something_else_is_found_out(builders, pool, plans) -> None:
    other = prepared(nn.Conv2d(8, 16, 3, padding=1), nn.Hardtanh(0.0, 0.01), size=12)
    (impostor,) = drawn(other, builders, 1)
    honest = max(plans, key=volume)  # the 3x3 kernel
    named = dataclasses.replace(honest, kernel=impostor.kernel, sketch=impostor.sketch, decisions=impostor.decisions)
    outcomes = tried(builders, pool, [honest, named])
    by_plan = {id(each.plan): each for each in outcomes}
    assert by_plan[id(honest)].failure is None
    failure = by_plan[id(named)].failure
    assert failure is not None
    assert failure.kind is FailureKind.WRONG
    assert by_plan[id(named)].us is None


def test_a_candidate_ten_times_slower_is_not_timed(builders, pool, plans) -> None:
    slow = prepared(nn.Conv2d(8, 128, 1), nn.Conv2d(128, 128, 3, padding=1), size=24)
    heavy = max(drawn(slow, builders, 1), key=volume)
    late = Plan(plans[0].workload, "late", heavy.kernel, FOREIGN_SKETCH, trace="[[],[]]", source="import")
    outcomes = tried(builders, pool, [plans[0], late])
    failure = next(each.failure for each in outcomes if each.plan is late)
    assert failure is not None
    assert failure.kind is FailureKind.TIMEOUT
    assert "were allowed" in failure.words


def test_schedules_that_do_not_fit_and_libraries_that_crash_are_told_apart(
    builders, pool, plans, tmp_path: Path
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source = tmp_path / "crash.c"
    source.write_text("__attribute__((constructor)) void go(void) { *(volatile int *)0 = 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "crash.so", source], check=True)
    builders.spoil = lambda output: shutil.copyfile(tmp_path / "crash.so", output)
    unfit = dataclasses.replace(plans[0], decisions=plans[0].decisions[:-1])
    outcomes = tried(builders, pool, [unfit, plans[0]])
    kinds = {id(each.plan): each.failure.kind for each in outcomes}
    assert (kinds[id(unfit)], kinds[id(plans[0])]) == (FailureKind.INVALID, FailureKind.CRASH)
    assert any("SIGSEGV" in each.failure.words for each in outcomes)


def test_a_device_that_dies_costs_a_second_attempt_and_no_outcome(builders, devices, agents, plans, tmp_path) -> None:
    mortal = LocalAgent.start(tmp_path / "mortal", name="mortal")
    devices.add("mortal", str(mortal.control), ("doomed",))
    devices.add("heir", str(agents["b"].control), ("doomed",))
    outcomes = []
    doomed = devices.pool("class:doomed", lease_s=2.0, linger_s=0.1)
    with doomed, Trials(builders, doomed, protocol=BRIEF, runtime_library=LIBRARY) as trials:
        for outcome in trials.stream(once(plans, 2)):
            outcomes.append(outcome)
            if outcome.device == "mortal" and mortal._process.poll() is None:
                mortal._process.kill()
    mortal.stop()
    others = [id(each.plan) for each in outcomes if not each.plan.is_default]
    assert sorted(others) == sorted(map(id, plans)), "each exactly once"
    assert all(each.failure is None for each in outcomes)


def test_a_full_disk_ends_the_run_with_its_reason(builders, pool, plans) -> None:
    builders.place = lambda _: Path("/dev/full")
    with pytest.raises(EnvironmentFaultError, match="could not be written") as caught:
        tried(builders, pool, plans[:2])
    assert (caught.value.reason, "No space left" in caught.value.why) == ("DISK_FULL", True)


def test_a_run_in_which_everything_fails_is_an_error_that_says_how(builders, pool, module, tmp_path) -> None:
    builders.spoil = lambda output: output.write_bytes(b"no library") if output.exists() else None
    options: dict[str, Any] = {"runtime_library": LIBRARY, "protocol": BRIEF, "budget_s": 60.0, "most_trials": 4}
    with Store(tmp_path / "t.db") as store, pytest.raises(TuningError, match="none of") as caught:
        tune(pool, [module], store.schedules, boards_of(TARGET), builders, **options)
    assert caught.value.exit_code == 1
    assert "crash" in caught.value.why
    with Store(tmp_path / "t.db") as store:
        records = store.schedules.of_class(boards_of(TARGET), "").records()
    assert {Failure.parse(record.error).kind for record in records} == {FailureKind.CRASH}


def test_failures_survive_being_written_down() -> None:
    for kind in FailureKind:
        assert Failure.parse(str(Failure(kind, "because: of this"))) == Failure(kind, "because: of this")
    assert Failure.parse("the device crashed") is None
    assert failure_of(Measurement("k", (1.0,), (1.0,))) is None
    assert failure_of(Measurement("k", error="WORKER_TIMEOUT: killed")).kind is FailureKind.TIMEOUT
    assert failure_of(Measurement("k", error="WORKER_DIED: gone")).kind is FailureKind.CRASH


def test_the_tally_names_each_kind_with_its_count() -> None:
    tally = Tally()
    tally.require_success()
    for kind in (FailureKind.BUILD, FailureKind.BUILD, FailureKind.TIMEOUT):
        tally.count(Failure(kind, f"words of {kind.name}"))
    with pytest.raises(TuningError) as caught:
        tally.require_success()
    assert caught.value.why == "2 build, such as 'words of BUILD'; 1 timeout, such as 'words of TIMEOUT'"
    tally.count(None)
    tally.require_success()
    assert (tally.trials, tally.failed) == (4, 3)


@pytest.mark.parametrize(("factor", "agree"), [(1.0, True), (1.0 + 1e-6, True), (1.01, False), (0.0, False)])
def test_answers_agree_up_to_rounding(factor: float, agree: bool) -> None:
    rng = np.random.default_rng(0)
    sums = [number for value in rng.standard_normal(40) for number in (value, abs(value) + 10.0)]
    assert (difference(sums, [number * factor for number in sums]) == "") is agree
    assert difference(sums, sums[:-2])
    assert difference(sums, [*sums[:-1], float("inf")])
    assert not difference([0.0, float("inf")], [0.0, float("inf")])
