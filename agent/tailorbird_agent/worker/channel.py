"""Messages between the daemon and a worker: one small JSON object per packet, descriptors beside it.

A Unix SOCK_SEQPACKET pair keeps message borders, reports the other end's death as an empty packet, and carries
descriptors (SCM_RIGHTS). Whatever is large travels in shared memory or in a file passed by descriptor.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

#: Largest packet: half of Linux's default socket buffer, in which a packet counts with its bookkeeping.
MAX_PACKET_BYTES = 96 * 1024
_MAX_DESCRIPTORS = 4
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Channel:
    """One end of the pair."""

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def adopt(cls, descriptor: int) -> Channel:
        """The end that was inherited under this descriptor number."""
        return cls(socket.socket(fileno=descriptor))

    @staticmethod
    def pair() -> tuple[Channel, socket.socket]:
        """The daemon's end, not blocking, and the socket to hand to a child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        return Channel(ours), theirs

    def fileno(self) -> int:
        """Descriptor to watch for readability."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one message.

        Raises:
            BlockingIOError: the other end reads too slowly (the daemon's end only).
            BrokenPipeError: the other end is gone.
            ValueError: the message is too large for a packet.
        """
        packet = _encode(message).encode()
        if len(packet) > MAX_PACKET_BYTES:
            raise ValueError(f"a message of {len(packet)} bytes does not fit a packet of {MAX_PACKET_BYTES}")
        if descriptors:
            socket.send_fds(self._socket, [packet], list(descriptors))
        else:
            self._socket.send(packet)

    def receive(self) -> Message | None:
        """The next message, None when the other end is gone.

        Raises:
            BlockingIOError: there is none (the daemon's end only).
        """
        try:
            packet = self._socket.recv(MAX_PACKET_BYTES)
        except ConnectionResetError:
            return None
        return json.loads(packet) if packet else None

    def readable(self) -> bool:
        """Whether a message is there, or the other end is gone."""
        return bool(select.select([self._socket], [], [], 0.0)[0])

    def receive_with_descriptors(self) -> tuple[Message | None, list[int]]:
        """The next message and the descriptors that came with it, which the caller now owns."""
        packet, descriptors, _, _ = socket.recv_fds(self._socket, MAX_PACKET_BYTES, _MAX_DESCRIPTORS)
        return (json.loads(packet) if packet else None), descriptors

    def close(self) -> None:
        """Close this end; the other one sees it at once."""
        self._socket.close()
