"""What the agent must remember over a restart: deployments and the highest fencing token ever granted."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tailorbird_agent.deploy.machine import Deployment, Phase
from tailorbird_agent.store.filesystem import Filesystem
from tailorbird_agent.store.records import Record

SCHEMA = "tailorbird.agent-state/1"


class Ledger:
    """The record in memory and on disk. Changes are on disk before they are seen in memory; callable from threads."""

    def __init__(self, root: Path, filesystem: Filesystem | None = None) -> None:
        self._record = Record(root / "state.json", SCHEMA, filesystem)
        self._lock = threading.Lock()
        data = self._record.load()
        try:
            self._deployments = {row["model"]: _deployment(row) for row in data.get("deployments", ())}
            self._token = int(data.get("fencing_token", 0))
        except (KeyError, TypeError, ValueError):  # JSON still, but damaged
            self._record.put_aside()
            self._deployments = {}
        if self._record.set_aside:
            # The count is lost; the clock is far above any number of leases one device can have granted.
            self._token = int(time.time())

    @property
    def set_aside(self) -> Path | None:
        """Where an unreadable record was moved at start, None when all was well."""
        return self._record.set_aside

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """Every model this device knows."""
        return MappingProxyType(self._deployments)

    def get(self, model: str) -> Deployment:
        """A model's deployment, ABSENT when it is new."""
        return self._deployments.get(model) or Deployment(model)

    def put(self, deployment: Deployment) -> None:
        """Record a deployment durably."""
        with self._lock:
            changed = {**self._deployments, deployment.model: deployment}
            self._save(changed, self._token)
            self._deployments = changed

    def next_fencing_token(self) -> int:
        """A token above every one before it, recorded before anybody sees it."""
        with self._lock:
            self._save(self._deployments, self._token + 1)
            self._token += 1
            return self._token

    def _save(self, deployments: Mapping[str, Deployment], token: int) -> None:
        rows = [asdict(deployment) for _, deployment in sorted(deployments.items())]
        self._record.save({"fencing_token": token, "deployments": rows})


def _deployment(row: Mapping[str, Any]) -> Deployment:
    return Deployment(**{**row, "phase": Phase(row["phase"])})
