"""Finding and starting the agent of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailorbird.db import Store
from tailorbird.device import Device, Devices, LocalAgent, local
from tailorbird.device.local import socket_dir
from tailorbird.errors import DeviceError, DeviceUnreachableError, UsageError


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_local_starts_an_agent_and_finds_it_again(state: Path):
    with local(state, name="bench") as first:
        assert first.agent is not None
        pid = first.agent.pid
        with local(state) as second:
            assert second.agent is None, "it was there already"
            assert second.name == "bench"
        assert first.status().uptime_s >= 0, "closing one connection leaves the agent and the others alone"
        assert first.agent.stop() == 0
    assert not _is_alive(pid)


def test_local_without_leave_to_start_says_how_to(state: Path):
    with pytest.raises(DeviceUnreachableError) as caught:
        local(state, start=False)
    assert caught.value.exit_code == 4
    assert "tailorbird-agent run" in caught.value.fix
    assert not state.exists()


def test_an_agent_that_cannot_start_says_why(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "control.sock").mkdir()
    with pytest.raises(DeviceUnreachableError) as caught:
        LocalAgent.start(state)
    assert caught.value.reason == "AGENT_NOT_STARTED"
    assert "agent.log" in caught.value.fix
    assert caught.value.why


def test_a_state_folder_too_deep_for_sockets_still_works(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    assert socket_dir(deep) != deep
    assert socket_dir(deep) == socket_dir(deep)
    with local(deep) as device:
        assert device.agent is not None
        device.agent.stop()
    socket_dir(deep).rmdir()


def test_sockets_are_not_put_where_another_user_could_have_put_his_own(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("f" * 60)
    stand_in = socket_dir(deep)
    stand_in.mkdir()
    stand_in.chmod(0o777)
    try:
        for attempt in (lambda: local(deep), lambda: LocalAgent.start(deep)):
            with pytest.raises(DeviceUnreachableError, match="cannot hold"):
                attempt()
    finally:
        stand_in.rmdir()


class TestDevices:
    def test_a_device_is_reached_by_its_name(self, agent: LocalAgent, tmp_path: Path):
        with Store(tmp_path / "s.db") as store:
            devices = Devices(store)
            devices.add("bench", str(agent.control), tags=("x86",))
            with devices["bench"] as device:
                assert device.card.name == "here"
            record = devices.get("bench")
            assert record.card == device.card
            assert record.last_seen is not None
            assert record.tags == ("x86",)
            assert list(devices) == ["bench"]
            assert "bench" in devices
            devices.forget("bench")
            assert "bench" not in devices

    def test_the_local_device_needs_no_introduction(self, tmp_path: Path):
        with Store(tmp_path / "s.db") as store, Devices(store)["local"] as device:
            assert device.agent is not None
            assert Devices(store).get("local").card == device.card
            device.agent.stop()

    def test_an_unknown_name_lists_the_known_ones(self, tmp_path: Path):
        with Store(tmp_path / "s.db") as store:
            devices = Devices(store)
            devices.add("rpi4-1", "/run/rpi")
            with pytest.raises(DeviceError) as caught:
                _ = devices["rpi4-2"]
            assert "rpi4-1" in caught.value.why
            with pytest.raises(DeviceError):
                devices.forget("rpi4-2")

    @pytest.mark.parametrize("name", ["", "local", "a b", "-x", "x" * 64, "a/b"])
    def test_a_bad_name_is_refused(self, tmp_path: Path, name: str):
        with Store(tmp_path / "s.db") as store, pytest.raises(UsageError):
            Devices(store).add(name, "/run/a")

    def test_the_users_own_store_is_opened_on_first_use(self, private_home: Path):
        devices = Devices()
        assert not (private_home / "host").exists()
        assert devices.list() == ()
        assert (private_home / "host" / "state.db").exists()


def test_a_connection_that_was_closed_is_not_used_again(agent: LocalAgent):
    device = Device.connect(agent.control)
    device.close()
    with pytest.raises(ValueError, match="closed"):
        device.status()
