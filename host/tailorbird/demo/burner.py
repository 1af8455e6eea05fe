"""A CPU burner that comes and goes: plain busy processes, each bounded in time, each ended by its own handle.

Interference on a shared board is other processes taking scheduler slices, so that is what this makes: no cgroup, no
root, no third-party tool. A burner process ends by itself at its deadline even when its parent was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field

_SPIN = """
import os, sys, time
cores = {int(core) for core in sys.argv[2].split(",")}
os.sched_setaffinity(0, cores)
parent, deadline = os.getppid(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@dataclass(slots=True)
class Burner:
    """Busy processes confined to `cores`. Use as a context manager; leaving it ends whatever still runs."""

    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, count: int, *, seconds: float) -> None:
        """Add `count` busy processes, spread over the cores, that end themselves after `seconds`."""
        for _ in range(count):
            core = self.cores[len(self.processes) % len(self.cores)]
            command = [sys.executable, "-S", "-E", "-c", _SPIN, f"{seconds:.3f}", str(core)]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    def stop(self) -> None:
        """End all processes of this burner and reap them."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def __enter__(self) -> Burner:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
