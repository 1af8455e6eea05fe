"""Messages keep their borders, carry descriptors, and tell of the other end's death."""

from __future__ import annotations

import os

import pytest

from tailorbird_agent.worker.channel import MAX_PACKET_BYTES, Channel


@pytest.fixture
def ends():
    ours, theirs = Channel.pair()
    child = Channel(theirs)
    yield ours, child
    ours.close()
    child.close()


def test_messages_arrive_one_by_one_in_order(ends) -> None:
    ours, child = ends
    for number in range(3):
        ours.send({"id": number})
    assert [child.receive() for _ in range(3)] == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_a_descriptor_travels_with_its_message(ends) -> None:
    ours, child = ends
    file = os.memfd_create("test")
    os.write(file, b"through the socket")
    ours.send({"op": "start"}, (file,))
    os.close(file)
    message, (received,) = child.receive_with_descriptors()
    assert message == {"op": "start"}
    assert os.pread(received, 100, 0) == b"through the socket"
    os.close(received)


def test_the_daemons_end_never_blocks(ends) -> None:
    ours, _ = ends
    with pytest.raises(BlockingIOError):
        ours.receive()
    with pytest.raises(BlockingIOError):
        while True:
            ours.send({"filler": "x" * 1000})


def test_the_other_ends_death_is_seen_after_its_last_message(ends) -> None:
    ours, child = ends
    child.send({"id": 1})
    child.close()
    assert ours.receive() == {"id": 1}
    assert ours.receive() is None


def test_a_message_that_fits_no_packet_is_refused(ends) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        ends[0].send({"plan": "x" * MAX_PACKET_BYTES})
