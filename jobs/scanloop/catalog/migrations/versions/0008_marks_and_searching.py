"""Tags and attributes of scans and annotations, and indexes for searching."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "marks",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", JSONB(), server_default=sa.text("'true'::jsonb"), nullable=False),
        sa.Column("is_set", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("subject IN ('scan', 'annotation')", name=op.f("ck_marks_subject")),
        sa.CheckConstraint("kind IN ('tag', 'attribute')", name=op.f("ck_marks_kind")),
        sa.PrimaryKeyConstraint("subject", "subject_id", "kind", "name", name=op.f("pk_marks")),
    )
    op.create_index("ix_marks_name", "marks", ["subject", "kind", "name", "subject_id"], postgresql_where=sa.text("is_set"))
    op.create_index("ix_scans_acquired_at", "scans", ["acquired_at"], postgresql_using="brin")
    op.create_index("ix_annotations_boxes", "annotations", ["boxes"], postgresql_using="gin", postgresql_ops={"boxes": "jsonb_path_ops"})


def downgrade() -> None:
    op.drop_index("ix_annotations_boxes", table_name="annotations")
    op.drop_index("ix_scans_acquired_at", table_name="scans")
    op.drop_table("marks")
