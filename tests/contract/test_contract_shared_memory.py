"""Tensors in shared memory, with the stock client and its own shared-memory tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from agentkit.bundles import SERVING, X, make_bundle, sample
from agentkit.process import Agent, output
from stock_client import told_by

SHARED = """
import os
import tritonclient.utils.shared_memory as shm

KEY = sys.argv[2]
NBYTES = x.nbytes
handle = shm.create_shared_memory_region("in", KEY, 4096)
"""

USE = """
out = shm.create_shared_memory_region("out", KEY + "-out", 4096)
shm.set_shared_memory_region(handle, [x])
shm.set_shared_memory_region(handle, [x + 1], offset=1024)
client.register_system_shared_memory("in", KEY, 4096)
client.register_system_shared_memory("out", KEY + "-out", 2048, offset=64)

def ask(offset, into):
    tensor = triton.InferInput("x", x.shape, "FP32")
    tensor.set_shared_memory("in", NBYTES, offset=offset)
    wanted = triton.InferRequestedOutput("y")
    if into is not None:
        wanted.set_shared_memory("out", 16, offset=into)
    result = client.infer("toy", [tensor], outputs=[wanted])
    if into is None:
        return result.as_numpy("y").tolist()
    assert result.get_response().raw_output_contents[0] == b""
    assert result.get_output("y").parameters["shared_memory_region"].string_param == "out"
    return shm.get_contents_as_numpy(out, np.float32, [1, 4], offset=64 + into).tolist()

status = client.get_system_shared_memory_status()
told = {
    "sent": ask(0, None), "stored": ask(0, 0), "further": ask(1024, 1000),
    "status": sorted([r.name, r.key, r.offset, r.byte_size] for r in status.regions.values()),
    "small": refusal(lambda: client.infer("toy", inputs(), outputs=[place("y", "out", 15)])),
    "unknown": refusal(lambda: client.infer("toy", inputs(), outputs=[place("y", "nowhere", 16)])),
    "beyond": refusal(lambda: client.infer("toy", inputs(), outputs=[place("y", "out", 16, 2040)])),
    "traversal": refusal(lambda: client.register_system_shared_memory("evil", "../etc/passwd", 16)),
    "taken": refusal(lambda: client.register_system_shared_memory("in", KEY, 8)),
    "large": refusal(lambda: client.register_system_shared_memory("big", KEY, 1 << 40)),
}
client.unregister_system_shared_memory("in")
told["left"] = list(client.get_system_shared_memory_status().regions)
client.unregister_system_shared_memory()
told["none"] = list(client.get_system_shared_memory_status().regions)
told["forgotten"] = refusal(lambda: ask(0, None))
for each in (handle, out):
    shm.destroy_shared_memory_region(each)
say(told)
"""

PLACE = """
def place(name, region, size, offset=0):
    wanted = triton.InferRequestedOutput(name)
    wanted.set_shared_memory(region, size, offset=offset)
    return wanted

def shared_input(region="in"):
    tensor = triton.InferInput("x", x.shape, "FP32")
    tensor.set_shared_memory(region, x.nbytes)
    return [tensor]
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent") / "s", "--tcp", "127.0.0.1:0") as running:
        running.deploy(SERVING)
        yield running


@pytest.fixture(scope="module")
def seen(agent: Agent) -> dict[str, Any]:
    """What the stock client saw over the Unix socket."""
    return told_by(f"unix:{agent.fields['inference']}", SHARED + PLACE + USE, f"tb-{uuid4().hex}")


def test_inputs_and_outputs_travel_through_memory(seen: dict[str, Any]) -> None:
    bundle, x = make_bundle(1), sample((1, 16), seed=5)
    for name, value in (("sent", x), ("stored", x), ("further", x + 1)):
        assert seen[name][0] == pytest.approx(bundle.answer(value, 2)[0].tolist(), abs=0.05)


def test_the_stock_client_lists_and_forgets_its_regions(seen: dict[str, Any]) -> None:
    (one, key, *rest), (two, key_out, *rest_out) = seen["status"]
    assert (one, rest, two, rest_out) == ("in", [0, 4096], "out", [64, 2048])
    assert key_out == f"{key}-out"
    assert (seen["left"], seen["none"]) == (["out"], [])


def test_what_does_not_fit_is_refused_and_named(seen: dict[str, Any]) -> None:
    found = {name: seen[name][0] for name in ("small", "unknown", "beyond", "traversal", "taken", "large", "forgotten")}
    assert found == {
        "small": "StatusCode.INVALID_ARGUMENT",
        "unknown": "StatusCode.NOT_FOUND",
        "beyond": "StatusCode.INVALID_ARGUMENT",
        "traversal": "StatusCode.INVALID_ARGUMENT",
        "taken": "StatusCode.ALREADY_EXISTS",
        "large": "StatusCode.INVALID_ARGUMENT",
        "forgotten": "StatusCode.NOT_FOUND",
    }


def test_a_client_over_tcp_gets_no_shared_memory(agent: Agent) -> None:
    script = """
client.is_server_live()
local = triton.InferenceServerClient("unix:" + sys.argv[3])
local.register_system_shared_memory("in", KEY, 4096)
say({
    "register": refusal(lambda: client.register_system_shared_memory("in", KEY, 4096)),
    "status": refusal(client.get_system_shared_memory_status),
    "unregister": refusal(client.unregister_system_shared_memory),
    "infer": refusal(lambda: client.infer("toy", shared_input())),
    "output": refusal(lambda: client.infer("toy", inputs(), outputs=[place("y", "in", 16)])),
    "local": local.infer("toy", shared_input()).as_numpy("y").shape[1],
})
local.unregister_system_shared_memory()
shm.destroy_shared_memory_region(handle)
"""
    seen = told_by(agent.fields["tcp"], SHARED + PLACE + script, f"tb-{uuid4().hex}", agent.fields["inference"])
    assert seen.pop("local") == 4
    assert {status for status, _ in seen.values()} == {"StatusCode.PERMISSION_DENIED"}


def test_an_application_that_truncates_its_region_or_dies_costs_nobody_else_anything(agent: Agent) -> None:
    script = """
shm.set_shared_memory_region(handle, [x])
client.register_system_shared_memory("in", KEY, 4096)
first = client.infer("toy", shared_input()).as_numpy("y").shape[1]
os.truncate("/dev/shm/" + KEY, 20)
short = refusal(lambda: client.infer("toy", shared_input()))
short_out = refusal(lambda: client.infer("toy", inputs(), outputs=[place("y", "in", 16, 16)]))
os.unlink("/dev/shm/" + KEY)
gone = refusal(lambda: client.infer("toy", shared_input()))
say([first, short, short_out, gone])
os._exit(0)
"""
    first, *refused = told_by(f"unix:{agent.fields['inference']}", SHARED + PLACE + script, f"tb-{uuid4().hex}")
    assert first == 4
    assert {status for status, _ in refused} == {"StatusCode.INVALID_ARGUMENT"}
    for words, (_, message) in zip(("shorter", "shorter", "opened"), refused, strict=True):
        assert words in message
    # Nobody unregistered it: the next application of that kind registers again and works.
    again = SHARED + PLACE + USE
    assert told_by(f"unix:{agent.fields['inference']}", again, f"tb-{uuid4().hex}")["stored"]
    assert output(agent.infer(X)).shape == (1, 4)
