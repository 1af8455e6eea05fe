"""What the stock client of the Open Inference Protocol gets from an agent."""

from __future__ import annotations

from typing import Any

import pytest
from agentkit.bundles import make_bundle, sample
from agentkit.process import Agent
from stock_client import told_by

SHAPE = (1, 16)

CLIENT = """
import asyncio, queue
import tritonclient.grpc.aio as triton_aio

metadata = client.get_model_metadata("toy")
answers = {
    version: client.infer("toy", inputs(), model_version=version, request_id="id-7") for version in ("", "r0", "r1")
}
timed = client.infer("toy", inputs(), parameters={"slo_us": 60_000_000})
asked = client.infer("toy", inputs(), outputs=[triton.InferRequestedOutput("y")])
health = {
    "live": client.is_server_live(), "ready": client.is_server_ready(), "model": client.is_model_ready("toy"),
    "rung": client.is_model_ready("toy", "r1"), "nobody": client.is_model_ready("nobody"),
    "no_rung": client.is_model_ready("toy", "r9"),
}

async def many():
    async with triton_aio.InferenceServerClient(sys.argv[1]) as other:
        done = await asyncio.gather(*(other.infer("toy", inputs()) for _ in range(64)))
        return [float(each.as_numpy("y")[0, 0]) for each in done]

def stream():
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, version in enumerate(("r0", "r9", "r1")):
        client.async_stream_infer("toy", inputs(), model_version=version, request_id=f"s{number}")
    seen = [answers.get(timeout=60) for _ in range(3)]
    client.stop_stream()
    return [
        [str(error)] if error else [answer.get_response().id, answer.get_response().model_version]
        for answer, error in seen
    ]

index = client.get_model_repository_index().models
statistics = client.get_inference_statistics("toy", "r1").model_stats
everything = client.get_inference_statistics().model_stats
say({
    "stream": stream(),
    "index": [[m.name, m.version, m.state] for m in index],
    "statistics": [
        [m.name, m.version, m.inference_count, m.inference_stats.success.count, m.inference_stats.compute_infer.ns]
        for m in statistics
    ],
    "counts": [m.inference_count for m in everything],
    "health": health,
    "server": [client.get_server_metadata().name, client.get_server_metadata().version],
    "inputs": [[t.name, t.datatype, list(t.shape)] for t in metadata.inputs],
    "outputs": [[t.name, t.datatype, list(t.shape)] for t in metadata.outputs],
    "versions": list(metadata.versions), "platform": metadata.platform,
    "answers": {
        v: [r.get_response().model_version, r.get_response().id, r.as_numpy("y").tolist()] for v, r in answers.items()
    },
    "parameters": sorted(timed.get_response().parameters),
    "missed": timed.get_response().parameters["missed"].bool_param,
    "asked": asked.as_numpy("y").tolist(),
    "many": asyncio.run(many()),
    "refusals": {
        "shape": refusal(lambda: client.infer("toy", inputs(x[:, :5]))),
        "name": refusal(lambda: client.infer("toy", inputs(name="z"))),
        "model": refusal(lambda: client.infer("nobody", inputs())),
        "version": refusal(lambda: client.infer("toy", inputs(), model_version="r9")),
    },
})
"""


@pytest.fixture(scope="module", params=["unix", "tcp"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the stock client saw, over either transport."""
    with Agent(tmp_path_factory.mktemp("agent") / "s", "--tcp", "127.0.0.1:0") as agent:
        agent.deploy(make_bundle(1))
        address = agent.fields["tcp"] if request.param == "tcp" else f"unix:{agent.fields['inference']}"
        found: dict[str, Any] = told_by(address, CLIENT)
        return found


def test_the_stock_client_sees_server_and_model(seen: dict[str, Any]) -> None:
    ready = {"live": True, "ready": True, "model": True, "rung": True, "nobody": False, "no_rung": False}
    assert seen["health"] == ready
    assert seen["server"] == ["tailorbird-agent", "0.1.0"]
    assert seen["inputs"] == [["x", "FP32", [1, 16]]]
    assert seen["outputs"] == [["y", "FP32", [1, 4]]]
    bundle = make_bundle(1).sha256[:12]
    assert seen["versions"] == [f"{bundle}/r0", f"{bundle}/r1", f"{bundle}/r2"]
    assert seen["platform"] == "tailorbird_reference"


def test_the_stock_client_gets_the_answer_of_the_rung_it_asked_for(seen: dict[str, Any]) -> None:
    bundle, x = make_bundle(1), sample(SHAPE, seed=5)
    for version, rung in (("", 2), ("r0", 0), ("r1", 1)):
        model_version, request_id, values = seen["answers"][version]
        assert model_version == f"{bundle.sha256[:12]}/r{rung}"
        assert request_id == "id-7"
        assert values[0] == pytest.approx(bundle.answer(x, rung)[0].tolist(), abs=0.05)
    assert seen["asked"] == seen["answers"][""][2]


def test_the_stock_client_reads_times_and_deadlines(seen: dict[str, Any]) -> None:
    assert seen["parameters"] == ["cpu_us", "missed", "queue_us", "wall_us"]
    assert seen["missed"] is False


def test_many_requests_at_once_are_all_answered(seen: dict[str, Any]) -> None:
    wanted = float(make_bundle(1).answer(sample(SHAPE, seed=5), 2)[0, 0])
    assert seen["many"] == pytest.approx([wanted] * 64, abs=0.05)


def test_the_stock_client_is_told_what_is_wrong(seen: dict[str, Any]) -> None:
    status = {name: answer[0] for name, answer in seen["refusals"].items()}
    assert status == {
        "shape": "StatusCode.INVALID_ARGUMENT",
        "name": "StatusCode.INVALID_ARGUMENT",
        "model": "StatusCode.NOT_FOUND",
        "version": "StatusCode.NOT_FOUND",
    }
    assert "FP32[1, 16], got FP32[1, 5]" in seen["refusals"]["shape"][1]


def test_the_stock_client_lists_every_version_that_can_answer(seen: dict[str, Any]) -> None:
    bundle = make_bundle(1).sha256[:12]
    assert seen["index"] == [["toy", f"{bundle}/r{rung}", "READY"] for rung in range(3)]


def test_the_stock_client_reads_how_often_each_version_answered_and_how_long_that_took(seen: dict[str, Any]) -> None:
    ((name, version, count, succeeded, compute_ns),) = seen["statistics"]
    assert (name, version, count, succeeded) == ("toy", f"{make_bundle(1).sha256[:12]}/r1", 1, 1)
    assert 1_000 < compute_ns < 10**10
    assert seen["counts"][:2] == [1, 1]
    assert seen["counts"][2] >= 3


def test_a_stream_answers_in_order_and_outlives_a_request_that_is_wrong(seen: dict[str, Any]) -> None:
    bundle = make_bundle(1).sha256[:12]
    first, wrong, last = seen["stream"]
    assert (first, last) == (["s0", f"{bundle}/r0"], ["s2", f"{bundle}/r1"])
    assert "RUNG_NOT_FOUND" in wrong[0]
