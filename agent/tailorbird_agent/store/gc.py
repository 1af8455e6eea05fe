"""Which blobs may go: a mark over what is referred to, then a sweep over the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tailorbird_agent.store.blobs import Blobs

#: A file from further in the future than this was written by a clock that has been set back since.
_CLOCK_SLACK_S = 60.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a collection removed."""

    blobs: int
    freed_bytes: int


def mark(blobs: Blobs, bundles: Iterable[str]) -> frozenset[str]:
    """Digests that bundles need: each manifest and every blob it names.

    Raises:
        StoreError: BLOB_MISSING, a bundle whose manifest is gone.
    """
    marked = set()
    for bundle in bundles:
        marked.add(bundle)
        # A manifest the disk damaged names nothing, and is never loaded: a blob is verified first.
        with suppress(ValueError):
            marked.update(_digests(json.loads(blobs.path(bundle).read_bytes())))
    return frozenset(marked)


def _digests(value: Any) -> Iterator[str]:
    """Every "sha256" in a manifest, wherever it stands: a field added later is covered without a change here."""
    if isinstance(value, dict):
        if isinstance(value.get("sha256"), str):
            yield value["sha256"]
        for item in value.values():
            yield from _digests(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item)


def collect(
    blobs: Blobs, marked: AbstractSet[str], *, now_s: float, grace_s: float, only: AbstractSet[str] | None = None
) -> Swept:
    """Remove every blob and part that is not marked, not being uploaded and untouched for `grace_s`.

    marked: digests that active, previous, staged and leased bundles refer to; now_s: wall clock, as file times are;
    only: look at these alone (the blobs of a lease that ended).
    The grace covers a bundle whose blobs are here and whose StageBundle is still to come.
    """
    busy = blobs.uploading()
    removed = freed = 0
    for sha256, path in list(blobs.entries()):
        status = path.stat()
        if only is not None and sha256 not in only:
            continue
        if sha256 in marked or sha256 in busy:
            continue
        if status.st_mtime > now_s + _CLOCK_SLACK_S:
            # Written while the clock was ahead: its grace begins now, and does not last until that time has come.
            blobs.files.set_time(path, round(1e9 * now_s))
            continue
        if now_s - status.st_mtime < grace_s:
            continue
        blobs.files.unlink(path)
        removed += 1
        freed += status.st_size
    if removed:
        blobs.files.sync_folder(blobs.folder)
    return Swept(removed, freed)
