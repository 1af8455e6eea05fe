"""Two real processes that train together, for tests: they meet through a file and talk over loopback."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_START_S = 120
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

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self.processes = []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder / "store"), theirs), daemon=True)
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


def _serve(rank: int, store: str, line: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=SIZE)
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
