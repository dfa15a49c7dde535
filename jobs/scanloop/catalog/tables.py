"""Every table of the catalog. The nouns are those of the glossary in docs/architecture.md.

Rows are written by publications only. `run_id` names the run whose receipt vouches for the row; `created_at` is the database's clock and is
left out of comparisons between catalogs.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _table(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        *columns,
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def _text(name: str, *constraints: sa.schema.SchemaItem, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *constraints, nullable=null, server_default=default)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _json(name: str, default: str = "{}") -> sa.Column[object]:
    return sa.Column(name, JSONB, nullable=False, server_default=sa.text(f"'{default}'::jsonb"))


def _state(name: str, *values: str) -> tuple[sa.Column[str], sa.CheckConstraint]:
    allowed = ", ".join(f"'{value}'" for value in values)
    return sa.Column(name, sa.Text, nullable=False), sa.CheckConstraint(f"{name} IN ({allowed})", name=name)


sites = _table("sites", _key("site_id"), _text("name"))

scanners = _table(
    "scanners",
    _key("scanner_id"),
    _text("site_id", sa.ForeignKey("sites.site_id")),
    _text("manufacturer"),
    _text("model"),
    _text("serial"),
)

bags = _table("bags", _key("bag_id"), _text("site_id", sa.ForeignKey("sites.site_id")))

scans = _table(
    "scans",
    _key("scan_id"),
    _text("site_id", sa.ForeignKey("sites.site_id")),
    _text("scanner_id", sa.ForeignKey("scanners.scanner_id")),
    _text("bag_id", sa.ForeignKey("bags.bag_id")),
    _text("view_name"),
    _text("modality"),
    _text("source_format"),
    sa.Column("acquired_at", sa.DateTime(timezone=True)),
    _text("scan_type", default="operational"),
    sa.Column("is_projected", sa.Boolean, nullable=False, server_default=sa.false()),
    _text("raw_key"),
    _text("planes_key"),
    _json("planes", "[]"),
    _json("attributes"),
    _json("statistics"),
    _text("phash"),
    *_state("state", "received", "validated", "quarantined", "erased"),
    sa.Index("ix_scans_state_machine", "state", "scanner_id", "view_name", "acquired_at"),
    sa.Index("ix_scans_bag_id", "bag_id"),
    sa.Index("ix_scans_sop_instance_uid", sa.text("(attributes ->> 'sop_instance_uid')")),
    sa.Index("ix_scans_acquired_at", "acquired_at", postgresql_using="brin"),
)

marks = _table(
    "marks",
    sa.Column("subject", sa.Text, primary_key=True),
    _key("subject_id"),
    sa.Column("kind", sa.Text, primary_key=True),
    _key("name"),
    _json("value", "true"),
    sa.Column("is_set", sa.Boolean, nullable=False),
    sa.CheckConstraint("subject IN ('scan', 'annotation')", name="subject"),
    sa.CheckConstraint("kind IN ('tag', 'attribute')", name="kind"),
    sa.Index("ix_marks_name", "subject", "kind", "name", "subject_id", postgresql_where=sa.text("is_set")),
)
"""Tags and attributes that people gave to scans and annotations. One that was taken away stays, not set."""

quarantine = _table(
    "quarantine",
    _key("quarantine_id"),
    _text("raw_key"),
    _text("reason_code"),
    _text("reason"),
    _text("site_id", default=""),
    _text("landing_key"),
    *_state("stage", "intake", "validation"),
    *_state("state", "held", "released"),
    sa.Index("ix_quarantine_landing_key", "landing_key"),
)

deliveries = _table(
    "deliveries",
    _key("delivery_id"),
    _text("landing_key"),
    _text("site_id", default=""),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _text("content_sha256"),
    *_state("outcome", "scan", "duplicate", "quarantined", "sidecar", "report"),
    _text("scan_id", null=True),
    _text("quarantine_id", null=True),
    _text("report_id", null=True),
    sa.Index("ix_deliveries_content_sha256", "content_sha256"),
    sa.Index("ix_deliveries_landing_key", "landing_key"),
)

threat_reports = _table(
    "threat_reports",
    _key("report_id"),
    _text("raw_key"),
    _text("site_id"),
    _text("bag_id", default=""),
    _text("study_uid", default=""),
    _text("tdr_type"),
    _text("decision"),
    sa.Column("is_aborted", sa.Boolean, nullable=False),
    sa.Column("decided_at", sa.DateTime(timezone=True)),
    _json("attributes"),
    _json("threats", "[]"),
    _json("wanted", "[]"),
    _json("matches", "[]"),
    _text("problem", default=""),
    *_state("state", "waiting", "matched", "void"),
    sa.Index("ix_threat_reports_state", "state"),
    sa.Index("ix_threat_reports_bag_id", "bag_id"),
)

validation_results = _table(
    "validation_results",
    _key("validation_id"),
    _text("suite"),
    _text("scope"),
    sa.Column("success", sa.Boolean, nullable=False),
    _json("failed", "[]"),
    _text("docs_key", default=""),
    _json("counts"),
)
sa.Index("ix_validation_results_scope", validation_results.c.scope, validation_results.c.created_at)

scan_validations = _table(
    "scan_validations",
    _key("scan_id"),
    _key("validation_id"),
    sa.Column("success", sa.Boolean, nullable=False),
    _json("failed", "[]"),
)

taxonomies = _table("taxonomies", _key("taxonomy_version"), _json("categories", "[]"), _text("follows", null=True), _json("changes", "[]"))

taxonomy_mappings = _table(
    "taxonomy_mappings",
    _key("product_line"),
    _key("from_version"),
    _key("to_version"),
    sa.Column("is_active", sa.Boolean, nullable=False),
    _json("counts"),
)

product_lines = _table(
    "product_lines",
    _key("product_line"),
    _key("version"),
    _json("definition"),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Index("uq_product_lines_active", "product_line", unique=True, postgresql_where=sa.text("is_active")),
)

selections = _table(
    "selections",
    _key("selection_id"),
    _text("product_line"),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("budget", sa.Integer, nullable=False),
    _text("model_id", null=True),
    _json("parameters"),
    _json("counts"),
    sa.Index("ix_selections_product_line", "product_line"),
)

selection_items = _table(
    "selection_items",
    _key("selection_id"),
    _key("scan_id"),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("is_chosen", sa.Boolean, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    _json("scores"),
    _text("reason"),
    sa.Index("ix_selection_items_scan_id", "scan_id"),
)

labelling_tasks = _table(
    "labelling_tasks",
    _key("task_id"),
    _text("product_line"),
    _text("scan_id", sa.ForeignKey("scans.scan_id")),
    _text("bag_id"),
    _text("schema_version"),
    sa.Column("round", sa.Integer, nullable=False),
    _text("selection_id"),
    _text("external_id"),
    sa.Column("assignees", sa.Integer, nullable=False),
    *_state("state", "open", "submitted", "accepted", "returned", "escalated"),
    _json("attributes"),
    sa.UniqueConstraint("product_line", "scan_id", "schema_version", "round"),
    sa.Index("ix_labelling_tasks_product_line_state", "product_line", "state"),
)

annotations = _table(
    "annotations",
    _key("annotation_id"),
    _text("scan_id", sa.ForeignKey("scans.scan_id")),
    _text("product_line"),
    _text("task_id", null=True),
    _text("author"),
    *_state("author_kind", "person", "model", "consensus", "projection", "report"),
    _text("tool"),
    _text("taxonomy_version"),
    _json("looked_for", "[]"),
    _json("boxes", "[]"),
    sa.Column("time_spent_s", sa.Float),
    _text("supersedes", null=True),
    _text("report_id", null=True),
    sa.Index("ix_annotations_scan_id", "scan_id"),
    sa.Index("ix_annotations_report_id", "report_id"),
    sa.Index("ix_annotations_product_line_author_kind", "product_line", "author_kind"),
    sa.Index("ix_annotations_boxes", "boxes", postgresql_using="gin", postgresql_ops={"boxes": "jsonb_path_ops"}),
)

reviews = _table(
    "reviews",
    _key("review_id"),
    _text("task_id", sa.ForeignKey("labelling_tasks.task_id")),
    _text("product_line"),
    _text("scan_id"),
    *_state("verdict", "accepted", "returned", "escalated"),
    _text("reason"),
    sa.Column("agreement", sa.Float, nullable=False),
    _text("annotation_id", null=True),
    _json("details"),
    sa.UniqueConstraint("task_id"),
)

snapshots = _table(
    "snapshots",
    _key("snapshot_id"),
    _text("product_line"),
    _text("definition_version"),
    _text("parent_id", null=True),
    _text("root_key"),
    _json("counts"),
    *_state("state", "ready", "retired"),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.UniqueConstraint("product_line", "sequence"),
)

models = _table(
    "models",
    _key("model_id"),
    _text("product_line"),
    _text("snapshot_id", sa.ForeignKey("snapshots.snapshot_id")),
    _text("parent_model_id", null=True),
    _text("recipe"),
    _text("config_key"),
    _text("weights_key"),
    _text("tracking_id", null=True),
    _json("parameters"),
    _json("metrics"),
    *_state("state", "candidate", "champion", "retired", "rejected"),
    sa.Index("ix_models_product_line", "product_line"),
)

evaluations = _table(
    "evaluations",
    _key("evaluation_id"),
    _text("model_id", sa.ForeignKey("models.model_id")),
    _text("snapshot_id", sa.ForeignKey("snapshots.snapshot_id")),
    _text("product_line"),
    _text("results_key"),
    _text("outcomes_key"),
    _text("report_key"),
    _json("summary"),
    sa.UniqueConstraint("model_id", "snapshot_id"),
)

decisions = _table(
    "decisions",
    _key("decision_id"),
    _text("product_line"),
    _text("candidate_id", sa.ForeignKey("models.model_id")),
    _text("champion_id", null=True),
    _text("snapshot_id"),
    *_state("verdict", "promote", "reject", "insufficient_evidence"),
    sa.Column("needs_approval", sa.Boolean, nullable=False),
    _json("reasons", "[]"),
    _text("evidence_key"),
    _text("evidence_sha256"),
    _text("approver", null=True),
    sa.Index("ix_decisions_product_line", "product_line"),
)

champions = _table(
    "champions",
    _key("product_line"),
    _text("model_id", sa.ForeignKey("models.model_id")),
    _text("decision_id", sa.ForeignKey("decisions.decision_id")),
    sa.Column("sequence", sa.Integer, nullable=False),
)

champion_history = _table(
    "champion_history",
    _key("product_line"),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    _text("model_id", sa.ForeignKey("models.model_id")),
    _text("decision_id", sa.ForeignKey("decisions.decision_id")),
)

releases = _table(
    "releases",
    _key("release_id"),
    _text("product_line"),
    sa.Column("version", sa.Integer, nullable=False),
    _text("model_id", sa.ForeignKey("models.model_id")),
    _text("bundle_key"),
    _text("bundle_sha256"),
    _text("channel"),
    *_state("state", "requested", "released", "refused"),
    _text("target_path", null=True),
    _text("reason", null=True),
    _json("attributes"),
    sa.UniqueConstraint("product_line", "version"),
)

devices = _table(
    "devices",
    _key("device_id"),
    _text("site_id"),
    _json("product_lines", "[]"),
    _text("channel"),
    _text("public_key"),
    *_state("state", "enrolled", "revoked"),
)

device_reports = _table(
    "device_reports",
    _key("report_id"),
    _text("device_id", sa.ForeignKey("devices.device_id")),
    sa.Column("release_version", sa.Integer),
    _text("model_id", null=True),
    _json("status"),
)

runs = sa.Table(
    "runs",
    metadata,
    _key("run_id"),
    _key("job"),
    _key("part"),
    _text("product_line", null=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    *_state("state", "done"),
    _text("receipt_key"),
    _text("receipt_sha256"),
    _json("result"),
    sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

run_links = sa.Table("run_links", metadata, _key("run_id"), _key("consumed_run_id"))

leases = sa.Table(
    "leases",
    metadata,
    _key("resource"),
    _text("holder"),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
)

job_ends = sa.Table(
    "job_ends",
    metadata,
    _key("run_id"),
    _key("job"),
    _key("part"),
    _key("end_id"),
    sa.Column("attempt", sa.Integer, nullable=False),
    _text("cause"),
    sa.Column("exit_code", sa.Integer),
    _text("message"),
    sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

tracked = sa.Table(
    "tracked",
    metadata,
    _key("kind"),
    _key("subject_id"),
    _text("product_line"),
    *_state("state", "told", "refused", "aborted"),
    _text("digest", default=""),
    _text("external_id", null=True),
    _text("offline_id", null=True),
    _text("url", null=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    _text("message", default=""),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Index("ix_tracked_product_line", "product_line"),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    _text("actor"),
    _text("action"),
    _text("subject_kind"),
    _text("subject_id"),
    _text("run_id"),
    _json("details"),
    _text("previous_hash"),
    _text("hash"),
    sa.Index("ix_audit_log_subject_id", "subject_id"),
    sa.Index("ix_audit_log_run_id", "run_id"),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("one", sa.Boolean, sa.CheckConstraint("one", name="one"), primary_key=True, server_default=sa.true()),
    sa.Column("seq", sa.BigInteger, nullable=False),
    _text("hash"),
)

APPEND_ONLY = ("annotations", "audit_log", "champion_history", "reviews", "validation_results", "scan_validations")
"""Tables whose rows a trigger keeps from being changed or deleted."""
