"""A caller's own deadline, as the stock client sends it: gRPC's, and the parameter `timeout`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agentkit.bundles import Bundle, make_bundle
from agentkit.process import Agent
from stock_client import told_by

CLIENT = """
version = lambda result: result.get_response().model_version.split("/")[1]
missed = lambda result: result.get_response().parameters["missed"].bool_param
one_second = client.infer("toy", inputs(), timeout=1_000_000)
grpc_second = client.infer("toy", inputs(), client_timeout=1.0)
free = client.infer("toy", inputs())
pinned = client.infer("toy", inputs(), model_version="r2", timeout=1_000_000)
zero = client.infer("toy", inputs(), timeout=0)
say({
    "rungs": [version(each) for each in (one_second, grpc_second, free, pinned, zero)],
    "missed": missed(one_second),
    "free": sorted(free.get_response().parameters),
    "over": refusal(lambda: client.infer("toy", inputs(), timeout=1)),
    "over_grpc": refusal(lambda: client.infer("toy", inputs(), client_timeout=1e-4)),
    "wrong": refusal(lambda: client.infer("toy", inputs(), timeout=-5)),
})
"""


def slow(bundle: Bundle) -> Bundle:
    """The same with a largest rung that is said to take five seconds."""
    rungs = json.loads(bundle.manifest)["rungs"]
    return bundle.edited(rungs=[*rungs[:-1], rungs[-1] | {"cpu_us": 5e6}])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the stock client saw of an agent without an objective."""
    state: Path = tmp_path_factory.mktemp("agent") / "s"
    with Agent(state) as agent:
        agent.deploy(slow(make_bundle(1)))
        told = told_by(f"unix:{agent.fields['inference']}", CLIENT)
        return told | {"switches": len(agent.events("switch"))}


def test_either_deadline_gets_a_rung_that_can_keep_it_for_this_request_alone(seen: dict[str, Any]) -> None:
    timed, grpc_timed, free, pinned, zero = seen["rungs"]
    assert {timed, grpc_timed} <= {"r0", "r1"}
    assert (free, pinned, zero) == ("r2", "r2", "r2")
    assert seen["switches"] == 0


def test_only_a_request_with_a_deadline_tells_whether_it_was_kept(seen: dict[str, Any]) -> None:
    assert seen["missed"] is False
    assert "missed" not in seen["free"]


def test_a_request_whose_time_is_over_is_refused(seen: dict[str, Any]) -> None:
    assert seen["over"][0] == "StatusCode.DEADLINE_EXCEEDED"
    # Both ends watch gRPC's own deadline: the server's cancellation may overtake the client's timer.
    assert seen["over_grpc"][0] in {"StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED"}
    assert "in the queue" in seen["over"][1]


def test_a_timeout_that_is_no_time_is_refused_and_named(seen: dict[str, Any]) -> None:
    assert seen["wrong"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "timeout" in seen["wrong"][1]
