"""What processes of this machine take: CPU time, memory, open files."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads: schedstat counts nanoseconds, /proc/pid/stat only clock ticks."""
    tasks = ((task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(text.split()[0]) for text in tasks) / 1e9


def rss_mib(pid: int) -> float:
    """Resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def pss_mib(pid: int) -> float:
    """Resident set in which a page that several processes share counts for each in part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


def open_files(pid: int) -> int:
    """File descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def family(pid: int) -> list[int]:
    """A process and all that descend from it, itself first."""
    found = [pid]
    for one in found:  # grows as it is read
        for task in Path(f"/proc/{one}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
