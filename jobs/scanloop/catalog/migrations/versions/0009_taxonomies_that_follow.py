"""What became of categories from one version of the taxonomy to the next, and which older annotations count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("taxonomies", sa.Column("follows", sa.Text(), nullable=True))
    op.add_column("taxonomies", sa.Column("changes", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.create_table(
        "taxonomy_mappings",
        sa.Column("product_line", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Text(), nullable=False),
        sa.Column("to_version", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("counts", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("product_line", "from_version", "to_version", name=op.f("pk_taxonomy_mappings")),
    )


def downgrade() -> None:
    op.drop_table("taxonomy_mappings")
    op.drop_column("taxonomies", "changes")
    op.drop_column("taxonomies", "follows")
