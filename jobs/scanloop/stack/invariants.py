"""What must hold whatever happened: checked by the demonstration at its end, and by the fault tests after every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.execution.anchors import audit_violations
from scanloop.execution.receipts import load_with_hash
from scanloop.execution.replay import row_violations
from scanloop.settings import Settings
from scanloop.store import Store, open_store


@dataclass(frozen=True)
class Check:
    """One invariant and what violates it."""

    letter: str
    """Its short name."""
    says: str
    """What must hold."""
    violations: list[str]
    """One sentence each; empty when it holds."""


def check_invariants(settings: Settings, catalog: Catalog, store: Store) -> list[Check]:
    """Check every invariant of the loop on what there is now."""
    with catalog.read() as connection:
        return [
            Check(
                "L",
                "nothing lost: what was delivered is catalogued or quarantined, and its bytes are kept",
                list(lost(connection, store, settings)),
            ),
            Check("T", "nothing twice: one row a content, one task a scan, one release a version", list(doubled(connection))),
            Check("R", "no false ready: nothing counts without its receipt", list(false_ready(connection, store))),
            Check(
                "A",
                "audit: the record is an unbroken chain, and the catalog is what it says",
                [*audit_violations(catalog, store), *row_violations(catalog, store)],
            ),
        ]


def lost(connection: sa.Connection, store: Store, settings: Settings) -> Iterator[str]:
    """Deliveries without a home, homes without bytes, and simulated scans that are nowhere."""
    scans = dict(connection.execute(sa.select(t.scans.c.scan_id, t.scans.c.raw_key)).tuples().all())
    held = dict(
        connection.execute(sa.select(t.quarantine.c.quarantine_id, t.quarantine.c.raw_key).where(t.quarantine.c.stage == "intake"))
        .tuples()
        .all()
    )
    reports = dict(connection.execute(sa.select(t.threat_reports.c.report_id, t.threat_reports.c.raw_key)).tuples().all())
    for row in connection.execute(sa.select(t.deliveries.c.landing_key, t.deliveries.c.content_sha256, t.deliveries.c.outcome)):
        if row.outcome != "sidecar" and not any(row.content_sha256 in homes for homes in (scans, held, reports)):
            yield f"{row.landing_key} was acknowledged and is neither catalogued nor quarantined."
    for sha256, raw_key in {**held, **scans, **reports}.items():
        if not store.verify(raw_key, sha256):
            yield f"The received bytes of {sha256[:12]} are not in the store as {raw_key}."
    landing = open_store(settings.landing_url)
    if next(iter(landing.list()), None) is None:
        for truth in open_store(settings.truth_url).list():
            sha256 = truth.key.removesuffix(".json")
            if sha256 not in scans and sha256 not in held:
                yield f"The delivered scan {sha256[:12]} is nowhere, and the landing zone is empty."


def doubled(connection: sa.Connection) -> Iterator[str]:
    """Things that are there more than once."""
    tasks = t.labelling_tasks.c
    groups = {
        "labelling task": (t.labelling_tasks, (tasks.product_line, tasks.scan_id, tasks.schema_version, tasks.round)),
        "label of one person": (t.annotations, (t.annotations.c.task_id, t.annotations.c.author)),
        "release version": (t.releases, (t.releases.c.product_line, t.releases.c.version)),
        "model of one run": (t.models, (t.models.c.run_id,)),
    }
    for noun, (table, columns) in groups.items():
        query = sa.select(*columns).where(*(column.is_not(None) for column in columns)).group_by(*columns).having(sa.func.count() > 1)
        for row in connection.execute(query.select_from(table)):
            yield f"There is more than one {noun} of {' / '.join(str(value)[:40] for value in row)}."


def false_ready(connection: sa.Connection, store: Store) -> Iterator[str]:
    """Rows that count although no receipt vouches for their run, and receipts that are not as the catalog says."""
    runs = connection.execute(sa.select(t.runs.c.run_id, t.runs.c.receipt_key, t.runs.c.receipt_sha256)).all()
    vouched = set()
    for run in runs:
        found = load_with_hash(store, run.receipt_key)
        if found is None or found[1] != run.receipt_sha256:
            yield f"The receipt {run.receipt_key} is not in the store as the catalog says."
            continue
        vouched.add(run.run_id)
        for output in found[0].outputs:
            if store.head(output["key"]) is None:
                yield f"{output['key']}, an output of {run.receipt_key}, is not in the store."
    for table in t.metadata.sorted_tables:
        if "run_id" in table.c and table.name not in ("runs", "run_links", "audit_log"):
            for run_id in connection.execute(sa.select(table.c.run_id).distinct()).scalars():
                if run_id not in vouched:
                    yield f"{table.name} holds rows of the run {run_id}, which has no receipt."
    for row in connection.execute(
        sa.select(t.champions.c.product_line, t.champions.c.model_id, t.decisions.c.verdict, t.decisions.c.candidate_id).join(
            t.decisions, t.decisions.c.decision_id == t.champions.c.decision_id
        )
    ):
        if row.verdict != "promote" or row.candidate_id != row.model_id:
            yield f"The champion of {row.product_line} was not promoted by its decision."
