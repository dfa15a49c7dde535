"""One index of scans by state, scanner, view and time in place of two: each costs every scan that is received."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_scans_state_machine", "scans", ["state", "scanner_id", "view_name", "acquired_at"], unique=False)
    op.drop_index("ix_scans_machine", table_name="scans")
    op.drop_index("ix_scans_state_scanner_id", table_name="scans")


def downgrade() -> None:
    op.create_index("ix_scans_state_scanner_id", "scans", ["state", "scanner_id"], unique=False)
    op.create_index("ix_scans_machine", "scans", ["scanner_id", "state", "view_name", "acquired_at"], unique=False)
    op.drop_index("ix_scans_state_machine", table_name="scans")
