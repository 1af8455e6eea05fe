"""The tables of the host's state. Every change here comes with a migration (a test compares the two)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database: SQLite drops the zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Aware datetime -> UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Stored value -> aware UTC datetime."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables. Named constraints, so that migrations can change them on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        int: BigInteger().with_variant(Integer, "sqlite"),  # SQLite numbers rows by INTEGER keys alone
        dict[str, Any]: JSON,
        list[Any]: JSON,
        str: Text,
        float: Double,
        bytes: LargeBinary,
    }


class DeviceRow(Table):
    """A device the user named, and its card when it was last seen."""

    __tablename__ = "devices"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    address: Mapped[str]
    tags: Mapped[list[Any]]
    card: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    added: Mapped[datetime]
    last_seen: Mapped[datetime | None]


class MeasurementRow(Table):
    """Timings of one subject (a kernel, a subnet, a micro-benchmark) on one device. Rows are added, never changed."""

    __tablename__ = "measurements"
    __table_args__ = (Index(None, "device", "runtime", "subject_sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device: Mapped[str] = mapped_column(String(64))
    runtime: Mapped[str] = mapped_column(String(32))
    runtime_version: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str]
    subject_sha256: Mapped[str] = mapped_column(String(64))
    mode: Mapped[str] = mapped_column(String(32))
    threads: Mapped[int]
    context: Mapped[str]
    label: Mapped[str]
    wall_us: Mapped[list[Any]]
    cpu_us: Mapped[list[Any]]
    delay_us: Mapped[list[Any]]
    blocks: Mapped[list[Any]]
    verdict: Mapped[str] = mapped_column(String(32))
    verdict_reason: Mapped[str]
    error: Mapped[str]
    environment: Mapped[dict[str, Any]]
    value: Mapped[float | None]
    unit: Mapped[str] = mapped_column(String(32))
    measured: Mapped[datetime]


class DeviceClassRow(Table):
    """Boards that share their schedules' times (types.DeviceClass)."""

    __tablename__ = "device_classes"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    triple: Mapped[str]
    llvm_cpu: Mapped[str]
    threads: Mapped[int]
    cpu_model: Mapped[str]
    cores: Mapped[int]
    isa_features: Mapped[list[Any]]
    caches: Mapped[list[Any]]


class WorkloadRow(Table):
    """A kernel that has schedules (types.Workload)."""

    __tablename__ = "workloads"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    anchor: Mapped[str] = mapped_column(String(128), index=True)
    pattern: Mapped[str] = mapped_column(Text, index=True)
    shape: Mapped[list[Any]]
    flops: Mapped[float]
    name: Mapped[str]
    module: Mapped[str]
    compiler: Mapped[str] = mapped_column(String(64))


class ScheduleRow(Table):
    """One tuning trial: a schedule of a kernel and its time on a device, or why it failed. device: the board."""

    __tablename__ = "schedules"
    __table_args__ = (Index(None, "device", "workload"), Index(None, "device_class", "workload", "cpu_us"))

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device: Mapped[str] = mapped_column(String(64))
    device_class: Mapped[str] = mapped_column(String(128), ForeignKey("device_classes.name"))
    target: Mapped[str]
    workload: Mapped[str] = mapped_column(String(128))
    kernel_class: Mapped[str]
    extents: Mapped[list[Any]]
    sketch: Mapped[int]
    decisions: Mapped[str]
    trace: Mapped[str]
    cpu_us: Mapped[float | None]
    run_us: Mapped[list[Any]]
    verdict: Mapped[str] = mapped_column(String(32))
    error: Mapped[str]
    compiler: Mapped[str] = mapped_column(String(64))
    environment: Mapped[dict[str, Any]]
    batch: Mapped[str]
    source: Mapped[str] = mapped_column(String(16))
    recorded: Mapped[datetime]


class BundleRow(Table):
    """A bundle that was packed here, and where it lies."""

    __tablename__ = "bundles"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(255), index=True)
    device: Mapped[str] = mapped_column(String(64))
    folder: Mapped[str]
    manifest: Mapped[bytes]
    packed: Mapped[datetime]


class DeploymentRow(Table):
    """A bundle that was activated on a device."""

    __tablename__ = "deployments"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device: Mapped[str] = mapped_column(String(64), index=True)
    bundle_sha256: Mapped[str] = mapped_column(String(64), ForeignKey("bundles.sha256", ondelete="CASCADE"))
    generation: Mapped[int]
    activated: Mapped[datetime]


class LeaseRow(Table):
    """A lease this host holds, or held when its process died."""

    __tablename__ = "leases"

    lease_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    device: Mapped[str] = mapped_column(String(64), index=True)
    holder: Mapped[str]
    fencing_token: Mapped[int]
    expires: Mapped[datetime]


class StageRow(Table):
    """A pipeline stage whose result is in the stage cache."""

    __tablename__ = "stages"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    stage: Mapped[str] = mapped_column(String(64), index=True)
    folder: Mapped[str]
    seconds: Mapped[float]
    built: Mapped[datetime]
