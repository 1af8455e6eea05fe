"""Space left where the agent keeps its blobs."""

from __future__ import annotations

import os
from pathlib import Path

from tailorbird_agent.hardware.reading import Reading


def read_disk(path: Path) -> Reading:
    """`disk_free_bytes` that an unprivileged process may still write on the file system of path."""
    try:
        status = os.statvfs(path)
    except OSError:
        return Reading("disk_free_bytes", None, str(path))
    return Reading("disk_free_bytes", status.f_bavail * status.f_frsize, str(path))
