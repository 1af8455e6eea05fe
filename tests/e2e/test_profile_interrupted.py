"""Profiling through the public interface on a device that goes away, throttles meanwhile, or whose clock is set."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import tailorbird as tb
from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import default_store
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import DeviceError, DeviceUnreachableError, UsageError
from tailorbird.flow.subnets import SubnetTimer
from tailorbird.types import Candidate, Verdict
from tests.e2e.profiling_rig import rows, supernet, when

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KERNELS, SAMPLES = 14, 2
HELD_OUT = 4
#: Sets the clock of every Python that is started with it on its path: back and forth by years, at every look.
JUMPING = """
import itertools, time

_real, _jumps = time.time, itertools.cycle([0.0, -9e7, 3e8, 5.0, -1e9])
time.time = lambda: _real() + next(_jumps)
time.time_ns = lambda: int(time.time() * 1e9)
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state.db"
    monkeypatch.setenv("TAILORBIRD_DATABASE", str(path))
    default_store().close()
    return path


@pytest.fixture(scope="module")
def net() -> tb.SuperNet:
    return supernet()


def profile(net: tb.SuperNet, device: Device):
    return tb.latency_model(net, device, samples=SAMPLES, kernels=KERNELS)


@pytest.mark.parametrize(("kind", "count", "how"), [("kernel", 4, signal.SIGKILL), ("subnet", 2, signal.SIGTERM)])
def test_a_device_that_drops_out_in_the_middle_goes_on_where_it_was(tmp_path, database, net, kind, count, how) -> None:
    agent = LocalAgent.start(tmp_path / "agent", name="frail")
    try:
        with Device.connect(agent.control) as device:
            gone = when(device, database, (kind, count, lambda: os.kill(agent.pid, how)))
            with pytest.raises(DeviceUnreachableError) as lost, gone:
                profile(net, device)
    finally:
        agent.stop()
    assert "run the same again when frail is back: what was measured until now is kept" in str(lost.value)
    kept = rows(database)
    assert count <= len(rows(database, kind)) < (KERNELS if kind == "kernel" else SAMPLES + HELD_OUT)

    agent = LocalAgent.start(tmp_path / "agent", name="frail")
    try:
        with Device.connect(agent.control) as device:
            model = profile(net, device)
            after = rows(database)
            again = profile(net, device)
    finally:
        agent.stop()
    assert after[: len(kept)] == kept
    measured_before = {(row.kind, row.subject) for row in kept}
    assert measured_before.isdisjoint((row.kind, row.subject) for row in after[len(kept) :])
    assert len(model.table.times) == KERNELS
    assert model.table.failures == {}
    assert model.error is not None
    assert model.error.samples == HELD_OUT
    assert rows(database) == after
    assert again.table == model.table


def broken(candidate: Candidate) -> Candidate:
    return dataclasses.replace(candidate, module=candidate.module[: len(candidate.module) // 2])


class Board:
    """The files of a board whose processor can be made hot; everything else is this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/class/thermal/cooling_device0").mkdir(parents=True)
        (root / "proc").symlink_to("/proc")
        (root / "sys/class/thermal/cooling_device0/type").write_text("Processor\n")
        self.cool()

    def heat(self) -> None:
        self._state.write_text("3\n")

    def cool(self) -> None:
        self._state.write_text("0\n")

    @property
    def _state(self) -> Path:
        return self.root / "sys/class/thermal/cooling_device0/cur_state"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    found = Board(tmp_path / "board")
    monkeypatch.setenv("TAILORBIRD_AGENT_HARDWARE_ROOT", str(found.root))
    return found


@pytest.fixture
def hot(board: Board, tmp_path: Path) -> Iterator[Device]:
    agent = LocalAgent.start(tmp_path / "agent", name="hot")
    with Device.connect(agent.control) as device:
        yield device
    agent.stop()


def test_what_was_measured_while_a_device_throttled_is_flagged_and_measured_again(board, hot, database, net) -> None:
    with when(hot, database, ("kernel", 3, board.heat), ("kernel", 8, board.cool)):
        model = profile(net, hot)
    throttled = [row for row in rows(database, "kernel") if row.verdict == Verdict.THROTTLED]
    assert len(throttled) >= 3
    assert all("the hardware reports throttling" in row.reason for row in throttled)
    assert not any(time.verdict is Verdict.THROTTLED for time in model.table.times.values())
    assert model.cost.throttled == 0


def test_a_device_that_stays_throttled_is_told_of_and_measured_again_when_it_has_cooled(
    board, hot, database, net
) -> None:
    with when(hot, database, ("kernel", 5, board.heat)):
        model = profile(net, hot)
    assert 0 < model.table.throttled < KERNELS
    assert model.cost.throttled == model.table.throttled + SAMPLES + HELD_OUT
    assert f"{model.cost.throttled} of them on a throttled device" in model.cost.words()
    assert hot.sensors()["throttled"] == 1.0
    before = rows(database)
    board.cool()
    again = profile(net, hot)
    assert again.cost.throttled == 0
    anew = {row.subject for row in rows(database)[len(before) :] if row.kind == "kernel"}
    assert len(anew) == model.table.throttled


@pytest.mark.parametrize("what", ["kernel", "subnet"])
def test_a_device_on_which_nothing_runs_is_told_of(board, hot, database, net, monkeypatch, what) -> None:
    if what == "kernel":
        monkeypatch.setattr(
            "tailorbird.flow.latency.single_op_candidate", lambda spec: broken(single_op_candidate(spec))
        )
    else:
        build = SubnetTimer._builder
        monkeypatch.setattr(SubnetTimer, "_builder", lambda self, device: lambda c: broken(build(self, device)(c)))
    with pytest.raises(DeviceError, match=f"no {what} runs on hot") as told:
        profile(net, hot)
    assert "the first failed with: ModuleInvalidError" in told.value.why


@pytest.mark.parametrize(
    ("options", "words"),
    [({"samples": 0}, "0 samples tell nothing"), ({"samples": -3}, "-3 samples"), ({"kernels": 0}, "0 kernels")],
)
def test_nothing_to_measure_is_refused_before_anything_is(hot, database, net, options, words) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        tb.latency_model(net, hot, **options)
    assert refused.value.fix
    assert rows(database) == []


def test_setting_the_clock_back_and_forth_harms_no_measurement(tmp_path, database, net, monkeypatch, capsys) -> None:
    (tmp_path / "jumping").mkdir()
    (tmp_path / "jumping" / "sitecustomize.py").write_text(JUMPING)
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", str(tmp_path / "jumping"), prepend=os.pathsep)
        agent = LocalAgent.start(tmp_path / "agent", name="jumping")
    try:
        with Device.connect(agent.control) as device:
            model = profile(net, device)
            times = [event.time for event in device.events()]
    finally:
        agent.stop()
    assert (max(times) - min(times)).days > 100, "the agent's clock did not jump"
    assert model.table.failures == {}
    assert len(model.table.times) == KERNELS
    assert all(0.0 < us < 1e6 for us in model.table.times_us.values())
    assert 0.0 < model.cost.seconds < 300.0
    steady = LocalAgent.start(tmp_path / "steady", name="steady")
    try:
        with Device.connect(steady.control) as device:
            other = profile(net, device)
    finally:
        steady.stop()
    ratios = sorted(us / other.table.times_us[spec] for spec, us in model.table.times_us.items())
    assert 0.5 < ratios[KERNELS // 2] < 2.0
