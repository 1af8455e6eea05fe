from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird_agent.deploy.machine import Deployment, Phase
from tailorbird_agent.errors import AgentError, RequestError, StoreError
from tailorbird_agent.ledger import Ledger
from tailorbird_agent.store import gc
from tailorbird_agent.store.blobs import MAX_CHUNK_BYTES, Blobs
from tailorbird_agent.store.filesystem import Filesystem
from tailorbird_agent.store.quota import Quota


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def send(
    blobs: Blobs, data: bytes, *, sha256: str = "", piece: int = MAX_CHUNK_BYTES, until: int | None = None
) -> None:
    sha256 = sha256 or digest(data)
    start = blobs.begin(sha256, len(data)).offset_bytes
    for offset in range(start, max(len(data), 1), piece):
        if until is not None and offset >= until:
            break
        blobs.append(sha256, len(data), offset, data[offset : offset + piece])
    blobs.end(sha256)


def reason_of(error: pytest.ExceptionInfo[AgentError]) -> str:
    return error.value.reason


@given(data=st.binary(max_size=400), piece=st.integers(1, 97), cut=st.integers(0, 400))
def test_an_upload_cut_anywhere_resumes_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, piece: int, cut: int
) -> None:
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    send(blobs, data, piece=piece, until=cut)
    send(blobs, data, piece=piece)
    assert blobs.path(digest(data)).read_bytes() == data
    assert blobs.stat(digest(data)).complete
    assert list(blobs.incoming.iterdir()) == []


def test_a_flipped_byte_is_found_and_the_part_discarded(tmp_path: Path) -> None:
    blobs, data = Blobs(tmp_path), os.urandom(1000)
    with pytest.raises(StoreError) as caught:
        send(blobs, data[:-1] + bytes([data[-1] ^ 1]), sha256=digest(data))
    assert reason_of(caught) == "BLOB_CORRUPT"
    assert blobs.stat(digest(data)).offset_bytes == 0
    blobs.end(digest(data))
    send(blobs, data)
    assert blobs.path(digest(data)).read_bytes() == data


def test_a_chunk_must_continue_where_the_blob_ends(tmp_path: Path) -> None:
    blobs, data = Blobs(tmp_path), bytes(100)
    blobs.begin(digest(data), 100)
    blobs.append(digest(data), 100, 0, data[:40])
    for offset in (0, 39, 41):
        with pytest.raises(StoreError) as caught:
            blobs.append(digest(data), 100, offset, b"x")
        assert (reason_of(caught), caught.value.metadata["offset_bytes"]) == ("BLOB_OFFSET", "40")


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    blobs, data = Blobs(tmp_path), bytes(100)
    blobs.begin(digest(data), 100)
    for size, piece in ((100, bytes(101)), (1 << 20, bytes(MAX_CHUNK_BYTES + 1))):
        with pytest.raises(StoreError) as caught:
            blobs.append(digest(data), size, 0, piece)
        assert reason_of(caught) == "BLOB_TOO_LARGE"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError):
        Blobs(tmp_path).stat(name)


def test_an_upload_that_cannot_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, quota=Quota(limit_bytes=1000))
    send(blobs, os.urandom(600))
    with pytest.raises(StoreError) as caught:
        blobs.begin("0" * 64, 401)
    assert reason_of(caught) == "DISK_FULL"
    assert caught.value.metadata == {"needed_bytes": "401", "room_bytes": "400"}
    assert blobs.begin("0" * 64, 400).offset_bytes == 0


def test_uploads_under_way_share_the_room_that_is_left(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, quota=Quota(limit_bytes=1000))
    blobs.begin("0" * 64, 700)
    with pytest.raises(StoreError):
        blobs.begin("1" * 64, 700)
    blobs.end("0" * 64)
    assert not blobs.begin("1" * 64, 700).complete


def test_the_disk_keeps_its_reserve(tmp_path: Path) -> None:
    free, _ = Filesystem().free(tmp_path)
    blobs = Blobs(tmp_path, quota=Quota(reserve_bytes=free + (1 << 40)))
    with pytest.raises(StoreError) as caught:
        blobs.begin("0" * 64, 1)
    assert reason_of(caught) == "DISK_FULL"


def test_a_disk_without_file_entries_is_full(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="inodes"):
        Quota().check(1, used_bytes=0, promised_bytes=0, free=(1 << 40, 3))


def test_a_disk_that_fills_while_writing_is_reported_and_the_upload_resumes(tmp_path: Path) -> None:
    class Filling(Filesystem):
        full = False

        def step(self, operation: str, path: Path) -> None:
            if self.full and operation == "append":
                raise OSError(errno.ENOSPC, "No space left on device")

    files, data = Filling(), os.urandom(1000)
    blobs = Blobs(tmp_path, files)
    send(blobs, data, piece=100, until=500)
    files.full = True
    with pytest.raises(StoreError) as caught:
        send(blobs, data, piece=100)
    assert reason_of(caught) == "DISK_FULL"
    files.full = False
    send(blobs, data, piece=100)
    assert blobs.path(digest(data)).read_bytes() == data


def test_a_part_that_was_whole_when_the_process_died_is_published(tmp_path: Path) -> None:
    blobs, whole, half = Blobs(tmp_path), b"whole", b"half"
    (blobs.incoming / f"{digest(whole)}.part").write_bytes(whole)
    (blobs.incoming / f"{digest(half)}.part").write_bytes(half[:2])
    Blobs(tmp_path).recover()
    assert blobs.stat(digest(whole)).complete
    assert not blobs.stat(digest(half)).complete


def test_a_blob_the_disk_changed_is_found_and_removed(tmp_path: Path) -> None:
    blobs, data = Blobs(tmp_path), os.urandom(100)
    send(blobs, data)
    blobs.verify(digest(data))
    blobs.path(digest(data)).write_bytes(data[::-1])
    with pytest.raises(StoreError) as caught:
        blobs.verify(digest(data))
    assert reason_of(caught) == "BLOB_CORRUPT"
    assert not blobs.stat(digest(data)).complete


def test_collection_keeps_what_bundles_name_and_what_is_young_or_being_sent(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    named, orphan, sending = os.urandom(10), os.urandom(10), os.urandom(10)
    for data in (named, orphan):
        send(blobs, data)
    bundle = blobs.put(json.dumps({"rungs": [{"artifact": {"blob": {"sha256": digest(named)}}}]}).encode())
    blobs.begin(digest(sending), 10)
    blobs.append(digest(sending), 10, 0, sending[:5])
    now_s = (blobs.folder / bundle).stat().st_mtime + 60
    marked = gc.mark(blobs, [bundle])
    assert gc.collect(blobs, marked, now_s=now_s, grace_s=600).blobs == 0
    swept = gc.collect(blobs, marked, now_s=now_s, grace_s=10)
    assert (swept.blobs, swept.freed_bytes) == (1, 10)
    assert blobs.stat(digest(named)).complete
    assert blobs.stat(bundle).complete
    assert blobs.stat(digest(sending)).offset_bytes == 5
    assert not blobs.stat(digest(orphan)).complete


def test_collection_of_a_leases_blobs_looks_at_nothing_else(tmp_path: Path) -> None:
    blobs, mine, other = Blobs(tmp_path), b"mine", b"other"
    send(blobs, mine)
    send(blobs, other)
    assert gc.collect(blobs, frozenset(), now_s=2e10, grace_s=0, only={digest(mine)}).blobs == 1
    assert blobs.stat(digest(other)).complete


def test_the_ledger_comes_back_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    deployment = Deployment("m", Phase.TRIAL, 7, "a", "b", "c", "d", 5, 6, 1, "static-small", 12.5)
    ledger.put(deployment)
    tokens = [ledger.next_fencing_token() for _ in range(3)]
    again = Ledger(tmp_path)
    assert again.get("m") == deployment
    assert again.get("other") == Deployment("other")
    assert again.next_fencing_token() > max(tokens)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"schema": "tailorbird.agent-state/9"}',
        b'{"schema": "tailorbird.agent-state/1", "deployments": 5}',
        b'{"schema": "tailorbird.agent-state/1", "deployments": [{"model": "m", "phase": "comnitted"}]}',
        b'{"schema": "tailorbird.agent-state/1", "deployments": [{"model": "m", "phasf": "committed"}]}',
        b'{"schema": "tailorbird.agent-state/1", "fencing_token": "x"}',
        b"\xff\x00",
    ],
    ids=range(10),
)
def test_an_unreadable_ledger_is_kept_aside_and_tokens_still_grow(tmp_path: Path, damage: bytes) -> None:
    for _ in range(5):
        Ledger(tmp_path).next_fencing_token()
    (tmp_path / "state.json").write_bytes(damage)
    ledger = Ledger(tmp_path)
    assert ledger.set_aside is not None
    assert ledger.set_aside.read_bytes() == damage
    assert ledger.next_fencing_token() > 5
    assert Ledger(tmp_path).set_aside is None


def test_a_manifest_the_disk_damaged_does_not_stop_collection(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    bundle, stray = blobs.put(b'{"rungs": []}'), blobs.put(b"stray")
    (blobs.folder / bundle).write_bytes(b'{"rungs": [')
    marked = gc.mark(blobs, [bundle])
    assert gc.collect(blobs, marked, now_s=2e10, grace_s=0).blobs == 1
    assert not blobs.stat(stray).complete


def test_a_manifest_that_does_not_fit_leaves_no_room_promised(tmp_path: Path) -> None:
    class Full(Filesystem):
        def step(self, operation: str, path: Path) -> None:
            if operation == "append":
                raise OSError(errno.ENOSPC, "No space left on device")

    blobs = Blobs(tmp_path, Full())
    with pytest.raises(StoreError, match="No space left"):
        blobs.put(b"{}")
    assert blobs.uploading() == frozenset()
