"""Transactions on the store's database, and its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tailorbird.errors import EnvironmentFaultError


class Sessions:
    """Makes one transaction per store call."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self.now = clock

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction: committed on leaving, rolled back on an error. Raises EnvironmentFaultError."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except SQLAlchemyError as cause:
            raise EnvironmentFaultError(
                "the database did not take or give the data",
                why=str(getattr(cause, "orig", None) or cause).strip(),
                fix=f"check that {self._engine.url.render_as_string()} is reachable, writable and has space",
                reason="DATABASE",
            ) from cause
