"""The demo, for real: every stage on small budgets, through the real agent, compilers and sockets."""

import json
import os
import subprocess
import sys

import psutil
import pytest

STAGES = ["train", "supernet", "fine-tune", "agent", "search", "compile", "deploy", "serve", "report"]


def tailorbird(home, *arguments, timeout=900):
    """A command in a process of its own, under --json: (exit code, document)."""
    environment = {**os.environ, "TAILORBIRD_HOME": str(home / "h"), "TAILORBIRD_AGENT_STATE": str(home / "a")}
    done = subprocess.run(
        [sys.executable, "-m", "tailorbird.cli.main", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        cwd=home,
    )
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_every_stage_and_its_artifacts_serve_the_separate_commands(home):
    code, result = tailorbird(home, "demo", "--quick", "-o", str(home / "out"))
    assert code == 0, result
    run = result["run"]
    assert [s["name"] for s in run["stages"]] == STAGES
    assert all(s["figures"] for s in run["stages"][:-1])
    times = [r["measured_us"] for r in run["rungs"]]
    assert times == sorted(times)
    assert len(times) >= 2
    for rung in run["rungs"]:
        assert {b["runtime"] for b in rung["builds"]} == {"litert", "tvm"}
        assert all(b["max_abs_error"] < 1e-2 for b in rung["builds"])
    serving = run["serving"]
    assert [lane["lane"] for lane in serving["lanes"]] == ["two-channel", "static-large", "static-small"]
    assert len({lane["requests"] for lane in serving["lanes"]}) == 1
    assert len(serving["bursts"]) == 2
    assert {r["rung"] for r in serving["requests"] if r["lane"] == "static-large"} == {run["rungs"][-1]["name"]}
    page = (home / "out" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert run["model"].split(",")[0] in page

    code, _ = tailorbird(home, "report", str(home / "out"), "-o", str(home / "again.html"))
    assert code == 0
    assert (home / "again.html").read_text() == page
    code, why = tailorbird(home, "why")
    assert code == 0
    assert len(why["decisions"]) == min(20, len(serving["switches"]))
    code, device = tailorbird(home, "devices", "show")
    (deployment,) = device["deployments"]
    assert deployment["state"] == "committed"
    code, error = tailorbird(home, "rollback", deployment["model"])
    assert (code, error["error"]["reason"]) == (1, "NO_PREVIOUS")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_second_demo_takes_what_the_first_one_made_from_the_cache(home):
    code, _ = tailorbird(home, "demo", "--quick", "-o", str(home / "out"))
    assert code == 0
    code, cached = tailorbird(home, "demo", "--quick", "-o", str(home / "out2"))
    assert code == 0
    assert [s["name"] for s in cached["run"]["stages"] if s["cached"]] == [*STAGES[:3], "search", "compile"]


@pytest.fixture
def home(tmp_path_factory):
    """A folder of its own; the agent that the last commands started outlives them by design, so it is ended here."""
    home = tmp_path_factory.mktemp("d")
    yield home
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "tailorbird_agent" in words and str(home / "a") in words:
            process.terminate()
            process.wait(20)
