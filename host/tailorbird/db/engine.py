"""Opening a database and bringing its schema up to date."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tailorbird.errors import EnvironmentFaultError

#: Newest revision in migrations/versions. Kept here so that opening an up-to-date store does not import alembic.
HEAD = "0004"

#: Any number, as long as every Tailorbird uses the same: serialises migrations on one PostgreSQL database.
_ADVISORY_LOCK = 0x7A110B12D


def parse_url(location: str | Path) -> URL:
    """A path is a SQLite file; anything with "://" is an SQLAlchemy URL; PostgreSQL is spoken through psycopg.

    Raises EnvironmentFaultError when the URL cannot be read or names another kind of database.
    """
    name = str(location)
    if "://" not in name:
        return URL.create("sqlite", database=str(Path(name).expanduser().absolute()))
    try:
        url = make_url(name)
    except ArgumentError as cause:
        raise _fault(f"the database URL {name!r} cannot be read", str(cause)) from cause
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url
    raise _fault(f"{url.get_backend_name()} databases are not supported", "the schema is tested on two databases")


def _fault(what: str, why: str) -> EnvironmentFaultError:
    fix = "use a file path, sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    return EnvironmentFaultError(what, why=why, fix=fix, reason="DATABASE")


def open_engine(location: str | Path) -> Engine:
    """An engine on a migrated database. Raises EnvironmentFaultError when it cannot be opened."""
    url = parse_url(location)
    try:
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url)
        if url.get_backend_name() == "sqlite":
            event.listen(engine, "connect", _configure_sqlite)
        try:
            _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
    except (SQLAlchemyError, OSError, ImportError) as cause:
        why = str(getattr(cause, "orig", None) or cause).strip()
        raise _fault(f"cannot open the database {url.render_as_string()}", why) from cause
    return engine


def _configure_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    # WAL: readers do not wait for the writer; NORMAL is durable against a killed process, which is what happens.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    with _one_at_a_time(engine), engine.begin() as connection:
        revision = _revision(connection)
        if revision == HEAD:
            return
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if revision is not None and revision not in known:
            raise EnvironmentFaultError(
                "the database was written by a newer Tailorbird",
                why=f"its schema is revision {revision}, this release knows {HEAD}",
                fix="update Tailorbird, or choose another database",
                reason="DATABASE",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Two programs that start together must not migrate together."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
                connection.commit()
        return
    database = engine.url.database
    if not database or database == ":memory:":
        yield
        return
    descriptor = os.open(f"{database}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
