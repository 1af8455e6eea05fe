"""Read-only view of /proc and /sys. Every file is optional: what cannot be read is None, never an exception or a 0."""

from __future__ import annotations

import re
from pathlib import Path

from tailorbird_agent.hardware.number import whole

CPUS = "/sys/devices/system/cpu"

_NUMBER = re.compile(r"([0-9]+)")
_MOST_CPUS = 8192  # the kernel's own limit; a damaged list must not fill the memory


class Tree:
    """Files below a root, which is `/` on a device and a folder of recorded files elsewhere."""

    def __init__(self, root: Path | str = "/") -> None:
        self._root = Path(root)

    def text(self, path: str) -> str | None:
        """Content of an absolute path, without surrounding blanks and NULs (device-tree strings end in one)."""
        try:
            content = (self._root / path.lstrip("/")).read_bytes()
        except OSError:  # absent, forbidden, or a driver that answers EIO, ENODATA or EAGAIN
            return None
        return content.decode("utf-8", "replace").strip("\0 \t\n")

    def integer(self, path: str) -> int | None:
        """Content as a decimal integer; None if it is anything else."""
        return whole(self.text(path))

    def names(self, path: str, prefix: str = "") -> list[str]:
        """Names in a folder that start with prefix, cpu2 before cpu10; empty if there is no such folder."""
        try:
            found = [entry.name for entry in (self._root / path.lstrip("/")).iterdir()]
        except OSError:
            return []
        return sorted((name for name in found if name.startswith(prefix)), key=natural)


def cpu_folders(tree: Tree) -> list[str]:
    """cpu0, cpu1, ... below /sys/devices/system/cpu; cpufreq and cpuidle live there too and are no CPUs."""
    return [name for name in tree.names(CPUS, "cpu") if whole(name[3:]) is not None]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers inside names by value."""
    return [(int(part), "") if _NUMBER.fullmatch(part) else (-1, part) for part in _NUMBER.split(name)]


def cpu_list(text: str | None) -> tuple[int, ...]:
    """CPU numbers of a kernel list such as `0-3,8`; empty for None or anything malformed."""
    cpus: list[int] = []
    for part in (text or "").split(","):
        ends = part.strip().partition("-")
        first, last = whole(ends[0]), whole(ends[2] or ends[0])
        if first is None or last is None or not 0 <= first <= last < _MOST_CPUS:
            return ()
        cpus.extend(range(first, last + 1))
    return tuple(cpus)
