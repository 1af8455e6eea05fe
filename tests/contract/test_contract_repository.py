"""Loading and unloading rungs with the stock client: those of the bundle that serves, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from agentkit.bundles import SERVING, X
from agentkit.process import Agent
from stock_client import told_by

CLIENT = """
def states():
    return [m.state for m in client.get_model_repository_index().models]

def rung(**named):
    return client.infer("toy", inputs(), **named).get_response().model_version.split("/")[1]

before = states()
client.unload_model("toy/r1")
unloaded = states()
told = {
    "before": before, "unloaded": unloaded, "ready": client.is_model_ready("toy", "r1"),
    "others_ready": [client.is_model_ready("toy", version) for version in ("", "r0", "r2")],
    "pinned": refusal(lambda: client.infer("toy", inputs(), model_version="r1")), "free": rung(),
    "again": refusal(lambda: client.unload_model("toy/r1")),
    "safe": refusal(lambda: client.unload_model("toy/r0")),
    "current": refusal(lambda: client.unload_model("toy/r2")),
    "whole": refusal(lambda: client.unload_model("toy")),
}
client.load_model("toy/" + sys.argv[2] + "/r1")
told["loaded"], told["pinned_again"] = states(), rung(model_version="r1")
client.unload_model("toy/r1")
client.load_model("toy")
told["restored"] = states()
told["refused"] = {
    "model": refusal(lambda: client.load_model("nobody")),
    "rung": refusal(lambda: client.load_model("toy/r9")),
    "bundle": refusal(lambda: client.load_model("toy/0123456789ab/r1")),
    "path": refusal(lambda: client.load_model("toy/../../etc/passwd")),
    "config": refusal(lambda: client.load_model("toy/r1", config="{}")),
    "file": refusal(lambda: client.load_model("toy/r1", config="{}", files={"file:1/model.so": b"evil"})),
    "unload": refusal(lambda: client.unload_model("toy/r9")),
}
tcp = triton.InferenceServerClient(sys.argv[3])
told["tcp"] = [refusal(lambda: tcp.load_model("toy/r1")), refusal(lambda: tcp.unload_model("toy/r1"))]
say(told)
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with Agent(tmp_path_factory.mktemp("agent") / "s", "--tcp", "127.0.0.1:0") as agent:
        agent.deploy(SERVING)
        agent.infer(X)
        address = f"unix:{agent.fields['inference']}"
        told: dict[str, Any] = told_by(address, CLIENT, SERVING.sha256[:12], agent.fields["tcp"])
        return told | {"events": [each.message for each in agent.events("memory")]}


def test_an_unloaded_rung_is_not_ready_and_the_rest_answers(seen: dict[str, Any]) -> None:
    assert seen["before"] == ["READY"] * 3
    assert seen["unloaded"] == ["READY", "UNAVAILABLE", "READY"]
    assert (seen["ready"], seen["others_ready"], seen["free"]) == (False, [True] * 3, "r2")
    assert seen["pinned"][0] == "StatusCode.FAILED_PRECONDITION"
    assert "unloaded on request" in seen["pinned"][1]
    assert seen["again"] is None


def test_a_loaded_rung_answers_again_and_loading_the_model_returns_to_the_plan(seen: dict[str, Any]) -> None:
    assert seen["loaded"] == seen["restored"] == ["READY"] * 3
    assert seen["pinned_again"] == "r1"


@pytest.mark.parametrize(("which", "words"), [("safe", "safe rung"), ("current", "in use"), ("whole", "serves")])
def test_what_answers_is_never_unloaded(seen: dict[str, Any], which: str, words: str) -> None:
    status, message = seen[which]
    assert status == "StatusCode.FAILED_PRECONDITION"
    assert words in message


def test_nothing_but_a_rung_of_the_serving_bundle_is_loaded(seen: dict[str, Any]) -> None:
    assert {name: status for name, (status, _) in seen["refused"].items()} == {
        "model": "StatusCode.NOT_FOUND",
        "rung": "StatusCode.NOT_FOUND",
        "bundle": "StatusCode.NOT_FOUND",
        "path": "StatusCode.NOT_FOUND",
        "config": "StatusCode.INVALID_ARGUMENT",
        "file": "StatusCode.INVALID_ARGUMENT",
        "unload": "StatusCode.NOT_FOUND",
    }
    assert "verified bundle" in seen["refused"]["file"][1]


def test_only_the_operator_loads_and_unloads(seen: dict[str, Any]) -> None:
    assert {status for status, _ in seen["tcp"]} == {"StatusCode.PERMISSION_DENIED"}


def test_every_change_is_an_event(seen: dict[str, Any]) -> None:
    plan = "what is in memory follows the memory plan again, on request"
    changes = ["unloaded", "unloaded", "loaded", "unloaded"]
    assert seen["events"] == [*(f"rung r1 was {each}, on request" for each in changes), plan]
