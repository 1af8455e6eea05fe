"""Artifact folders: the documents in them, and the cache's record of how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from tailorbird.cache import StageResult
from tailorbird.document import DocumentError, parse_document
from tailorbird.errors import MissingFileError, UsageError

T = TypeVar("T")


def read_document(folder: Path, name: str, kind: type[T], schema: str, *, made_by: str) -> T:
    """A JSON document of an artifact.

    Raises:
        MissingFileError: the folder does not hold it.
        UsageError: it is damaged or of another schema.
    """
    path = folder / name
    if not path.is_file():
        raise MissingFileError(
            f"there is no {name} in {folder}",
            why="it is not an artifact of the stage before",
            fix=f"run `{made_by}` first",
        )
    try:
        return parse_document(kind, path.read_text(encoding="utf-8"), schema=schema)
    except (DocumentError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", why=str(error), fix=f"run `{made_by}` again") from error


def stage_result(folder: Path) -> StageResult:
    """The cache's own record of an artifact folder.

    Raises:
        UsageError: there is none.
    """
    try:
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        return StageResult(record["stage"], record["key"], folder, hit=True, seconds=float(record["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is not an artifact", why=f"stage.json: {error}", fix="give a folder that a stage command printed"
        ) from error
