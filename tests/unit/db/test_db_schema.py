"""Opening, migrating and refusing databases."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from tailorbird.db import MeasurementKey, Store
from tailorbird.db.engine import HEAD, parse_url
from tailorbird.db.tables import Table
from tailorbird.errors import EnvironmentFaultError


def test_the_migrations_make_exactly_the_tables(location: str):
    Store(location).close()
    engine = create_engine(parse_url(location))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


def test_the_newest_revision_is_the_one_the_code_expects():
    config = Config()
    config.set_main_option("script_location", str(Path(sys.modules["tailorbird.db"].__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_what_was_stored_is_there_when_opened_again(location: str):
    with Store(location) as store:
        store.devices.put("a", "unix:/a")
    with Store(location) as store:
        assert store.devices.find("a") is not None


def test_a_database_of_a_newer_release_is_left_alone(location: str):
    Store(location).close()
    engine = create_engine(parse_url(location))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(EnvironmentFaultError, match="newer Tailorbird"):
        Store(location)


def test_programs_that_start_together_migrate_once(location: str):
    program = f"from tailorbird.db import Store; Store({location!r}).close()"
    children = [subprocess.Popen([sys.executable, "-W", "error", "-c", program]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]


@pytest.mark.parametrize("bad", ["mysql://root@localhost/x", "postgresql://nobody@/x?host=/nonexistent", "://"])
def test_a_database_that_cannot_be_opened_is_explained(bad: str):
    with pytest.raises(EnvironmentFaultError) as caught:
        Store(bad)
    assert caught.value.fix
    assert caught.value.why


def test_a_damaged_file_is_explained(tmp_path: Path):
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(EnvironmentFaultError, match="cannot open the database"):
        Store(path)


def test_an_up_to_date_store_opens_without_the_migration_machinery(tmp_path: Path):
    Store(tmp_path / "s.db").close()
    program = f"""
import sys
from dataclasses import replace
from tailorbird.db import MeasurementKey, Store
Store({str(tmp_path / "s.db")!r}).close()
assert "alembic" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_password_is_never_shown():
    with pytest.raises(EnvironmentFaultError) as caught:
        Store("postgresql://me:hunter2@/x?host=/nonexistent")
    assert "hunter2" not in str(caught.value)


def test_measurements_of_the_first_schema_are_kept_without_a_context(tmp_path: Path):
    location = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", str(Path(sys.modules["tailorbird.db"].__file__).parent / "migrations"))
    engine = create_engine(parse_url(location))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        fields = {"device": "a", "runtime": "r", "runtime_version": "1", "kind": "kernel", "subject": "s", "mode": "m"}
        fields |= {"subject_sha256": hashlib.sha256(b"s").hexdigest(), "threads": 1, "label": "", "wall_us": "[2.0]"}
        fields |= {"cpu_us": "[1.0]", "verdict": "ok", "verdict_reason": "", "error": "", "environment": "{}"}
        fields |= {"unit": "", "measured": "2026-01-01 00:00:00"}
        names = ", ".join(fields)
        connection.execute(text(f"INSERT INTO measurements ({names}) VALUES (:{', :'.join(fields)})"), fields)
    engine.dispose()
    key = MeasurementKey("a", "r", "1", "kernel", "s", "m")
    with Store(location) as store:
        found = store.measurements.find(key)
        assert found is not None
        assert found.cpu_us == (1.0,)
        assert store.measurements.find(replace(key, context="kernel=7")) is None
