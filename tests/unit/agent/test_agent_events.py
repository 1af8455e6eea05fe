from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tailorbird_agent import events
from tailorbird_agent.events import Event, EventLog
from tailorbird_agent.store.filesystem import Filesystem


def sequences(log: EventLog, since: int = 0, **filters: object) -> list[int]:
    return [event.sequence for event in log.read(since, **filters)[0]]


def test_events_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    first = log.append("switch", "m", "r1 -> r0", {"cause": "slow"})
    log.append("policy")
    again = EventLog(tmp_path)
    again.append("lease")
    assert sequences(again) == [1, 2, 3]
    assert again.read(0)[0][0] == first
    assert first.details == {"cause": "slow"}


def test_only_what_was_asked_for_is_read(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for kind, model in (("a", "m"), ("b", "m"), ("a", "n"), ("a", "m")):
        log.append(kind, model)
    assert sequences(log, kinds=frozenset({"a"})) == [1, 3, 4]
    assert sequences(log, kinds=frozenset({"a"}), model="m") == [1, 4]
    assert sequences(log, 2) == [3, 4]
    assert sequences(log, limit=2) == [1, 2]


def test_a_torn_last_line_is_cut_and_its_number_used_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append("a")
    segment = next((tmp_path / "events").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes() + b'{"sequence": 2, "time')
    again = EventLog(tmp_path)
    again.append("b")
    assert [(event.sequence, event.kind) for event in again.read(0)[0]] == [(1, "a"), (2, "b")]


def test_after_a_power_cut_no_number_comes_back(tmp_path: Path) -> None:
    log = EventLog(tmp_path, boot_id="one")
    seen = [log.append("a").sequence for _ in range(5)]
    next((tmp_path / "events").glob("*.jsonl")).unlink()  # never reached the disk
    again = EventLog(tmp_path, boot_id="two")
    assert again.append("b").sequence > max(seen)


def test_the_log_is_bounded_and_reads_on_from_what_is_left(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    message = "x" * (events.SEGMENT_BYTES // 4)
    for _ in range(4 * events.SEGMENTS + 12):
        log.append("a", message=message)
    size = sum(path.stat().st_size for path in (tmp_path / "events").glob("*.jsonl"))
    assert size <= events.SEGMENTS * events.SEGMENT_BYTES
    left = sequences(log, limit=10_000)
    assert left == list(range(left[0], log.last_sequence + 1))
    assert left[0] > 1
    assert sequences(log, left[3]) == left[4:]


def test_a_watcher_sees_the_past_and_then_the_present(tmp_path: Path) -> None:
    async def scenario() -> list[Event]:
        log = EventLog(tmp_path)
        log.append("a")
        log.append("b")
        seen = []
        async for event in log.watch(0, kinds=frozenset({"a"})):
            seen.append(event)
            if len(seen) == 3:
                return seen
            log.append("b")
            log.append("a")
        raise AssertionError

    assert [event.sequence for event in asyncio.run(asyncio.wait_for(scenario(), 10))] == [1, 4, 6]


def test_a_slow_watcher_misses_nothing_however_much_comes(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        log, seen = EventLog(tmp_path), []
        log.append("a")
        async for event in log.watch(0):
            seen.append(event.sequence)
            if len(seen) == 1:
                for _ in range(3 * events.PAGE):
                    log.append("a")
            if len(seen) == 3 * events.PAGE + 1:
                return seen
        raise AssertionError

    seen = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert seen == list(range(1, len(seen) + 1))


def test_a_full_disk_loses_the_event_and_nothing_else(tmp_path: Path) -> None:
    class Filling(Filesystem):
        full = False

        def step(self, operation: str, path: Path) -> None:
            if self.full and operation == "append":
                raise OSError(errno.ENOSPC, "No space left on device")

    files = Filling()
    log = EventLog(tmp_path, files)
    log.append("a")
    files.full = True
    log.append("lost")
    files.full = False
    log.append("b")
    assert [event.kind for event in log.read(0)[0]] == ["a", "b"]
    assert [event.kind for event in EventLog(tmp_path).read(0)[0]] == ["a", "b"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_when_numbers_are_reserved_loses_the_event_and_nothing_else(
    tmp_path: Path, error: int
) -> None:
    class Failing(Filesystem):
        failing = True

        def step(self, operation: str, path: Path) -> None:
            if self.failing and operation != "make_folder":
                raise OSError(error, os.strerror(error))

    files = Failing()
    log = EventLog(tmp_path, files)
    log.append("lost")
    files.failing = False
    log.append("kept")
    assert [(event.sequence, event.kind) for event in log.read(0)[0]] == [(1, "kept")]


def test_lines_and_files_that_are_not_events_are_passed_over(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append("a")
    segment = next((tmp_path / "events").glob("*.jsonl"))
    damage = b'{"sequence": "2", "time_s": 1, "kind": "x"}\n5\nnull\n' + b"[" * 100_000 + b'\n{"sequ'
    segment.write_bytes(segment.read_bytes() + damage)
    (segment.parent / "notes.jsonl").write_text("mine\n")
    (segment.parent / "reserved.json").write_text('{"schema": "tailorbird.agent-events/1", "sequence": "x"}')
    log = EventLog(tmp_path)
    log.append("b")
    assert [(event.sequence, event.kind) for event in log.read(0)[0]] == [(1, "a"), (2, "b")]
