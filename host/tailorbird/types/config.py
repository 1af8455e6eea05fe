"""Config: one choice for every elastic dimension of a SuperNet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """A subnet, as choices that differ from the full network.

    sizes: sorted ((dimension name, kept size), ...), e.g. (("layer2.0.conv1", 16),);
    skipped: sorted names of bypassed residual blocks. The empty Config is the full network.
    SearchSpace.canonical() drops what has no effect, so equal subnets compare and hash equal.
    """

    sizes: tuple[tuple[str, int], ...] = ()
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(cls, sizes: Mapping[str, int] | None = None, skipped: tuple[str, ...] | list[str] = ()) -> Config:
        """Build from a mapping and a collection, in canonical (sorted) order."""
        return cls(tuple(sorted((sizes or {}).items())), tuple(sorted(set(skipped))))

    @property
    def is_full(self) -> bool:
        """Whether this is the user's own network."""
        return not self.sizes and not self.skipped

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(
            {"sizes": dict(self.sizes), "skipped": list(self.skipped)}, sort_keys=True, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Inverse of to_json. Raises ValueError when the text is no configuration."""
        data = json.loads(text)
        if not isinstance(data, dict) or set(data) - {"sizes", "skipped"}:
            raise ValueError(f"not a configuration: {text[:80]!r}")
        return cls.of(
            {str(k): int(v) for k, v in data.get("sizes", {}).items()}, [str(s) for s in data.get("skipped", [])]
        )

    @property
    def key(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]
