"""Two real processes that train together, for tests, over loopback.

They find each other as under torchrun: by its environment, at a store that neither of them keeps.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from torch.distributed import TCPStore

_START_S = 170  # of a busy machine
SIZE = 2


@dataclass(frozen=True)
class Failed:
    """What a call raised in a rank."""

    kind: str
    reason: str
    message: str
    trace: str


class Pair:
    """Two ranks that wait for calls. Functions are found by name, so they stand at the top of a module."""

    def __init__(self) -> None:
        self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self.processes = []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self._store.port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._lines.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What the function returns on each rank: its value, Failed for an exception, None of a rank that died."""
        for line in self._lines:
            line.send((function, args))
        return [self._answer(line) for line in self._lines]

    def good(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """The same, where nothing may fail."""
        found = self.run(function, *args)
        for rank, value in enumerate(found):
            assert not isinstance(value, Failed), f"rank {rank}: {value.trace}"
        return found

    def close(self) -> None:
        """End both."""
        for line in self._lines:
            line.close()
        for process in self.processes:
            process.join(20)
            if process.is_alive():
                process.kill()
                process.join()

    @staticmethod
    def _answer(line: Connection) -> Any:
        if not line.poll(_START_S):
            raise TimeoutError("a rank does not answer")
        try:
            return line.recv()
        except (EOFError, ConnectionResetError):
            return None


def _serve(rank: int, port: int, line: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    while True:
        try:
            function, args = line.recv()
        except (EOFError, OSError):
            break
        try:
            answer = function(rank, *args)
        except Exception as error:
            reason = getattr(error, "reason", "")
            answer = Failed(type(error).__name__, reason, str(error), traceback.format_exc())
        line.send(answer)
    os._exit(0)  # the other may be dead: there is nobody to say goodbye to
