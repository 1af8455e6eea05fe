"""Memory: results that were found once, in small files named by everything they were made from.

A file appears by rename and carries a checksum of its content: it is complete, or ignored and found again. Any number
of programs may share a folder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.cache import code_version
from tailorbird.errors import EnvironmentFaultError
from tailorbird.supernet.accuracy.identity import net_digest, task_identity
from tailorbird.supernet.task import Task

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


class Memory:
    """Results under one folder; `identity` is what all of them depend on. Without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        """Raises: EnvironmentFaultError when the folder cannot be made."""
        self._folder, self._identity = folder, dict(identity)
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFaultError(
                f"{folder} cannot hold a cache", why=str(error), fix="pass a folder that can be written as `cache`"
            ) from error

    @classmethod
    def of(cls, net: SuperNet, task: Task, folder: str | Path | None) -> Memory:
        """Of what a net's subnets do in a task; nothing is remembered of a task that cannot be told from others."""
        judged_by = task_identity(task)
        if folder is None or judged_by is None:
            return cls(None, {})
        made_with = {"code": code_version(), "torch": torch.__version__}
        return cls(Path(folder), {**made_with, "network": net_digest(net), "task": judged_by})

    @property
    def kept(self) -> bool:
        """Whether anything is remembered."""
        return self._folder is not None

    def find(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """An intact earlier answer."""
        if self._folder is None:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(self._path(question).read_bytes())
            answer: dict[str, Any] = record["answer"]
            if record["sha256"] == _checksum(answer):
                return answer
        return None

    def keep(self, question: Mapping[str, Any], answer: dict[str, Any]) -> None:
        """Remember an answer, of JSON values. A full or read-only disk costs the memory, never the work."""
        if self._folder is None:
            return
        path = self._path(question)
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            descriptor, partial = tempfile.mkstemp(prefix=".", dir=path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({"answer": answer, "sha256": _checksum(answer)}, file)
                Path(partial).replace(path)
            except OSError:
                Path(partial).unlink(missing_ok=True)
                raise

    def _path(self, question: Mapping[str, Any]) -> Path:
        assert self._folder is not None
        text = json.dumps([self._identity, dict(question)], sort_keys=True, allow_nan=False)
        key = hashlib.sha256(text.encode()).hexdigest()
        return self._folder / key[:2] / f"{key}.json"


def packed(values: bytes) -> str:
    """Bytes as text for JSON."""
    return base64.b64encode(values).decode()


def unpacked(text: str) -> bytes:
    """Inverse of packed. Raises: ValueError."""
    return base64.b64decode(text, validate=True)


def _checksum(answer: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()
