"""The leases table: what this host holds on devices."""

from __future__ import annotations

from sqlalchemy import select

from tailorbird.db.session import Sessions
from tailorbird.db.tables import LeaseRow
from tailorbird.types import LeaseGrant


class LeaseTable:
    """Leases held. One left behind by a killed program shows here until it expires on the device."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def lease_taken(self, device: str, grant: LeaseGrant) -> None:
        """A lease was granted or extended."""
        with self._sessions.begin() as session:
            row = session.get(LeaseRow, grant.lease_id)
            if row is None:
                row = LeaseRow(lease_id=grant.lease_id)
                session.add(row)
            row.device, row.holder = device, grant.holder
            row.fencing_token, row.expires = grant.fencing_token, grant.expires

    def lease_released(self, lease_id: str) -> None:
        """A lease ended; an unknown one is no error."""
        with self._sessions.begin() as session:
            row = session.get(LeaseRow, lease_id)
            if row is not None:
                session.delete(row)

    def held(self) -> tuple[tuple[str, LeaseGrant], ...]:
        """(device, lease) for every lease that has not expired, by device."""
        query = (
            select(LeaseRow).where(LeaseRow.expires > self._sessions.now()).order_by(LeaseRow.device, LeaseRow.lease_id)
        )
        with self._sessions.begin() as session:
            return tuple(
                (row.device, LeaseGrant(row.lease_id, row.holder, row.fencing_token, row.expires))
                for row in session.scalars(query)
            )
