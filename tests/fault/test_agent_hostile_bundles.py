"""Bundles made to hurt: each is refused with its reason, quickly, and nothing that serves notices."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from agentkit.bundles import Bundle, add_blob, canonical, make_bundle
from agentkit.process import TIMEOUT, Agent, refused

from tailorbird_agent.deploy.manifest import MAX_TENSOR_BYTES
from tailorbird_api.agent.v1 import agent_service_pb2 as api

Change = Callable[[dict[str, Any]], object]


def rungs(**fields: Any) -> Change:
    return lambda manifest: [rung.update(fields) for rung in manifest["rungs"]]


def inputs(**fields: Any) -> Change:
    return lambda manifest: manifest["inputs"][0].update(fields)


def needs(**fields: Any) -> Change:
    return lambda manifest: manifest["compatible"].update(fields)


def top(**fields: Any) -> Change:
    return lambda manifest: manifest.update(fields)


def tensor(number: int) -> dict[str, Any]:
    return {"name": f"i{number}", "datatype": "INT64", "shape": ["1"]}


def changed(change: Change) -> Bundle:
    bundle = make_bundle(2)
    manifest = json.loads(bundle.manifest)
    change(manifest)
    return Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)


@pytest.mark.parametrize(
    "change",
    {
        "schema": top(schema="x" * 500_000),
        "path": top(model="../../state"),
        "no-model": top(model=""),
        "surrogate": top(model="\ud800"),
        "version": top(min_agent_version="9" * 5000),
        "slo": top(slo_us="NaN"),
        "no-rungs": top(rungs=[]),
        "many-rungs": lambda manifest: manifest.update(rungs=manifest["rungs"] * 300),
        "many-inputs": lambda manifest: manifest.update(inputs=[tensor(number) for number in range(5000)]),
        "huge-input": inputs(shape=[str(MAX_TENSOR_BYTES // 4 + 1)]),
        "overflow": inputs(shape=[str(2**40), str(2**40)]),
        "negative": inputs(shape=["-1", "16"]),
        "nothing": inputs(shape=["0", "16"]),
        "many-sizes": inputs(shape=["1"] * 20_000),
        "long-name": inputs(name="x" * 10_000),
        "line": inputs(name="x\ny"),
        "triple": needs(triple="y" * 100_000),
        "isa": needs(isa_features=["f" * 300]),
        "runtime": rungs(artifact={"runtime": "z" * 100_000}),
        "tolerance": rungs(tolerance="Infinity"),
        "cpu-nan": rungs(cpu_us="NaN"),
        "cpu-for-ever": rungs(cpu_us=1e300),
        "accuracy": rungs(accuracy="NaN"),
        "memory-negative": rungs(memory_bytes=str(-(2**62))),
        "memory-huge": rungs(memory_bytes=str(2**63 - 1)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_manifest_that_asks_for_nonsense_is_refused(agent: Agent, change: tuple[str, Change]) -> None:
    bundle = changed(change[1])
    with refused("MANIFEST_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest), timeout=TIMEOUT)


def test_a_list_of_wants_that_is_longer_than_a_status_may_be_still_has_its_reason(agent: Agent) -> None:
    bundle = changed(needs(isa_features=[f"feature{number}" for number in range(10_000)]))
    with refused("INCOMPATIBLE_ISA", grpc.StatusCode.FAILED_PRECONDITION):
        agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest), timeout=TIMEOUT)


def tensor_file(header: bytes | dict[str, Any]) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def program(*steps: dict[str, Any]) -> bytes:
    return tensor_file({"__metadata__": {"format": "tailorbird.reference/1", "program": json.dumps(steps)}})


@pytest.mark.parametrize(
    "module",
    {
        "deep": tensor_file(b"[" * 200_000),
        "far": tensor_file({"x": {"dtype": "F32", "shape": [1], "data_offsets": [2**70, 2**70 + 4]}}),
        "metadata": tensor_file({"__metadata__": ["a"]}),
        "operation": program({"op": ["add"], "in": ["input.0"], "out": "output.0"}),
        "long-name": program({"op": "add", "in": ["q" * 200_000, "z"], "out": "output.0"}),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_module_file_that_breaks_its_reader_is_an_invalid_module(agent: Agent, module: tuple[str, bytes]) -> None:
    bundle = make_bundle(2)
    manifest = json.loads(bundle.manifest)
    manifest["rungs"][0]["artifact"]["blob"] = add_blob(bundle, module[1])
    bundle = Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)
    with refused("MODULE_INVALID", grpc.StatusCode.FAILED_PRECONDITION):
        agent.deploy(bundle)


def test_a_plan_too_large_for_its_worker_is_refused_and_nothing_is_left_loading(agent: Agent) -> None:
    bundle = make_bundle(2)
    manifest = json.loads(bundle.manifest)
    for rung in manifest["rungs"]:
        rung["artifact"]["parameters"] = [manifest["golden_inputs"]] * 800
    bundle = Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)
    with refused("MODULE_INVALID", grpc.StatusCode.FAILED_PRECONDITION, "too large"):
        agent.deploy(bundle)
    assert agent.events()[-1].kind == "load_failed"
