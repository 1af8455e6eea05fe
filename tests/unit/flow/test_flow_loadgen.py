"""LoadGen against a real agent: its verdict, lost devices, and the extra that is not there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agentkit.bundles import SERVING
from agentkit.process import Agent

from tailorbird.cli.main import main
from tailorbird.device import Device
from tailorbird.errors import DeviceUnreachableError
from tailorbird.flow.loadgen import P90_QUERIES, P99_QUERIES, Load, run_loadgen

BRIEF = Load("SingleStream", min_queries=1, min_seconds=0.3)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    started = Agent(tmp_path / "agent")
    started.deploy(SERVING)
    yield started
    if started.process.poll() is None:
        started.stop()


@pytest.fixture
def device(agent: Agent) -> Iterator[Device]:
    with Device.connect(agent.state) as connected:
        yield connected


def served(agent: Agent) -> int:
    return agent.deployment().requests


def test_every_query_reaches_the_device_and_the_run_is_valid(agent: Agent, device: Device, tmp_path: Path):
    before = served(agent)
    found = run_loadgen(device, "toy", BRIEF, tmp_path / "logs")
    assert (found.valid, found.reasons, found.failed) == (True, (), 0)
    assert found.queries >= P90_QUERIES
    assert served(agent) - before >= found.queries
    assert 0 < found.p50_us <= (found.p90_us or 0) <= found.max_us
    assert (found.p99_us is None) == (found.queries < P99_QUERIES)
    assert "Result is : VALID" in (tmp_path / "logs" / "mlperf_log_summary.txt").read_text()


def test_queries_carry_the_deadlines_that_they_are_given(agent: Agent, device: Device, tmp_path: Path):
    device.set_policy("toy", "slackfit")
    swinging = replace(BRIEF, request_slo_us=lambda seconds: 1.0 if int(seconds / 0.02) % 2 else 1e7)
    found = run_loadgen(device, "toy", swinging, tmp_path)
    assert (found.valid, found.failed) == (True, 0)
    assert device.deployment("toy").switches >= 2
    assert agent.deployment().misses > 0


def test_a_server_that_cannot_keep_its_deadline_is_invalid_and_says_why(device: Device, tmp_path: Path):
    load = Load("Server", min_queries=1, min_seconds=0.3, rate_hz=1000.0, slo_us=1.0)
    found = run_loadgen(device, "toy", load, tmp_path)
    assert not found.valid
    assert found.late is not None
    assert found.late > found.queries / 2
    assert any("late" in reason for reason in found.reasons)


def test_a_device_that_dies_ends_the_run_with_its_error(agent: Agent, device: Device, tmp_path: Path):
    agent.kill()
    with pytest.raises(DeviceUnreachableError):
        run_loadgen(device, "toy", BRIEF, tmp_path)


def test_a_device_that_dies_during_the_run_ends_it(
    agent: Agent, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    infer, asked = device.infer, []

    def counting(*arguments: object) -> object:
        asked.append(1)
        if len(asked) == 30:
            agent.kill()
        return infer(*arguments)

    monkeypatch.setattr(device, "infer", counting)
    with pytest.raises(DeviceUnreachableError):
        run_loadgen(device, "toy", Load("SingleStream", min_queries=1, min_seconds=2.0), tmp_path)
    assert len(asked) == 30


def test_without_the_extra_the_command_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    assert main(["bench", "--loadgen", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "LOADGEN_MISSING"
    assert "tailorbird[loadgen]" in error["fix"]


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--scenario", "Offline"], "SingleStream or Server"), (["--mode", "slow"], "quick")]
)
def test_a_scenario_or_mode_that_is_not_there_is_usage(capsys: pytest.CaptureFixture[str], arguments, words):
    assert main(["bench", "--loadgen", *arguments, "--json"]) == 2
    assert words in json.loads(capsys.readouterr().out)["error"]["fix"]


def test_the_command_shows_the_verdict(agent: Agent, capsys: pytest.CaptureFixture[str]):
    assert main(["devices", "add", "board", str(agent.state)]) == 0
    capsys.readouterr()
    assert main(["bench", "--loadgen", "--device", "board", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "tailorbird.loadgen/1"
    assert document["model"] == "toy"
    assert document["result"]["valid"] is True
    late = ["--scenario", "server", "--rate", "1000", "--slo", "1us"]
    assert main(["bench", "--loadgen", "--device", "board", *late]) == 3
    assert "INVALID" in capsys.readouterr().out
