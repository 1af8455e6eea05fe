"""record, simulate and why: a real agent is recorded, and policies are replayed on what it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentkit.bundles import make_bundle, sample
from agentkit.process import Agent, infer_request

from tailorbird.cli.main import main
from tailorbird.device import Device
from tailorbird.errors import DeviceError, EnvironmentFaultError, MissingFileError, UsageError
from tailorbird.flow.record import Plan, record, write_trace
from tailorbird.flow.simulate import parse_slos, policy_names, read_trace, simulate, summarise
from tailorbird_agent.adapt import POLICY_NAMES
from tailorbird_agent.adapt.simulate import REFERENCE_NAMES

VARIANTS = [{"name": "s", "accuracy": 0.7, "cpu_ms": 1.0}, {"name": "l", "accuracy": 0.8, "cpu_ms": 4.0}]


def document(rows=200):
    """Every fifth request of the larger rung is late at twice its time."""
    walls = [[1.0, 9.0 if slot % 5 == 4 else 4.0] for slot in range(rows)]
    rows = [{"t_s": 0.1 * slot, "wall_ms": wall, "cpu_ms": [1.0, 4.0]} for slot, wall in enumerate(walls)]
    return {"schema": "tailorbird.trace/1", "period_s": 0.1, "variants": VARIANTS, "rows": rows}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(document()))
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    started = Agent(tmp_path / "agent")
    started.deploy(make_bundle(rungs=3))
    yield started
    started.stop()


def hurried(agent: Agent, slo_us: float) -> None:
    """One request with a deadline of its own."""
    request = infer_request(sample((1, 16)))
    request.parameters["slo_us"].double_param = slo_us
    agent.inference.ModelInfer(request, timeout=20.0)


@pytest.fixture
def known(agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    """The agent under the name `board` in a workspace of its own."""
    monkeypatch.setenv("TAILORBIRD_HOME", str(tmp_path / "home"))
    assert main(["devices", "add", "board", str(agent.state)]) == 0
    capsys.readouterr()
    return "board"


def test_deadlines_are_times_or_multiples_of_the_largest_rung(trace: Path):
    read = read_trace(trace)
    assert [slo.on(read) for slo in parse_slos("1.5x, 25ms,800us")] == [6000.0, 25_000.0, 800.0]


@pytest.mark.parametrize("text", ["", "0x", "-1x", "x", "abcx", "25", "0ms", "1.5x,,2x", "nanx"])
def test_what_is_no_deadline_is_refused(text: str):
    with pytest.raises(UsageError, match=r"deadline|duration|multiple"):
        parse_slos(text)


def test_all_names_every_policy_once():
    assert policy_names("static:s,all,alert") == ("static:s", *POLICY_NAMES)


def test_the_references_follow_the_policies_and_are_what_can_be_counted(trace: Path):
    (slo,) = parse_slos("2x")
    cell = simulate("t", read_trace(trace), slo, ("static:s", "static:l"))
    assert [score.policy for score in cell.scores] == ["static:s", "static:l", *REFERENCE_NAMES]
    assert [score.effective_accuracy for score in cell.scores] == pytest.approx([0.7, 0.64, 0.7, 0.7, 0.78])
    assert [score.percent_of_best_static for score in cell.scores[:2]] == pytest.approx([100.0, 100.0 * 0.64 / 0.7])
    assert [score.miss_rate for score in cell.scores[:2]] == pytest.approx([0.0, 0.2])
    low, high = cell.scores[1].intervals.miss_rate
    assert low <= 0.2 <= high


def test_a_summary_counts_cells_alike_and_leaves_out_what_did_not_run_everywhere(trace: Path):
    read = read_trace(trace)
    two, three = parse_slos("2x,3x")
    cells = [simulate("t", read, two, ("static:s", "static:l")), simulate("t", read, three, ("static:l",))]
    rows = {row.policy: row for row in summarise(cells)}
    assert "static:s" not in rows
    assert rows["static:l"].effective_accuracy == pytest.approx((0.64 + 0.8) / 2)
    assert rows["static:l"].worst_percent_of_best_static == pytest.approx(100.0 * 0.64 / 0.7)


def test_a_policy_that_does_not_exist_is_a_usage_error_that_lists_those_that_do(trace: Path):
    with pytest.raises(UsageError, match="unknown policy 'best'; there are: two-channel"):
        simulate("t", read_trace(trace), parse_slos("2x")[0], ("best",))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", "[" * 5000, '{"schema": "tailorbird.trace/1"}'])
def test_a_file_that_is_no_trace_is_a_usage_error(tmp_path: Path, text: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no trace"):
        read_trace(path)


def test_a_file_that_is_not_there_or_not_text_says_so(tmp_path: Path):
    with pytest.raises(MissingFileError, match="cannot read"):
        read_trace(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no trace"):
        read_trace(tmp_path / "binary")


def test_the_command_prints_one_object_with_every_cell(trace: Path, capsys):
    assert main(["simulate", str(trace), str(trace), "--slo", "2x,9.5ms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "tailorbird.simulate-result/1"
    assert [(cell["slo"], cell["slo_us"]) for cell in found["cells"]] == [("2x", 8000.0), ("9.5ms", 9500.0)] * 2
    assert [score["policy"] for score in found["cells"][0]["scores"]] == [*POLICY_NAMES, *REFERENCE_NAMES]
    score = found["cells"][0]["scores"][0]
    for name, interval in score["intervals"].items():
        assert interval[0] <= score[name] <= interval[1], name
    assert {row["policy"] for row in found["summary"]} == {*POLICY_NAMES, *REFERENCE_NAMES}


def test_the_command_draws_tables_for_people(trace: Path, capsys):
    assert main(["simulate", str(trace), "--policy", "two-channel,static:l", "--slo", "2x"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["policy", "two-channel", "static:l", *REFERENCE_NAMES]


def test_a_device_is_recorded_and_its_trace_can_be_replayed(agent: Agent, known: str, tmp_path: Path, capsys):
    path = tmp_path / "t.json"
    before = agent.deployment().requests
    code = main(["record", known, "-o", str(path), "--for", "0.6s", "--period", "30ms", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (code, result["slots"], result["model"]) == (0, 20, "toy")
    assert agent.deployment().requests - before >= 60
    trace = read_trace(path)
    assert len(trace) == 20
    assert {rung.name for rung in trace.ladder} == {"r0", "r1", "r2"} == {each["name"] for each in result["variants"]}
    assert all(wall > 0.0 for row in trace.wall_us for wall in row)
    assert main(["simulate", str(path), "--slo", "50ms", "--json"]) == 0


def test_recording_leaves_the_policy_where_it_was(agent: Agent, tmp_path: Path):
    agent.infer(sample((1, 16)))
    before = agent.deployment()
    with Device.connect(agent.state) as device:
        write_trace(record(device, "toy", Plan(0.05, 0.01)), tmp_path / "t.json")
    after = agent.deployment()
    assert (after.current_rung, after.switches) == (before.current_rung, before.switches)


def test_a_model_that_does_not_serve_is_refused_and_a_bad_folder_is_found_first(
    agent: Agent, known: str, tmp_path: Path, capsys
):
    with Device.connect(agent.state) as device, pytest.raises(DeviceError):
        record(device, "nobody", Plan(1.0, 0.1))
    assert main(["record", known, "-o", str(tmp_path / "no" / "t.json"), "--json"]) == 2
    assert "there is no folder" in json.loads(capsys.readouterr().out)["error"]["what"]
    assert main(["record", known, "-o", str(tmp_path / "t.json"), "--for", "0s", "--json"]) == 2


def test_a_trace_that_cannot_be_written_leaves_nothing_behind(trace: Path, tmp_path: Path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(EnvironmentFaultError, match="cannot write"):
        write_trace(read_trace(trace), target)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_why_tells_switches_and_deadlines_that_cannot_be_met(agent: Agent, known: str, capsys):
    assert agent.deployment().policy == "two-channel"
    for _ in range(12):
        hurried(agent, 2.0)
    for _ in range(40):
        hurried(agent, 1e9)
    assert main(["why", "--device", known, "--json"]) == 0
    decisions = json.loads(capsys.readouterr().out)["decisions"]
    kinds = [each["kind"] for each in decisions]
    assert kinds.count("infeasible") == 2
    down = next(each for each in decisions if each["kind"] == "switch")
    details = dict(down["details"])
    assert (details["from"], details["cause"]) == ("r2", "deadline")
    assert {"p_from", "p_to", "gain", "runner_up_name", "runner_up_utility", "speed_after"} <= set(details)
    assert main(["why", "--device", known]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(decisions)


def test_watchers_see_decisions_as_they_are_made(agent: Agent):
    since = agent.status().last_event_sequence
    for _ in range(9):
        hurried(agent, 2.0)
    event = agent.wait_event("infeasible", since=since)
    assert (event.model, dict(event.details)["feasible"]) == ("toy", "false")
