"""Bytes that arrive damaged, in the wrong place, or do not fit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from agentkit.bundles import X, make_bundle
from agentkit.process import (
    CHUNK,
    TIMEOUT,
    Agent,
    chunks,
    refused,
)

from tailorbird_api.agent.v1 import agent_service_pb2 as api


def test_a_flipped_byte_is_found_the_part_dropped_and_the_blob_sent_again(agent: Agent) -> None:
    data = os.urandom(600_000)
    sha256 = hashlib.sha256(data).hexdigest()
    flipped = data[:300_000] + bytes([data[300_000] ^ 4]) + data[300_001:]
    with refused("BLOB_CORRUPT", grpc.StatusCode.DATA_LOSS):
        agent.upload({sha256: flipped})
    assert agent.stat(sha256)[0].offset_bytes == 0
    agent.upload({sha256: data})
    assert agent.stat(sha256)[0].complete


def test_a_chunk_at_the_wrong_place_is_told_the_right_one(agent: Agent) -> None:
    data = os.urandom(2 * CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    with refused("BLOB_OFFSET", grpc.StatusCode.OUT_OF_RANGE, "0 bytes are here"):
        agent.control.UploadBlobs(chunks({sha256: data}, start=CHUNK), timeout=TIMEOUT)


def test_a_stream_that_names_no_blob_is_refused(agent: Agent) -> None:
    with refused("INPUT_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        agent.control.UploadBlobs(iter([api.UploadBlobsRequest(data=b"x")]), timeout=TIMEOUT)


def test_a_blob_beyond_the_quota_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with Agent(tmp_path / "s", "--quota-bytes", "300000") as agent:
        sent: list[int] = []

        def counted(data: bytes) -> Iterator[api.UploadBlobsRequest]:
            for chunk in chunks({hashlib.sha256(data).hexdigest(): data}):
                sent.append(len(chunk.data))
                yield chunk

        with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"):
            agent.control.UploadBlobs(counted(bytes(40 * CHUNK)), timeout=TIMEOUT)
        assert len(sent) < 20  # what was in flight when the refusal came
        assert not list((tmp_path / "s" / "incoming").iterdir())
        small = make_bundle(1)
        assert agent.deploy(small).active_sha256 == small.sha256


def test_a_full_disk_refuses_the_upload_and_what_is_committed_serves(tmp_path: Path) -> None:
    state = tmp_path / "small"
    state.mkdir()
    if os.system(f"mount -t tmpfs -o size=2m,mode=0700 tmpfs {state} 2>/dev/null") != 0:
        pytest.skip("no right to mount a small disk")
    try:
        # No reserve: the writes themselves run into the end of the disk.
        os.environ["TAILORBIRD_AGENT_RESERVE_BYTES"] = "0"
        with Agent(state, "--socket-dir", str(tmp_path)) as agent:
            bundle = make_bundle(1)
            agent.deploy(bundle)
            data = os.urandom(1_500_000)
            sha256 = hashlib.sha256(data).hexdigest()
            agent.control.UploadBlobs((each for each in list(chunks({sha256: data}))[:3]), timeout=TIMEOUT)
            (state / "other").write_bytes(bytes(os.statvfs(state).f_bavail * os.statvfs(state).f_frsize - 8192))
            with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED):
                agent.control.UploadBlobs(chunks({sha256: data}, start=3 * CHUNK), timeout=TIMEOUT)
            with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED):
                agent.upload({hashlib.sha256(bytes(100_000)).hexdigest(): bytes(100_000)})
            assert agent.infer(X).model_version == f"{bundle.sha256[:12]}/r2"
            (state / "other").unlink()
            offset = agent.stat(sha256)[0].offset_bytes
            agent.control.UploadBlobs(chunks({sha256: data}, start=offset), timeout=TIMEOUT)
            assert agent.stat(sha256)[0].complete
    finally:
        del os.environ["TAILORBIRD_AGENT_RESERVE_BYTES"]
        os.system(f"umount {state}")
