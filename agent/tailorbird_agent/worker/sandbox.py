"""Limits a worker puts on itself in its first lines, before it reads a plan or loads a library.

Each layer is optional on a kernel that lacks it; those in force are reported to the daemon, which reports them on.
Standard library only: this runs before anything else is imported.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

#: Largest file a worker may write: room for a crash trace on its standard error.
_FILE_BYTES = 4 * 1024 * 1024
_OPEN_FILES = 512
_OOM_SCORE = "500"


def enter(parent_pid: int, *, address_space_bytes: int | None) -> tuple[str, ...]:
    """Confine this process and return the layers in force.

    address_space_bytes limits virtual memory, None leaves it alone. Exits at once when the parent is gone already: the
    death signal only covers deaths after it was asked for.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    layers = []
    if os.getsid(0) == os.getpid():
        layers.append("own-session")
    if _set_limits(address_space_bytes):
        layers.append("rlimits")
    if _offer_to_oom_killer():
        layers.append("first-out-of-memory")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        layers.append("no-new-privs")
    # One call: without the right to a network namespace we do not want to be left in a user namespace either.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        layers.append("no-network")
    # Last, since a change of credentials clears it.
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        layers.append("death-signal")
    if os.getppid() != parent_pid:
        sys.exit(0)
    return tuple(layers)


def _offer_to_oom_killer() -> bool:
    """When memory runs out the kernel shall take this process, not the daemon."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    except OSError:
        return False
    return True


def _set_limits(address_space_bytes: int | None) -> bool:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: _FILE_BYTES, resource.RLIMIT_NOFILE: _OPEN_FILES}
    if address_space_bytes is not None:
        limits[resource.RLIMIT_AS] = address_space_bytes
    try:
        for kind, value in limits.items():
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901
            resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):
        return False
    return True
