"""Measurements know the context they hold in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was measured before belongs to no context that comes back."""
    with op.batch_alter_table("measurements") as table:
        table.add_column(sa.Column("context", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("measurements") as table:
        table.alter_column("context", server_default=None)
