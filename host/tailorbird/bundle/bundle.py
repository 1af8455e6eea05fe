"""Bundle: a manifest and its blobs, in memory and on disk.

On disk: <folder>/manifest.json, whose SHA-256 is the bundle's identity, and <folder>/blobs/<sha256>. The manifest is
written last: a folder with one is complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tailorbird.cache import sha256_of
from tailorbird.errors import BundleError, MissingFileError
from tailorbird.types import BlobRef, Manifest
from tailorbird.wire import manifest_from_bytes

_MANIFEST = "manifest.json"
_BLOBS = "blobs"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Manifest, its exact bytes, and every blob it names by SHA-256 (in memory or as a file)."""

    manifest: Manifest
    manifest_bytes: bytes
    blobs: Mapping[str, bytes | Path]

    @property
    def sha256(self) -> str:
        """The bundle's identity."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs, each counted once."""
        return sum(ref.size_bytes for ref in named_blobs(self.manifest).values())

    def verify(self) -> None:
        """Check that every blob is there and has the size and digest the manifest says. Raises BundleError."""
        for sha256, ref in named_blobs(self.manifest).items():
            content = self.blobs.get(sha256)
            if content is None or (isinstance(content, Path) and not content.is_file()):
                raise BundleError(
                    f"bundle {self.sha256[:12]} is incomplete",
                    why=f"blob {sha256[:12]} is missing",
                    fix="pack the bundle again",
                    reason="BLOB_MISSING",
                )
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            if size != ref.size_bytes or sha256_of(content) != sha256:
                raise BundleError(
                    f"bundle {self.sha256[:12]} is damaged",
                    why=f"the content of blob {sha256[:12]} does not have that digest",
                    fix="pack the bundle again",
                    reason="BLOB_CORRUPT",
                )

    def save(self, folder: Path) -> Bundle:
        """Write the bundle and return it as it lies on disk. Blobs already there are kept; the manifest comes last."""
        blobs = folder / _BLOBS
        blobs.mkdir(parents=True, exist_ok=True)
        saved: dict[str, bytes | Path] = {}
        for sha256, content in self.blobs.items():
            target = blobs / sha256
            if not target.is_file() or sha256_of(target) != sha256:
                _write(target, content if isinstance(content, bytes) else content.read_bytes())
            saved[sha256] = target
        _write(folder / _MANIFEST, self.manifest_bytes)
        return Bundle(self.manifest, self.manifest_bytes, saved)

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle; blobs stay on disk. Raises MissingFileError, BundleError when damaged or incomplete."""
        path = folder / _MANIFEST
        if not path.is_file():
            raise MissingFileError(
                f"there is no bundle in {folder}", why=f"{path} does not exist", fix="name the folder `compile` wrote"
            )
        data = path.read_bytes()
        manifest = manifest_from_bytes(data)
        blobs: dict[str, bytes | Path] = {sha256: folder / _BLOBS / sha256 for sha256 in named_blobs(manifest)}
        bundle = cls(manifest, data, blobs)
        bundle.verify()
        return bundle


def named_blobs(manifest: Manifest) -> dict[str, BlobRef]:
    """Every blob a manifest names, by digest. Raises BundleError for a digest that is none: it becomes a file name."""
    refs = [manifest.golden_inputs, *(library.blob for library in manifest.runtime_blobs)]
    for rung in manifest.rungs:
        refs += [rung.artifact.blob, *rung.artifact.parameters, rung.golden]
    for ref in refs:
        if len(ref.sha256) != 64 or set(ref.sha256) - set("0123456789abcdef"):
            raise BundleError("the bundle's manifest is damaged", why=f"{ref.sha256[:80]!r} is no SHA-256")
    return {ref.sha256: ref for ref in refs}


def _write(target: Path, content: bytes) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
