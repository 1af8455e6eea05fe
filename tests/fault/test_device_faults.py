"""The host's side of broken connections, dying agents and lost leases."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird import wire
from tailorbird.cache import sha256_of
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import BundleError, DeviceError, DeviceUnreachableError, LeaseError
from tailorbird.fleet import Fleet
from tailorbird.types import KERNEL, Candidate, ModuleKind, TensorSpec


class CuttingProxy:
    """Carries bytes between its own socket and an agent's; cuts connections after a number of bytes upstream."""

    def __init__(self, folder: Path, upstream: Path, cuts: list[int]) -> None:
        self.path = folder / "control.sock"
        self.connections = 0
        self._upstream = upstream
        self._cuts = cuts
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            limit = self._cuts[self.connections] if self.connections < len(self._cuts) else None
            self.connections += 1
            server = socket.socket(socket.AF_UNIX)
            self._sockets += [client, server]
            server.connect(str(self._upstream))
            for source, target, most in ((client, server, limit), (server, client, None)):
                thread = threading.Thread(target=self._carry, args=(source, target, most))
                thread.start()
                self._threads.append(thread)

    def _carry(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        carried = 0
        try:
            while (most is None or carried < most) and (data := source.recv(16384)):
                target.sendall(data)
                carried += len(data)
        except OSError:
            pass
        self._shut(source)
        self._shut(target)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(10)  # from here on there are no new connections
        for end in self._sockets:
            self._shut(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._sockets:
            end.close()

    @staticmethod
    def _shut(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[LocalAgent]:
    started = LocalAgent.start(tmp_path / "agent", name="here")
    yield started
    started.stop()


def candidate() -> Candidate:
    return Candidate(ModuleKind.LITERT_MODEL, b"x" * 5000, (TensorSpec("x", "FP32", (1,)),), "x")


class TestUnreachable:
    @pytest.mark.parametrize("make", ["nothing", "folder", "file", "deaf"])
    def test_whatever_stands_where_the_agent_should_be_is_reported_as_unreachable(self, tmp_path: Path, make: str):
        path = tmp_path / "control.sock"
        listener = socket.socket(socket.AF_UNIX)
        if make == "folder":
            path.mkdir()
        elif make == "file":
            path.write_text("")
        elif make == "deaf":  # accepts, and says nothing
            listener.bind(str(path))
            listener.listen()
        with listener, pytest.raises(DeviceUnreachableError) as caught:
            Device.connect(path, timeout_s=1.0)
        assert caught.value.exit_code == 4
        assert str(tmp_path) in str(caught.value)
        assert caught.value.fix

    def test_an_agent_that_was_killed_is_unreachable_at_the_next_call(self, agent: LocalAgent):
        with Device.connect(agent.control) as device:
            os.kill(agent.pid, signal.SIGKILL)
            agent.stop()
            with pytest.raises(DeviceUnreachableError):
                device.status()
            with pytest.raises(DeviceUnreachableError):
                device.measure([candidate()], KERNEL)
            with pytest.raises(DeviceUnreachableError):
                device.push({sha256_of(b"x"): b"x"})

    def test_a_device_serves_on_after_its_agent_was_restarted(self, agent: LocalAgent, tmp_path: Path):
        with Device.connect(agent.control) as device:
            agent.stop()
            again = LocalAgent.start(tmp_path / "agent", name="here")
            try:
                assert device.status().card == device.card
            finally:
                again.stop()

    def test_a_survey_tells_who_answers_and_who_does_not(self, agent: LocalAgent, tmp_path: Path):
        from tailorbird.db import Store

        with Store(tmp_path / "s.db") as store:
            store.devices.put("up", str(agent.control), ("arm", "kitchen"))
            store.devices.put("down", str(tmp_path / "none" / "control.sock"), ("arm",))
            fleet = Fleet(store)
            down, up = fleet.survey()
            assert (down.record.name, down.status) == ("down", None)
            assert down.problem
            assert up.status is not None
            assert [record.name for record in fleet.select("arm", "kitchen")] == ["up"]
            assert fleet.tag("down", "kitchen").tags == ("arm", "kitchen")
            assert fleet.untag("down", "arm", "never").tags == ("kitchen",)
            with pytest.raises(DeviceError):
                fleet.tag("nobody", "x")


class TestUpload:
    def test_a_cut_upload_resumes_where_it_broke(self, agent: LocalAgent, tmp_path: Path):
        content = os.urandom(8 << 20)
        (tmp_path / "p").mkdir()
        proxy = CuttingProxy(tmp_path / "p", agent.control, cuts=[2 << 20, 3 << 20])
        try:
            with Device.connect(proxy.path) as device:
                sent = device.push({sha256_of(content): content})
            assert proxy.connections == 3
            # What was in flight at each cut is sent again, but never the whole.
            assert len(content) <= sent < 1.5 * len(content)
        finally:
            proxy.close()
        with Device.connect(agent.control) as device:
            assert device.push({sha256_of(content): content}) == 0

    def test_an_upload_that_never_gets_anywhere_ends(self, agent: LocalAgent, tmp_path: Path):
        content = os.urandom(4 << 20)
        (tmp_path / "p").mkdir()
        proxy = CuttingProxy(tmp_path / "p", agent.control, cuts=[4096] * 200)
        try:
            with pytest.raises(DeviceUnreachableError), Device.connect(proxy.path) as device:
                device.push({sha256_of(content): content})
        finally:
            proxy.close()

    def test_an_upload_survives_the_agents_restart(self, agent: LocalAgent, tmp_path: Path):
        content = os.urandom(4 << 20)
        state = tmp_path / "agent"
        killed: list[LocalAgent] = []

        def restart(sent: int, _total: int) -> None:
            if sent > 1 << 20 and not killed:
                os.kill(agent.pid, signal.SIGKILL)
                agent.stop()
                killed.append(LocalAgent.start(state, name="here"))

        with Device.connect(agent.control) as device:
            try:
                device.push({sha256_of(content): content}, on_progress=restart)
                assert killed
                assert device.push({sha256_of(content): content}) == 0
            finally:
                for again in killed:
                    again.stop()

    def test_a_file_that_vanished_is_named(self, agent: LocalAgent, tmp_path: Path):
        missing = tmp_path / "gone"
        with Device.connect(agent.control) as device, pytest.raises(BundleError) as caught:
            device.push({"0" * 64: missing})
        assert "gone" in str(caught.value)


class TestLease:
    def test_a_lease_that_could_not_be_renewed_is_noticed_before_measuring(self, agent: LocalAgent):
        with Device.connect(agent.control) as device, device.lease("me", duration_s=1.0) as lease:
            os.kill(agent.pid, signal.SIGSTOP)
            noticed = _wait_until_lost(lease)
            os.kill(agent.pid, signal.SIGCONT)
            assert noticed.reason == "LEASE_LOST"
            with pytest.raises(LeaseError):
                device.measure([candidate()], KERNEL, lease=lease)

    def test_a_late_holder_cannot_disturb_the_next_one(self, agent: LocalAgent):
        with Device.connect(agent.control) as device:
            with device.lease("early") as early:
                stale = early.token
            with device.lease("next"):
                request = wire.requests.RunBenchmarkRequest(fencing_token=stale, names=["stream-triad"])
                with pytest.raises(LeaseError) as caught:
                    device._transport.call("RunBenchmark", request, what="late", timeout_s=10, retry=False)
                assert caught.value.reason in {"LEASE_LOST", "LEASE_HELD", "LEASE_REQUIRED"}


class TestLeaving:
    def test_an_agent_that_is_stopping_counts_as_gone(self, agent: LocalAgent):
        errors: list[DeviceError] = []

        def ask_until_it_fails() -> None:
            with Device.connect(agent.control) as device:
                connected.release()
                try:
                    while True:
                        device._transport.call(
                            "ListBundles", wire.requests.ListBundlesRequest(), what="ask", timeout_s=10, retry=False
                        )
                except DeviceError as error:
                    errors.append(error)

        connected = threading.Semaphore(0)
        threads = [threading.Thread(target=ask_until_it_fails) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in threads:
            connected.acquire()
        agent.stop()
        for thread in threads:
            thread.join()
        assert [type(error) for error in errors] == [DeviceUnreachableError] * 4


def _wait_until_lost(lease) -> LeaseError:
    pause = threading.Event()
    for _ in range(200):
        try:
            lease.check()
        except LeaseError as error:
            return error
        pause.wait(0.05)
    pytest.fail("the lease was never lost")
