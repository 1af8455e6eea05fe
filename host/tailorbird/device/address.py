"""Where an agent listens: two Unix sockets side by side, control and inference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tailorbird.errors import UsageError

#: sun_path holds 108 bytes with its terminator (unix(7)); longer paths cannot be bound or dialled.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Address:
    """Control and inference socket of one agent."""

    control: Path
    inference: Path

    @classmethod
    def parse(cls, text: str | Path) -> Address:
        """Read "unix:/dir/control.sock", "/dir/control.sock" or "/dir", the folder with both sockets.

        Raises UsageError for host:port addresses and for paths no Unix socket can have.
        """
        name = str(text)
        if not name.startswith(("unix:", "/", "./", "../", "~")) and ":" in name:
            raise UsageError(
                f"cannot control a device over TCP at {name}",
                why="control over TCP needs mutual TLS, which this release does not have",
                fix="forward the socket: ssh -N -L /tmp/board/control.sock:REMOTE/control.sock "
                "-L /tmp/board/inference.sock:REMOTE/inference.sock USER@BOARD, then use /tmp/board",
            )
        path = Path(name.removeprefix("unix:").removeprefix("//")).expanduser().absolute()
        folder = path.parent if path.suffix == ".sock" else path
        control = path if path.suffix == ".sock" else folder / "control.sock"
        if len(os.fsencode(folder / "inference.sock")) > MAX_SOCKET_PATH_BYTES:
            raise UsageError(
                f"the socket path {folder} is too long",
                why=f"a Unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes",
                fix="give the agent a shorter --socket-dir",
            )
        return cls(control, folder / "inference.sock")

    def __str__(self) -> str:
        return f"unix:{self.control}"
