"""A CPU burner that comes and goes: plain busy processes, each bounded in time, each ended by its own handle.

Interference on a shared board is other processes taking the core away in the middle of an inference. One that only
spins does not do that on Linux: whoever wakes up preempts it. These work for 0.3 ms and sleep for 0.1 ms, and ask for
short scheduler slices (sched_setattr, unprivileged, EEVDF of Linux 6.12 and newer; older kernels ignore it), so each
wake-up may interrupt an inference. No cgroup, no root, no third-party tool. A burner process ends by itself at its
deadline, and when its parent was killed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field

#: argv: seconds, core, number of the sched_setattr system call (0: there is none known for this machine).
_BURN = """
import ctypes, os, struct, sys, time
os.sched_setaffinity(0, {int(sys.argv[2])})
if int(sys.argv[3]):
    attributes = struct.pack("<IIQiIQQQ", 48, 0, 0, 0, 0, 100_000, 0, 0)
    ctypes.CDLL(None).syscall(int(sys.argv[3]), 0, attributes, 0)
parent, deadline = os.getppid(), time.monotonic() + float(sys.argv[1])
while (now := time.monotonic()) < deadline and os.getppid() == parent:
    while time.monotonic() < now + 0.0003:
        pass
    time.sleep(0.0001)
"""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "armv7l": 380}


@dataclass(slots=True)
class Burner:
    """Busy processes confined to `cores`. Use as a context manager; leaving it ends whatever still runs."""

    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, count: int, *, seconds: float) -> None:
        """Add `count` busy processes, spread over the cores, that end themselves after `seconds`."""
        for _ in range(count):
            core = self.cores[len(self.processes) % len(self.cores)]
            call = str(_SCHED_SETATTR.get(platform.machine(), 0))
            command = [sys.executable, "-S", "-E", "-c", _BURN, f"{seconds:.3f}", str(core), call]
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
