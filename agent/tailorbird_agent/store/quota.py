"""Whether a blob fits, decided before its first byte is accepted."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.errors import StoreError

MIN_FREE_ENTRIES = 16


@dataclass(frozen=True, slots=True)
class Quota:
    """limit_bytes: most that all blobs may take, 0 for no limit; reserve_bytes: what must stay free on the disk."""

    limit_bytes: int = 0
    reserve_bytes: int = 0

    def check(self, needed_bytes: int, *, used_bytes: int, promised_bytes: int, free: tuple[int, int]) -> None:
        """Accept `needed_bytes` more beside what is used and what running uploads were promised.

        Raises:
            StoreError: DISK_FULL, with what is missing.
        """
        free_bytes, free_entries = free
        room = free_bytes - self.reserve_bytes - promised_bytes
        place = "the disk"
        if self.limit_bytes and self.limit_bytes - used_bytes - promised_bytes < room:
            room, place = self.limit_bytes - used_bytes - promised_bytes, "the agent's quota"
        if needed_bytes > room:
            room = max(room, 0)
            raise StoreError(
                "DISK_FULL",
                f"{needed_bytes} bytes are needed and {place} has room for {room}.",
                needed_bytes=str(needed_bytes),
                room_bytes=str(room),
            )
        if free_entries < MIN_FREE_ENTRIES:
            raise StoreError("DISK_FULL", f"the disk has {free_entries} file entries (inodes) left.")
