"""Schedules belong to device classes, kernels are known by more than their hash, and records keep all run times."""

import sqlalchemy as sa
from alembic import op

from tailorbird.types.schedule import DeviceClass

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ADDED = (
    ("device_class", sa.String(128), ""),
    ("run_us", sa.JSON(), "[]"),
    ("environment", sa.JSON(), "{}"),
    ("batch", sa.Text(), ""),
    ("source", sa.String(16), "search"),
)


def upgrade() -> None:
    """Add the tables and columns. Records made before are given the class that their target names."""
    classes = op.create_table(
        "device_classes",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("triple", sa.Text(), nullable=False),
        sa.Column("llvm_cpu", sa.Text(), nullable=False),
        sa.Column("threads", _INTEGER, nullable=False),
        sa.Column("cpu_model", sa.Text(), nullable=False),
        sa.Column("cores", _INTEGER, nullable=False),
        sa.Column("isa_features", sa.JSON(), nullable=False),
        sa.Column("caches", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_device_classes"),
    )
    op.create_table(
        "workloads",
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("anchor", sa.String(128), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        sa.Column("flops", sa.Double(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("compiler", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_workloads"),
    )
    op.create_index("ix_workloads_anchor", "workloads", ["anchor"])
    op.create_index("ix_workloads_pattern", "workloads", ["pattern"])
    with op.batch_alter_table("schedules") as table:
        for name, kind, default in _ADDED:
            table.add_column(sa.Column(name, kind, nullable=False, server_default=default))
    _classify(classes)
    with op.batch_alter_table("schedules") as table:
        for name, _, _ in _ADDED:
            table.alter_column(name, server_default=None)
        table.create_foreign_key(
            "fk_schedules_device_class_device_classes", "device_classes", ["device_class"], ["name"]
        )
        table.create_index("ix_schedules_device_class_workload_cpu_us", ["device_class", "workload", "cpu_us"])


def _classify(classes: sa.Table) -> None:
    connection = op.get_bind()
    known: set[str] = set()
    for (target,) in connection.execute(sa.text("SELECT DISTINCT target FROM schedules")).all():
        boards = DeviceClass.from_target(target)
        if boards.name not in known:
            known.add(boards.name)
            row: dict[str, object] = {"name": boards.name, "triple": boards.triple, "llvm_cpu": boards.llvm_cpu}
            row |= {"threads": boards.threads, "cpu_model": "", "cores": 0, "isa_features": [], "caches": [0, 0, 0]}
            connection.execute(classes.insert(), [row])
        statement = sa.text("UPDATE schedules SET device_class = :name WHERE target = :target")
        connection.execute(statement, {"name": boards.name, "target": target})
