"""`tailorbird bench` and `devices show` with a real agent: figures, modules, two in turns, a device that goes away."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tailorbird.cli.main import main
from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device
from tailorbird.device.local import LocalAgent
from tailorbird.errors import DeviceUnreachableError
from tailorbird.flow.bench import Subject, time_all
from tailorbird.types import KERNEL, Figure, KernelSpec, Measurement

SMALL = KernelSpec("add", 8, 8, 8, 8)
LARGE = KernelSpec("add", 64, 64, 32, 32)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    started = LocalAgent.start(tmp_path_factory.mktemp("agent"), name="bench-board", timeout_s=60.0)
    yield started
    started.stop()


@pytest.fixture
def board(agent: LocalAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    """The agent under a name, in a workspace of the test's own."""
    monkeypatch.setenv("TAILORBIRD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TAILORBIRD_DATABASE", str(tmp_path / "state.db"))
    assert main(["devices", "add", "bench-board", str(agent.control.parent), "--json"]) == 0
    capsys.readouterr()
    return "bench-board"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("modules")
    paths = folder / "small.tflite", folder / "large.tflite"
    for path, spec in zip(paths, (SMALL, LARGE), strict=True):
        path.write_bytes(single_op_candidate(spec).module)
    return paths


def run(capsys, *arguments: str) -> tuple[int, dict]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_figure_is_measured_kept_and_shown_until_the_device_changes(board, capsys, tmp_path) -> None:
    code, found = run(capsys, "bench", "gemm-fp32", "latency-memory", "--device", board, "--mode", "kernel")
    assert code in {0, 5}
    assert all(figure["value"] > 0 for figure in found["figures"] if figure["value"] is not None)
    assert {figure["name"] for figure in found["figures"]} == {"gemm-fp32", "latency-memory"}
    assert found["context"].startswith("kernel=")
    _, shown = run(capsys, "devices", "show", board)
    kept = {(figure["name"], figure["threads"]): figure for figure in shown["figures"]}
    measured = {(figure["name"], figure["threads"]): figure["value"] for figure in found["figures"]}
    assert {key: figure["value"] for key, figure in kept.items()} == measured
    assert ("gemm-fp32", 1) in measured
    assert not any(figure["stale"] for figure in shown["figures"])
    with Store(tmp_path / "state.db") as store:
        old = Figure("stream-triad", 7.0, "GB/s", Measurement("stream-triad", (1.0,), (1.0,)))
        key = MeasurementKey(board, "tvm", "1", "figure", "stream-triad", "quick", context="kernel=2.4.0")
        store.measurements.add_figure(key, old)
        assert store.measurements.figures(board, "kernel=2.4.0") == (old,)
    _, shown = run(capsys, "devices", "show", board)
    assert [figure["stale"] for figure in shown["figures"] if figure["name"] == "stream-triad"] == [True]
    assert shown["ridge_flop_per_byte"] is None  # half of it no longer holds


def test_an_unknown_figure_is_named_with_those_that_exist(board, capsys) -> None:
    code, document = run(capsys, "bench", "gemm-fp33", "--device", board)
    assert code == 2
    assert "gemm-fp32" in document["error"]["fix"]


def test_a_module_is_timed_and_percentiles_wait_for_enough_runs(board, modules, capsys) -> None:
    code, found = run(capsys, "bench", str(modules[0]), "--device", board, "--mode", "kernel")
    assert code in {0, 5}
    (timed,) = found["times"]
    assert timed["name"] == "small.tflite"
    assert timed["cpu_median_us"] > 0
    assert (timed["wall_p90_us"] is None) == (timed["runs"] < 64)
    assert (timed["wall_p99_us"] is None) == (timed["runs"] < 662)


def test_two_modules_are_compared_in_turns(board, modules, capsys) -> None:
    small, large = map(str, modules)
    code, found = run(capsys, "bench", small, "--against", large, "--device", board, "--mode", "kernel")
    assert code in {0, 5}
    assert [timed["name"] for timed in found["times"]] == ["small.tflite", "large.tflite"]
    assert found["low"] <= found["ratio"] <= found["high"] < 1.0
    assert found["rounds"] >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/at.tflite"], "nothing to time"),
        (["{tmp}/notes.txt"], "no .tflite"),
        (["{small}", "stream-triad"], "cannot be mixed"),
        (["--against", "{small}"], "two modules"),
        (["--mode", "slow"], "no mode"),
    ],
)
def test_what_cannot_be_timed_is_usage(capsys, modules, tmp_path, arguments, words) -> None:
    (tmp_path / "notes.txt").write_text("not a model")
    code, document = run(capsys, "bench", *(word.format(small=modules[0], tmp=tmp_path) for word in arguments))
    assert code == 2
    assert words in document["error"]["what"]


def test_a_device_that_goes_away_costs_only_what_was_still_to_come(tmp_path) -> None:
    agent = LocalAgent.start(tmp_path / "agent", timeout_s=60.0)
    first, second = (Subject(replace(single_op_candidate(spec), label=spec.op)) for spec in (SMALL, LARGE))

    def pull_the_plug(note: str) -> None:
        if note.startswith("1 of"):
            import os

            os.kill(agent.pid, signal.SIGKILL)

    try:
        with Device.connect(str(agent.control)) as device:
            timed = time_all(device, (first, second, second), KERNEL, pull_the_plug)
    finally:
        agent.stop()
    assert [measurement.ok for measurement in timed.measurements] == [True]
    assert isinstance(timed.lost, DeviceUnreachableError)
