"""One JSON record on disk: replaced whole or not at all, with a schema name so that a later version can migrate it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tailorbird_agent.errors import StoreError
from tailorbird_agent.store.filesystem import FULL, Filesystem


class Record:
    """A JSON object in a file. `set_aside` names where an unreadable file was moved, None when it was fine."""

    def __init__(self, path: Path, schema: str, filesystem: Filesystem | None = None) -> None:
        self.path = path
        self.schema = schema
        self.files = filesystem or Filesystem()
        self.set_aside: Path | None = None

    def load(self) -> dict[str, Any]:
        """The record, empty when there is none.

        A file that is not our JSON (a dying disk, another schema) is kept beside, not deleted, and the agent starts
        empty: a board that refuses to start cannot be repaired from afar.
        """
        try:
            data = json.loads(self.path.read_bytes())
            if isinstance(data, dict) and data.get("schema") == self.schema:
                return data
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            pass
        self.put_aside()
        return {}

    def put_aside(self) -> None:
        """Keep the file beside under another name, and start without one."""
        number = 0
        while (aside := self.path.with_name(f"{self.path.name}.unreadable-{number}")).exists():
            number += 1
        self.files.rename(self.path, aside)
        self.files.sync_folder(aside.parent)
        self.set_aside = aside

    def save(self, data: dict[str, Any]) -> None:
        """Replace the record; when this returns it is on the disk.

        Raises:
            StoreError: DISK_FULL; the record is as it was.
        """
        text = json.dumps({"schema": self.schema, **data}, sort_keys=True, indent=1)
        try:
            self.files.write_atomic(self.path, text.encode())
        except OSError as error:
            if error.errno in FULL:
                raise StoreError("DISK_FULL", f"{self.path.name} could not be written: {error.strerror}.") from None
            raise
