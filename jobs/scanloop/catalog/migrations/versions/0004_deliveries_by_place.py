"""Deliveries and quarantine by landing key: a sidecar looks for its picture, and a picture for its sidecar."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_deliveries_landing_key", "deliveries", ["landing_key"], unique=False)
    op.create_index("ix_quarantine_landing_key", "quarantine", ["landing_key"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_quarantine_landing_key", table_name="quarantine")
    op.drop_index("ix_deliveries_landing_key", table_name="deliveries")
