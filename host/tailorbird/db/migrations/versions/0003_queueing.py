"""Measurements keep how long their threads waited for a CPU, and which samples were taken in one go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of earlier measurements neither is known."""
    for name in ("delay_us", "blocks"):
        with op.batch_alter_table("measurements") as table:
            table.add_column(sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
        with op.batch_alter_table("measurements") as table:
            table.alter_column(name, server_default=None)
