"""One store per test, on SQLite and, where it is installed, on a private PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.db import Store


def _program(name: str) -> str | None:
    """A PostgreSQL server program; Debian keeps them out of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or (str(places[0]) if places else None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a database on a server of our own that listens on a Unix socket alone."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    account = pwd.getpwuid(os.getuid())
    as_owner: dict[str, int] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no postgres user")
        as_owner = {"user": account.pw_uid, "group": account.pw_gid}
    # Not below tmp_path: that is private to us, the server may be another user, and socket paths are short.
    folder = Path(tempfile.mkdtemp(prefix="tb-pg-", dir="/tmp"))
    os.chown(folder, account.pw_uid, account.pw_gid)

    def call(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **as_owner)
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    call(initdb, "-D", data, "-A", "trust", "-U", "tailorbird", "--no-sync", "-E", "UTF8")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c timezone=Asia/Tokyo"
    # The server inherits what it is given and keeps it: a pipe would never reach its end.
    started = subprocess.run(
        [pg_ctl, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_owner,
    )
    assert started.returncode == 0, (folder / "log").read_text()
    try:
        yield f"postgresql://tailorbird@/postgres?host={folder}"
    finally:
        call(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db")
    url = request.getfixturevalue("postgresql")
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(location: str, clock: Clock) -> Iterator[Store]:
    with Store(location, clock=clock) as opened:
        yield opened
