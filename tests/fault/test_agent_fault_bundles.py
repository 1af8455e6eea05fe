"""Bundles made for another device, damaged, wrong or out of turn: refused, and what served still serves."""

from __future__ import annotations

import json
import struct
from typing import Any

import grpc
import pytest
from agentkit.bundles import SERVING, Bundle, add_blob, canonical, make_bundle
from agentkit.process import (
    TIMEOUT,
    Agent,
    refusal,
    refused,
)

from tailorbird_api.agent.v1 import agent_service_pb2 as api


def stage(agent: Agent, bundle: Bundle, **fields: Any) -> api.StageBundleResponse:
    agent.upload(bundle.blobs)
    return agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest, **fields), timeout=TIMEOUT)


def activate(agent: Agent, bundle: Bundle, **fields: Any) -> api.Deployment:
    request = api.ActivateBundleRequest(bundle_sha256=bundle.sha256, **fields)
    return agent.control.ActivateBundle(request, timeout=TIMEOUT).deployment


def aarch64_library() -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, 183) + bytes(44)


def with_module(bundle: Bundle, data: bytes) -> Bundle:
    manifest = json.loads(bundle.manifest)
    manifest["rungs"][0]["artifact"]["blob"] = add_blob(bundle, data)
    return Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)


def compatible(**changes: Any) -> Bundle:
    bundle = make_bundle(2)
    return bundle.edited(compatible=json.loads(bundle.manifest)["compatible"] | changes)


def test_a_bundle_for_another_cpu_is_refused_by_its_manifest(agent: Agent) -> None:
    with refused("INCOMPATIBLE_TRIPLE", grpc.StatusCode.FAILED_PRECONDITION, "aarch64-linux-gnu"):
        stage(agent, compatible(triple="aarch64-linux-gnu"))


def test_a_library_for_another_cpu_is_refused_whatever_its_manifest_says(agent: Agent) -> None:
    with refused("INCOMPATIBLE_TRIPLE", grpc.StatusCode.FAILED_PRECONDITION, 'rung "r0" holds aarch64 code'):
        stage(agent, with_module(make_bundle(2), aarch64_library()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"libc": "glibc 9.99"}, "INCOMPATIBLE_LIBC"),
        ({"isa_features": ["quantum"]}, "INCOMPATIBLE_ISA"),
        ({"runtimes": [{"runtime": "litert", "version": "0.0.1"}]}, "RUNTIME_MISSING"),
    ],
)
def test_a_bundle_that_asks_for_what_is_not_here_is_refused(agent: Agent, changes: dict[str, Any], reason: str) -> None:
    with refused(reason, grpc.StatusCode.FAILED_PRECONDITION):
        stage(agent, compatible(**changes))


def test_a_bundle_for_a_newer_agent_is_refused(agent: Agent) -> None:
    with refused("AGENT_TOO_OLD", grpc.StatusCode.FAILED_PRECONDITION):
        stage(agent, make_bundle(2).edited(min_agent_version="99.0"))


def test_a_bundle_whose_blobs_are_not_here_names_the_first(agent: Agent) -> None:
    bundle = make_bundle(77)
    with refused("BLOB_MISSING", grpc.StatusCode.NOT_FOUND) as caught:
        agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest), timeout=TIMEOUT)
    assert refusal(caught.error).metadata["sha256"] in bundle.blobs


@pytest.mark.parametrize("manifest", [b"", b"{", b"null", b'{"schema":"x"}', b"\xff" * 100, b"[" * 3000])
def test_bytes_that_are_no_manifest_are_refused(agent: Agent, manifest: bytes) -> None:
    with refused("MANIFEST_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        agent.control.StageBundle(api.StageBundleRequest(manifest=manifest), timeout=TIMEOUT)


def test_wrong_answers_are_never_served(agent: Agent) -> None:
    wrong = make_bundle(3, golden_shift=5.0)
    stage(agent, wrong)
    with refused("GOLDEN_MISMATCH", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, wrong)
    assert agent.deployment().active_sha256 == SERVING.sha256
    failed = agent.events("load_failed")[-1]
    assert failed.details["reason"] == "GOLDEN_MISMATCH"


def test_a_module_that_is_damaged_is_never_served(agent: Agent) -> None:
    broken = with_module(make_bundle(4), b"not a module")
    stage(agent, broken)
    with refused("MODULE_INVALID", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, broken)


def test_a_blob_the_disk_damaged_after_staging_is_never_loaded(agent: Agent) -> None:
    bundle = make_bundle(5)
    stage(agent, bundle)
    victim = json.loads(bundle.manifest)["rungs"][1]["artifact"]["blob"]["sha256"]
    path = agent.state / "blobs" / victim
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with refused("BLOB_CORRUPT", grpc.StatusCode.DATA_LOSS):
        activate(agent, bundle)
    assert not agent.stat(victim)[0].complete


def test_a_bundle_nobody_staged_cannot_be_activated(agent: Agent) -> None:
    with refused("NOT_STAGED", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, make_bundle(78))


def test_a_change_based_on_an_old_generation_is_refused(agent: Agent) -> None:
    bundle = make_bundle(6)
    staged = stage(agent, bundle).deployment
    with refused("GENERATION_CONFLICT", grpc.StatusCode.ABORTED, f"at generation {staged.generation}"):
        activate(agent, bundle, expected_generation=staged.generation - 1)
    with refused("GENERATION_CONFLICT", grpc.StatusCode.ABORTED):
        stage(agent, make_bundle(7), expected_generation=staged.generation + 1)


def test_there_is_no_way_back_without_a_previous_bundle(agent: Agent) -> None:
    with refused("NO_PREVIOUS", grpc.StatusCode.FAILED_PRECONDITION):
        agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT)


@pytest.mark.parametrize("method", ["CommitBundle", "RollbackBundle", "SetPolicy", "GetPolicy"])
def test_an_unknown_model_is_refused_with_those_there_are(agent: Agent, method: str) -> None:
    request = getattr(api, f"{method}Request")(model="nobody")
    with refused("MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, "models here: toy"):
        getattr(agent.control, method)(request, timeout=TIMEOUT)


def test_an_unknown_policy_is_refused_with_those_there_are(agent: Agent) -> None:
    for policy in ("fastest", "static:r9"):
        with refused("POLICY_UNKNOWN", grpc.StatusCode.INVALID_ARGUMENT, "static:r0"):
            agent.control.SetPolicy(api.SetPolicyRequest(model="toy", policy=policy), timeout=TIMEOUT)
    assert agent.deployment().policy == "two-channel"
