"""A pool of two real agents: jobs run where there is room, and again elsewhere when their device goes away."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailorbird.db import Store
from tailorbird.device import Device, DevicePool, Devices, Lease, LocalAgent, PoolEvent
from tailorbird.errors import CompileError, DeviceError, DeviceUnreachableError, TailorbirdError, UsageError

SHORT = {"lease_s": 1.0, "linger_s": 0.1}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LocalAgent]]:
    folder = tmp_path_factory.mktemp("boards")
    started = {name: LocalAgent.start(folder / name, name=name) for name in ("a", "b")}
    yield started
    for agent in started.values():
        agent.stop()


@pytest.fixture
def devices(boards: dict[str, LocalAgent], tmp_path: Path) -> Iterator[Devices]:
    with Store(tmp_path / "s.db") as store:
        known = Devices(store)
        for name, agent in boards.items():
            known.add(name, str(agent.control), ("board",))
        known.add("off", str(tmp_path / "off"), ("off",))
        yield known


def name_and_token(device: Device, lease: Lease) -> tuple[str, int]:
    return device.name, lease.token


def test_devices_of_a_class_share_the_jobs(devices: Devices) -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(device: Device, _: Lease) -> str:
        both.wait()  # passes only when two devices work at the same time
        return device.name

    with devices.pool("class:board", **SHORT) as pool:
        assert set(pool.names) == {"a", "b"}
        assert {future.result(30) for future in [pool.submit(meet), pool.submit(meet)]} == {"a", "b"}
    for name in "ab":
        with devices[name] as device:
            assert device.status().lease is None


def test_one_device_does_its_jobs_in_order_under_one_lease(devices: Devices) -> None:
    order: list[int] = []

    def work(number: int) -> Callable[[Device, Lease], int]:
        def run(_: Device, lease: Lease) -> int:
            order.append(number)
            return lease.token

        return run

    with devices.pool("a", **SHORT) as pool:
        tokens = {future.result(30) for future in [pool.submit(work(number)) for number in range(10)]}
    assert order == list(range(10))
    assert len(tokens) == 1


def test_what_a_job_raises_is_its_futures_and_the_device_goes_on(devices: Devices) -> None:
    def fail(device: Device, lease: Lease) -> None:
        raise ValueError("of the job's own")

    def refuse(device: Device, lease: Lease) -> None:
        device.deployment("nothing")

    with devices.pool("a", **SHORT) as pool:
        failing, refused, good = pool.submit(fail), pool.submit(refuse), pool.submit(name_and_token)
        with pytest.raises(ValueError, match="own"):
            failing.result(30)
        with pytest.raises(DeviceError, match="nothing"):
            refused.result(30)
        assert good.result(30)[0] == "a"


def test_a_job_whose_device_dies_runs_again_on_another(devices: Devices, tmp_path: Path) -> None:
    mortal = LocalAgent.start(tmp_path / "mortal", name="mortal")
    devices.add("mortal", str(mortal.control))
    seen: list[str] = []
    events: list[PoolEvent] = []

    def work(device: Device, _: Lease) -> str:
        seen.append(device.name)
        if device.name == "mortal":
            mortal._process.kill()
            mortal._process.wait()
        device.status()
        return device.name

    meanwhile = threading.Event()

    def occupy(device: Device, _: Lease) -> str:
        assert meanwhile.wait(30)
        return device.name

    pool = devices.pool("mortal,a", on_event=events.append, **SHORT)
    with devices["a"] as a, a.lease("somebody") as held, pool:
        lost, last = pool.submit(work), pool.submit(occupy)
        for _ in range(600):
            if any(event.kind == "lost" for event in events):
                break
            meanwhile.wait(0.05)
        held.release()
        meanwhile.set()
        assert (lost.result(60), last.result(60)) == ("a", "a")
    assert seen == ["mortal", "a"]
    assert {event.kind for event in events if event.device == "a"} >= {"waiting", "taken"}
    mortal.stop()


def test_a_job_that_ends_its_devices_is_given_up(devices: Devices, tmp_path: Path) -> None:
    def steal(device: Device, lease: Lease) -> None:
        lease.release()
        lease.check()

    with devices.pool("class:board", attempts=2, **SHORT) as pool:
        cursed, good = pool.submit(steal), pool.submit(name_and_token)
        with pytest.raises(DeviceError, match="lost 2 times") as caught:
            cursed.result(60)
        assert caught.value.reason == "DEVICE_LOST"
        assert good.result(60)[0] in "ab"


def test_without_any_device_the_jobs_fail_after_a_while(devices: Devices) -> None:
    with devices.pool("off", patience_s=0.2, **SHORT) as pool, pytest.raises(DeviceUnreachableError):
        pool.submit(name_and_token).result(60)
    nowhere = DevicePool(["off", "gone"], devices.__getitem__, patience_s=0.0, **SHORT)
    with nowhere as pool, pytest.raises(DeviceUnreachableError, match="none of the devices off, gone"):
        pool.submit(name_and_token).result(60)


def test_a_device_that_is_not_admitted_takes_no_part(devices: Devices) -> None:
    def without_b(device: Device) -> None:
        if device.name == "b":
            raise CompileError("b lacks avx512f")

    events: list[PoolEvent] = []
    with devices.pool("class:board", admit=without_b, on_event=events.append, **SHORT) as pool:
        futures = [pool.submit(name_and_token) for _ in range(6)]
        assert {future.result(30)[0] for future in futures} == {"a"}
    with devices.pool("b", admit=without_b, **SHORT) as pool, pytest.raises(CompileError, match="avx512f"):
        pool.submit(name_and_token).result(30)


def test_two_programs_take_turns_on_one_device(devices: Devices) -> None:
    holders: list[str] = []

    def note(name: str) -> Callable[[Device, Lease], None]:
        def run(device: Device, lease: Lease) -> None:
            holders.append(name)
            device.status()

        return run

    options = {**SHORT, "turn_s": 0.0}
    with devices.pool("a", holder="one", **options) as one, devices.pool("a", holder="two", **options) as two:
        while changes(holders) < 2:
            assert len(holders) < 4000
            for future in [pool.submit(note(name)) for name, pool in (("one", one), ("two", two)) for _ in range(8)]:
                future.result(60)


def changes(names: list[str]) -> int:
    """How often another name follows."""
    return sum(before != after for before, after in itertools.pairwise(names))


def test_closing_drops_what_has_not_begun(devices: Devices) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(device: Device, lease: Lease) -> str:
        begun.set()
        assert go.wait(30)
        return device.name

    pool = devices.pool("a", **SHORT)
    running, waiting = pool.submit(slow), pool.submit(name_and_token)
    assert begun.wait(30)
    closing = threading.Thread(target=pool.close)
    closing.start()
    go.set()
    closing.join(30)
    assert running.result(0) == "a"
    assert waiting.cancelled()
    with pytest.raises(TailorbirdError, match="closed"):
        pool.submit(name_and_token)


def test_unknown_classes_and_names_are_refused_with_the_known_ones(devices: Devices) -> None:
    with pytest.raises(UsageError, match="'rpi9'") as caught:
        devices.select("class:rpi9")
    assert caught.value.reason == "DEVICE_CLASS_UNKNOWN"
    assert "board, off" in caught.value.why
    with pytest.raises(DeviceError, match="'nobody'"):
        devices.select("a,nobody")
    with pytest.raises(DeviceError):
        devices.select("")
    assert devices.select("b, a,b") == ("b", "a")
