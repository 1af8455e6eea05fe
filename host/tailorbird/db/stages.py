"""The stages table: an index of the stage cache."""

from __future__ import annotations

from sqlalchemy import select

from tailorbird.db.records import StageRecord
from tailorbird.db.session import Sessions
from tailorbird.db.tables import StageRow


class StageTable:
    """Cached stage results by key."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def stage_built(self, key: str, stage: str, folder: str, seconds: float) -> None:
        """A stage result was put in the cache."""
        with self._sessions.begin() as session:
            session.merge(StageRow(key=key, stage=stage, folder=folder, seconds=seconds, built=self._sessions.now()))

    def newest(self, stage: str) -> StageRecord | None:
        """The latest result of a stage."""
        query = select(StageRow).where(StageRow.stage == stage).order_by(StageRow.built.desc(), StageRow.key).limit(1)
        with self._sessions.begin() as session:
            row = session.scalars(query).first()
            return None if row is None else StageRecord(row.key, row.stage, row.folder, row.seconds, row.built)
