"""What disturbs: `python -m tests.bench.adapt.weather NAME SEED SECONDS SLOT_S CORES PID` follows a seeded schedule.

It runs until its time is over or its standard input closes, so nothing is left behind when the lab dies. What a machine
does not allow is said in one line on standard output ("unavailable: ..."); "ready" is the first line otherwise.
Dilation (thermal-ramp, flip) is the lab's own doing: `dilation` tells by how much.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_CPU, _MEMORY = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/memory")
_THRASH_BYTES, _ROOM_BYTES = 256 << 20, 48 << 20
#: Share of the pass -> load of the cores under test, percent; each part takes a sixth.
_CPU_STEPS = (0, 60, 200, 0, 200, 60)
#: Share of the cores' time that is left, percent, each for a third; a quota holds per period.
_QUOTAS, _PERIOD_US = (100, 50, 30), 5000
FLIP_SLOTS = 6


def dilation(name: str, slot: int, slots: int) -> float:
    """Factor on the on-CPU time of a run: synthetic slowness where a machine has no thermal zones or clocks to turn."""
    if name == "thermal-ramp":
        share = slot / slots
        return 1.0 + 1.5 * min(1.0, max(0.0, 3.0 * share - 0.5), max(0.0, 3.0 * (1.0 - share) - 0.5))
    if name == "flip":
        return 1.8 if slot // FLIP_SLOTS % 2 else 1.0
    return 1.0


class Sky:
    """One pass of weather: its seed, how long it lasts, the cores under test and the process that is tested."""

    def __init__(self, seed: int, seconds: float, cores: list[int], pid: int) -> None:
        self.draw = random.Random(seed)
        self.seconds = seconds
        self.cores = cores
        self.pid = pid
        self._began = time.monotonic()

    def rest(self, seconds: float) -> bool:
        """Wait; False when the lab is gone or the pass is over."""
        left = min(seconds, self._began + self.seconds - time.monotonic())
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, left))
        return not ready and left == seconds


@contextlib.contextmanager
def _stress(cores: list[int], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """stress-ng on these cores, in a session of its own so that all of it can be stopped and ended."""
    command = ["stress-ng", "--quiet", "--temp-path", tempfile.gettempdir(), "--taskset", ",".join(map(str, cores))]
    child = subprocess.Popen([*command, *arguments], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        yield child
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def natural(sky: Sky) -> None:
    """Whatever else the machine does."""
    sky.rest(sky.seconds)


def cpu_steps(sky: Sky) -> None:
    """Others take 0, 60 or 200 % of the cores under test."""
    for load in _CPU_STEPS:
        workers = (
            [] if not load else ["--cpu", str(max(1, load // 100) * len(sky.cores)), "--cpu-load", str(min(load, 100))]
        )
        with _stress(sky.cores, *workers) if workers else contextlib.nullcontext():
            if not sky.rest(sky.seconds / len(_CPU_STEPS)):
                return


def bursts(sky: Sky) -> None:
    """Others come and go, 0.2 to 2 s at a time."""
    with _stress(sky.cores, "--cpu", str(len(sky.cores))) as others:
        alive = True
        while alive:
            for number in (signal.SIGSTOP, signal.SIGCONT):
                os.killpg(others.pid, number)
                alive = alive and sky.rest(min(2.0, max(0.2, sky.draw.expovariate(1.0))))


def memory_stream(sky: Sky) -> None:
    """Memory bandwidth is taken from another core, every other sixth."""
    elsewhere = [core for core in range(os.cpu_count() or 1) if core not in sky.cores] or sky.cores
    for part in range(6):
        with _stress(elsewhere, "--stream", "1") if part % 2 else contextlib.nullcontext():
            if not sky.rest(sky.seconds / 6):
                return


def quota(sky: Sky) -> None:
    """The lab may use all of a core, half of it, less than a third."""
    with _group(_CPU, sky.pid) as folder:
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        for share in _QUOTAS:
            (folder / "cpu.cfs_quota_us").write_text(str(_PERIOD_US * share * len(sky.cores) // 100))
            if not sky.rest(sky.seconds / len(_QUOTAS)):
                return


def memory_pressure(sky: Sky) -> None:
    """Another process reads more than fits the page cache that it shares with the lab."""
    resident = int(Path(f"/proc/{sky.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with tempfile.NamedTemporaryFile() as file, _group(_MEMORY, sky.pid) as folder:
        os.posix_fallocate(file.fileno(), 0, _THRASH_BYTES)
        (folder / "memory.limit_in_bytes").write_text(str(resident + _ROOM_BYTES))
        script = "import sys\nwhile True:\n with open(sys.argv[1], 'rb', 0) as f:\n  while f.read(1 << 20): pass"
        child = subprocess.Popen([sys.executable, "-c", script, file.name], stdin=subprocess.DEVNULL)
        try:
            (folder / "cgroup.procs").write_text(str(child.pid))
            sky.rest(sky.seconds)
        finally:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _group(root: Path, pid: int) -> Iterator[Path]:
    """A control group (version 1) with the lab in it; it goes back where it was."""
    home = next(
        line.split(":", 2)[2]
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if root.name in line.split(":")[1].split(",")
    )
    folder = root / f"tailorbird-bench-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "cgroup.procs").write_text(str(pid))
        yield folder
    finally:
        with contextlib.suppress(ProcessLookupError):  # the lab has ended
            (root / home.lstrip("/") / "cgroup.procs").write_text(str(pid))
        folder.rmdir()


SKIES: dict[str, Callable[[Sky], None]] = {
    "cpu-steps": cpu_steps,
    "bursts": bursts,
    "memory-stream": memory_stream,
    "quota": quota,
    "memory-pressure": memory_pressure,
}


def main(arguments: list[str]) -> None:
    """Follow the schedule that the arguments name."""
    name, seed, seconds, cores, pid = arguments
    sky = Sky(int(seed), float(seconds), [int(core) for core in cores.split(",")], int(pid))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        SKIES.get(name, natural)(sky)
    except (OSError, StopIteration) as error:
        sys.stdout.write(f"unavailable: {error}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
