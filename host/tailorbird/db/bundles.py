"""The bundles and deployments tables."""

from __future__ import annotations

from sqlalchemy import select

from tailorbird.db.records import BundleRecord
from tailorbird.db.session import Sessions
from tailorbird.db.tables import BundleRow, DeploymentRow


class BundleTable:
    """Bundles packed on this host, and the devices they went to."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def put(self, sha256: str, model: str, device: str, folder: str, manifest: bytes) -> BundleRecord:
        """Remember a bundle; packing the same content again only moves its folder."""
        with self._sessions.begin() as session:
            row = session.get(BundleRow, sha256)
            if row is None:
                row = BundleRow(sha256=sha256, manifest=manifest, packed=self._sessions.now())
                session.add(row)
            row.model, row.device, row.folder = model, device, folder
            session.flush()
            return _record(row)

    def find(self, sha256: str) -> BundleRecord | None:
        """A bundle by its digest, or by the beginning of it when that is unambiguous."""
        with self._sessions.begin() as session:
            rows = session.scalars(
                select(BundleRow).where(BundleRow.sha256.startswith(sha256, autoescape=True)).limit(2)
            )
            found = list(rows)
            return _record(found[0]) if len(found) == 1 else None

    def of_model(self, model: str) -> tuple[BundleRecord, ...]:
        """Bundles of a model, newest first."""
        query = select(BundleRow).where(BundleRow.model == model).order_by(BundleRow.packed.desc(), BundleRow.sha256)
        with self._sessions.begin() as session:
            return tuple(_record(row) for row in session.scalars(query))

    def activated(self, sha256: str, device: str, generation: int) -> None:
        """A known bundle was activated on a device. Raises EnvironmentFaultError when the bundle is unknown."""
        with self._sessions.begin() as session:
            session.add(
                DeploymentRow(
                    device=device, bundle_sha256=sha256, generation=generation, activated=self._sessions.now()
                )
            )

    def on_device(self, device: str) -> tuple[BundleRecord, ...]:
        """Bundles that were activated on a device, the latest activation first."""
        query = (
            select(BundleRow)
            .join(DeploymentRow, DeploymentRow.bundle_sha256 == BundleRow.sha256)
            .where(DeploymentRow.device == device)
            .order_by(DeploymentRow.id.desc())
        )
        with self._sessions.begin() as session:
            latest = {row.sha256: row for row in session.scalars(query)}  # a dict keeps the place of the first
            return tuple(_record(row) for row in latest.values())


def _record(row: BundleRow) -> BundleRecord:
    return BundleRecord(row.sha256, row.model, row.device, row.folder, row.manifest, row.packed)
