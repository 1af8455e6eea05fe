"""Shared-memory regions: which objects are accepted, and what happens when one changes under the agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tailorbird_agent.errors import RequestError
from tailorbird_agent.regions import MAX_REGIONS, Audience, Regions

CONTENT = bytes(range(256)) * 64
OURS = Audience(os.geteuid(), None)


@pytest.fixture
def regions(tmp_path: Path) -> Regions:
    return Regions(OURS, tmp_path)


def make(folder: Path, name: str = "tensors", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(CONTENT)
    path.chmod(mode)
    return path


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.reason


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(regions: Regions, offset: int = 0, size: int = 100) -> bytes:
    target = bytearray(size)
    regions.span("in", offset, size).read_into(memoryview(target))
    return bytes(target)


def test_a_tensor_is_read_where_region_and_tensor_start(tmp_path: Path, regions: Regions) -> None:
    make(tmp_path)
    regions.register("in", "/tensors", 1000, 8000)
    assert read(regions, 500, 300) == CONTENT[1500:1800]


def test_a_tensor_is_written_there_and_nowhere_else(tmp_path: Path, regions: Regions) -> None:
    path = make(tmp_path)
    regions.register("out", "tensors", 1000, 8000)
    regions.span("out", 500, 300).write(b"\xff" * 200)
    assert path.read_bytes() == CONTENT[:1500] + b"\xff" * 200 + CONTENT[1700:]


@pytest.mark.parametrize(
    "key", ["", "/", "..", "/..", ".", "../x", "/a/b", "a/../../etc/passwd", "x\0", "x" * 256, "é"]
)
def test_a_key_that_is_no_file_name_is_refused(regions: Regions, key: str) -> None:
    assert reason(lambda: regions.register("in", key, 0, 1)) == "REGION_INVALID"


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb"])
def test_a_region_needs_a_name(tmp_path: Path, regions: Regions, name: str) -> None:
    make(tmp_path)
    assert reason(lambda: regions.register(name, "tensors", 0, 1)) == "REGION_INVALID"


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, len(CONTENT) + 1), (len(CONTENT), 1), (2**64 - 1, 2**64 - 1)])
def test_a_region_lies_within_its_object(tmp_path: Path, regions: Regions, offset: int, size: int) -> None:
    make(tmp_path)
    assert reason(lambda: regions.register("in", "tensors", offset, size)) == "REGION_INVALID"


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, 0), (0, -1), (0, 101), (100, 1), (2**63, 1)])
def test_a_tensor_lies_within_its_region(tmp_path: Path, regions: Regions, offset: int, size: int) -> None:
    make(tmp_path)
    regions.register("in", "tensors", 0, 100)
    assert reason(lambda: regions.span("in", offset, size)) == "REGION_INVALID"


def test_what_is_no_shared_memory_object_is_refused(tmp_path: Path, regions: Regions) -> None:
    path = make(tmp_path)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for key in ("link", "fifo", "folder", "absent"):
        assert reason(lambda key=key: regions.register("in", key, 0, 1)) == "REGION_INVALID"
    os.link(path, tmp_path / "second")
    assert reason(lambda: regions.register("in", "second", 0, 1)) == "REGION_INVALID"


def test_where_a_group_can_connect_only_what_the_group_may_use_is_opened(tmp_path: Path) -> None:
    shared = Regions(Audience(os.geteuid(), os.getegid()), tmp_path)
    for mode, taken in ((0o600, False), (0o640, False), (0o660, True), (0o606, True), (0o666, True)):
        make(tmp_path, f"of{mode:o}", mode)
        if taken:
            shared.register(f"of{mode:o}", f"of{mode:o}", 0, 1)
        else:
            assert reason(lambda mode=mode: shared.register("in", f"of{mode:o}", 0, 1)) == "REGION_PRIVATE"


def test_the_object_of_another_user_is_not_opened_for_ours(tmp_path: Path) -> None:
    make(tmp_path)
    others = Regions(Audience(os.geteuid() + 1, None), tmp_path)
    assert reason(lambda: others.register("in", "tensors", 0, 1)) == "REGION_PRIVATE"


def test_the_folder_of_the_socket_says_who_can_connect(tmp_path: Path) -> None:
    socket = tmp_path / "inference.sock"
    socket.touch()
    tmp_path.chmod(0o700)
    assert Audience.of(socket) == OURS
    tmp_path.chmod(0o750)
    assert Audience.of(socket) == Audience(os.geteuid(), socket.stat().st_gid)


def test_an_object_that_has_become_shorter_costs_the_request_and_nothing_else(tmp_path: Path, regions: Regions) -> None:
    path = make(tmp_path)
    regions.register("in", "tensors", 0, len(CONTENT))
    os.truncate(path, 150)
    assert reason(lambda: read(regions, 100, 100)) == "REGION_INVALID"
    assert reason(lambda: regions.span("in", 100, 100).write(b"x" * 100)) == "REGION_INVALID"
    assert path.stat().st_size == 150
    assert read(regions, 0, 150) == CONTENT[:150]


def test_an_object_that_is_gone_or_another_one_is_not_used(tmp_path: Path, regions: Regions) -> None:
    path = make(tmp_path)
    regions.register("in", "tensors", 0, 100)
    make(tmp_path, "other").rename(path)
    assert reason(lambda: read(regions)) == "REGION_INVALID"
    path.unlink()
    assert reason(lambda: read(regions)) == "REGION_INVALID"


def test_a_name_is_taken_until_its_object_is_gone(tmp_path: Path, regions: Regions) -> None:
    path = make(tmp_path)
    regions.register("in", "tensors", 0, 100)
    regions.register("in", "tensors", 0, 100)
    assert reason(lambda: regions.register("in", "tensors", 0, 200)) == "REGION_EXISTS"
    path.unlink()
    make(tmp_path, "new")
    regions.register("in", "new", 0, 200)
    assert regions.registered()["in"].size_bytes == 200


def test_no_more_than_so_many_and_those_whose_object_is_gone_make_room(tmp_path: Path, regions: Regions) -> None:
    make(tmp_path)
    gone = make(tmp_path, "gone")
    regions.register("first", "gone", 0, 1)
    for index in range(MAX_REGIONS - 1):
        regions.register(f"region{index}", "tensors", index, 1)
    gone.unlink()
    regions.register("more", "tensors", 0, 1)
    assert reason(lambda: regions.register("too many", "tensors", 0, 1)) == "REGION_LIMIT"
    regions.unregister("")
    assert regions.registered() == {}


def test_what_is_not_registered_is_named_with_what_is(tmp_path: Path, regions: Regions) -> None:
    make(tmp_path)
    regions.register("in", "tensors", 0, 1)
    regions.unregister("nothing")
    with pytest.raises(RequestError, match=r'"out"; registered: in\.') as caught:
        regions.span("out", 0, 1)
    assert caught.value.reason == "REGION_NOT_FOUND"
    assert reason(lambda: regions.registered("out")) == "REGION_NOT_FOUND"


def test_no_descriptor_stays_open(tmp_path: Path, regions: Regions) -> None:
    make(tmp_path)
    before = open_files()
    for _ in range(50):
        regions.register("in", "tensors", 0, 100)
        read(regions)
        assert reason(lambda: regions.register("in", "absent", 0, 1)) == "REGION_INVALID"
    assert open_files() == before
