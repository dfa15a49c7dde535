"""Threat Detection Reports: what they say, which scans they speak about, and the annotations that follow from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "threat_reports",
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("raw_key", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("bag_id", sa.Text(), server_default="", nullable=False),
        sa.Column("study_uid", sa.Text(), server_default="", nullable=False),
        sa.Column("tdr_type", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("is_aborted", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attributes", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("threats", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("wanted", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("matches", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'matched', 'void')", name=op.f("ck_threat_reports_state")),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_threat_reports")),
    )
    op.create_index("ix_threat_reports_state", "threat_reports", ["state"], unique=False)
    op.create_index("ix_threat_reports_bag_id", "threat_reports", ["bag_id"], unique=False)
    op.create_index("ix_scans_sop_instance_uid", "scans", [sa.text("(attributes ->> 'sop_instance_uid')")], unique=False)
    op.add_column("annotations", sa.Column("report_id", sa.Text(), nullable=True))
    op.create_index("ix_annotations_report_id", "annotations", ["report_id"], unique=False)
    op.add_column("deliveries", sa.Column("report_id", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_deliveries_outcome"), "deliveries", type_="check")
    op.create_check_constraint(
        op.f("ck_deliveries_outcome"), "deliveries", "outcome IN ('scan', 'duplicate', 'quarantined', 'sidecar', 'report')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_deliveries_outcome"), "deliveries", type_="check")
    op.create_check_constraint(op.f("ck_deliveries_outcome"), "deliveries", "outcome IN ('scan', 'duplicate', 'quarantined', 'sidecar')")
    op.drop_column("deliveries", "report_id")
    op.drop_index("ix_annotations_report_id", table_name="annotations")
    op.drop_column("annotations", "report_id")
    op.drop_index("ix_scans_sop_instance_uid", table_name="scans")
    op.drop_table("threat_reports")
