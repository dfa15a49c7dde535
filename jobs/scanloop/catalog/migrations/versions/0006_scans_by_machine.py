"""A machine's scans by view and time, and validation results by what they are about: each machine is compared with its own history."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_scans_machine", "scans", ["scanner_id", "state", "view_name", "acquired_at"], unique=False)
    op.create_index("ix_validation_results_scope", "validation_results", ["scope", "created_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_validation_results_scope", table_name="validation_results")
    op.drop_index("ix_scans_machine", table_name="scans")
