"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "devices",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=True),
        sa.Column("added", _TIME, nullable=False),
        sa.Column("last_seen", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_devices"),
    )
    op.create_table(
        "measurements",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("runtime", sa.String(32), nullable=False),
        sa.Column("runtime_version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_sha256", sa.String(64), nullable=False),
        sa.Column("mode", sa.String(32), nullable=False),
        sa.Column("threads", _ROW_ID, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("wall_us", sa.JSON(), nullable=False),
        sa.Column("cpu_us", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("verdict_reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("measured", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
    )
    op.create_index(
        "ix_measurements_device_runtime_subject_sha256", "measurements", ["device", "runtime", "subject_sha256"]
    )
    op.create_table(
        "schedules",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("workload", sa.String(128), nullable=False),
        sa.Column("kernel_class", sa.Text(), nullable=False),
        sa.Column("extents", sa.JSON(), nullable=False),
        sa.Column("sketch", _ROW_ID, nullable=False),
        sa.Column("decisions", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("cpu_us", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("compiler", sa.String(64), nullable=False),
        sa.Column("recorded", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
    )
    op.create_index("ix_schedules_device_workload", "schedules", ["device", "workload"])
    op.create_table(
        "bundles",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("packed", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_bundles"),
    )
    op.create_index("ix_bundles_model", "bundles", ["model"])
    op.create_table(
        "deployments",
        sa.Column("id", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("bundle_sha256", sa.String(64), nullable=False),
        sa.Column("generation", _ROW_ID, nullable=False),
        sa.Column("activated", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["bundle_sha256"], ["bundles.sha256"], name="fk_deployments_bundle_sha256_bundles", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deployments"),
    )
    op.create_index("ix_deployments_device", "deployments", ["device"])
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fencing_token", _ROW_ID, nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("lease_id", name="pk_leases"),
    )
    op.create_index("ix_leases_device", "leases", ["device"])
    op.create_table(
        "stages",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("built", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_stages"),
    )
    op.create_index("ix_stages_stage", "stages", ["stage"])


def downgrade() -> None:
    """Drop every table."""
    for table in ("stages", "leases", "deployments", "bundles", "schedules", "measurements", "devices"):
        op.drop_table(table)
