"""Limits that a container or a service manager put on this process: CPU quota and memory, cgroup v1 and v2.

A limit on any ancestor binds too, so every group from our own up to the root of the mount is looked at. In a container
the path in /proc/self/cgroup may be the host's; the root field of the mount says which part of it we see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird_agent.hardware.number import whole
from tailorbird_agent.hardware.tree import Tree

_MOUNTS = "/proc/self/mountinfo"
_GROUPS = "/proc/self/cgroup"
_NO_LIMIT_BYTES = 1 << 60  # v1 writes "none" as the largest multiple of the page size


@dataclass(frozen=True, slots=True)
class Cgroup:
    """cpu_cores is the quota in cores, memory_bytes the limit; None where there is no limit or no cgroup to be seen.

    throttled_count and throttled_us count how often and how long the quota stopped us, None if not told.
    """

    cpu_cores: float | None
    cpu_source: str
    memory_bytes: int | None
    memory_source: str
    throttled_count: int | None
    throttled_us: float | None
    throttled_source: str


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    controllers: frozenset[str]
    root: str
    point: str


def read_cgroup(tree: Tree) -> Cgroup:
    """The tightest limits that bind this process."""
    mounts, groups = _mounts(tree), _memberships(tree)
    quotas: list[tuple[float, str]] = []
    throttles: list[tuple[int, float, str]] = []
    for version, folder in _folders(mounts, groups, "cpu"):
        quota = _quota_v2(tree, folder) if version == 2 else _quota_v1(tree, folder)
        if quota is not None:
            quotas.append(quota)
        throttle = _throttle(tree, folder)
        if throttle is not None:
            throttles.append(throttle)
    limits: list[tuple[int, str]] = []
    for version, folder in _folders(mounts, groups, "memory"):
        path = f"{folder}/{'memory.max' if version == 2 else 'memory.limit_in_bytes'}"
        limit = tree.integer(path)
        if limit is not None and 0 < limit < _NO_LIMIT_BYTES:
            limits.append((limit, path))
    cores, cores_at = min(quotas, default=(None, f"{_GROUPS}: no cpu quota"))
    memory, memory_at = min(limits, default=(None, f"{_GROUPS}: no memory limit"))
    count, time_us, throttled_at = max(throttles, default=(None, None, f"{_GROUPS}: no cpu.stat"))
    return Cgroup(cores, cores_at, memory, memory_at, count, time_us, throttled_at)


def _mounts(tree: Tree) -> list[_Mount]:
    mounts = []
    for line in (tree.text(_MOUNTS) or "").splitlines():
        left, dash, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if dash and len(fields) >= 5 and kind and kind[0] in {"cgroup", "cgroup2"}:
            options = frozenset(kind[2].split(",")) if len(kind) > 2 else frozenset[str]()
            mounts.append(_Mount(2 if kind[0] == "cgroup2" else 1, options, fields[3], fields[4]))
    return mounts


def _memberships(tree: Tree) -> dict[str, str]:
    """Controller -> path of our group; "" is the unified hierarchy."""
    groups = {}
    for line in (tree.text(_GROUPS) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _folders(mounts: list[_Mount], groups: dict[str, str], controller: str) -> Iterator[tuple[int, str]]:
    """(version, folder) from our own group up to the mount; v1 where it has the controller, else the unified one."""
    mount = next((each for each in mounts if each.version == 1 and controller in each.controllers), None)
    path = groups.get(controller)
    if mount is None or path is None:
        mount = next((each for each in mounts if each.version == 2), None)
        path = groups.get("")
    if mount is None or path is None:
        return
    if mount.root != "/":
        inside = path == mount.root or path.startswith(f"{mount.root}/")
        path = path[len(mount.root) :] if inside else ""
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield mount.version, "/".join([mount.point, *parts[:depth]])


def _quota_v1(tree: Tree, folder: str) -> tuple[float, str] | None:
    quota, period = tree.integer(f"{folder}/cpu.cfs_quota_us"), tree.integer(f"{folder}/cpu.cfs_period_us")
    if quota is None or quota <= 0 or not period:
        return None
    return quota / period, f"{folder}/cpu.cfs_quota_us"


def _quota_v2(tree: Tree, folder: str) -> tuple[float, str] | None:
    words = (tree.text(f"{folder}/cpu.max") or "").split()
    quota, period = (whole(words[0]), whole(words[1])) if len(words) == 2 else (None, None)
    if quota is None or quota <= 0 or not period:
        return None
    return quota / period, f"{folder}/cpu.max"


def _throttle(tree: Tree, folder: str) -> tuple[int, float, str] | None:
    path = f"{folder}/cpu.stat"
    fields = dict(line.split(maxsplit=1) for line in (tree.text(path) or "").splitlines() if " " in line)
    count = whole(fields.get("nr_throttled"))
    microseconds, nanoseconds = whole(fields.get("throttled_usec")), whole(fields.get("throttled_time"))
    if count is None or (microseconds is None and nanoseconds is None):
        return None
    return count, float(microseconds) if microseconds is not None else (nanoseconds or 0) / 1e3, path
