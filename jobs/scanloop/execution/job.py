"""One job run, from its arguments to its receipt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop import __version__
from scanloop.catalog import Catalog, audit
from scanloop.catalog.tables import audit_log, run_links, runs
from scanloop.errors import DataWrong, ObjectConflict, ObjectCorrupt, Superseded, WrongArguments
from scanloop.execution import leases
from scanloop.execution.publication import Publication, apply
from scanloop.execution.receipts import Receipt, encode, folder_name, load_with_hash, receipt_key
from scanloop.execution.workdir import private_workdir
from scanloop.product_lines import ProductLine
from scanloop.settings import Settings
from scanloop.steps import step
from scanloop.store import Store, StoredObject

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is."""

    run_id: str
    """One string per DAG run, or one a person gives."""
    job: str
    """Name of the job, `room.verb`."""
    part: str = ""
    """Which part of a job that was split."""
    attempt: int = 1
    """Counts from 1."""
    actor: str = "unknown"
    """Who asked."""
    product_line: str | None = None
    """Key of the run."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The job's arguments, for the record."""
    consumed: tuple[str, ...] = ()
    """Runs whose results started this one."""


@dataclass
class JobRun:
    """What a job's body is given, and where it says what it read, wrote and wants changed."""

    settings: Settings
    store: Store
    catalog: Catalog
    identity: RunIdentity
    workdir: Path
    """Private scratch of this run, job and part; kept between attempts on one machine, removed after success."""
    lease: leases.Lease | None = None
    _definition: ProductLine | None = None
    publication: Publication = field(default_factory=Publication)
    """Changes for the catalog."""
    inputs: list[dict[str, str]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def definition(self) -> ProductLine:
        """The active definition of this run's product line."""
        if self._definition is None:
            raise RuntimeError(f"{self.identity.job} is not keyed by a product line")
        return self._definition

    def add_input(self, kind: str, subject_id: str) -> None:
        """Name something that was read: it goes into the receipt."""
        self.inputs.append({"kind": kind, "id": subject_id})

    def add_output(self, stored: StoredObject) -> None:
        """Name an object that was written: it goes into the receipt with its hash."""
        self.outputs.append({"key": stored.key, "sha256": stored.sha256, "size_bytes": stored.size_bytes})


def execute(
    body: Callable[[JobRun], dict[str, Any]],
    identity: RunIdentity,
    *,
    settings: Settings,
    store: Store,
    catalog: Catalog,
    definition: ProductLine | None = None,
    lease: str | None = None,
) -> dict[str, Any]:
    """Run `body` once, however often this is called for the same run, job and part.

    Order: body, publication document, fence, receipt (the commit point), catalog. A call that finds the receipt only brings the catalog level.

    Raises:
        LeaseHeld: another run holds `lease`.
        Superseded: the receipt was written, but another run changed the catalog first; nothing of this run counts.
        WrongArguments: the run did this job for another product line.
        ScanloopError: whatever the body raises.
    """
    key = receipt_key(identity.run_id, identity.job, identity.part)
    held = leases.acquire(catalog, lease, f"{identity.run_id}/{identity.job}") if lease else None
    try:
        found = load_with_hash(store, key)
        is_earlier = found is not None
        if found is None:
            name = f"{identity.job}.{folder_name(identity.part)}" if identity.part else identity.job
            with private_workdir(settings.work / folder_name(identity.run_id) / name) as workdir:
                run = JobRun(settings, store, catalog, identity, workdir, held, definition)
                result = body(run)
                found = _write_receipt(run, key, result)
        else:
            log.info("%s of %s already has its receipt.", identity.job, identity.run_id)
        receipt, digest = found
        if receipt.product_line != identity.product_line:
            raise WrongArguments(
                f"The run {identity.run_id} did {identity.job} for {receipt.product_line} already, not for {identity.product_line}. Name another run."
            )
        _publish(catalog, store, receipt, key, digest, held, is_earlier=is_earlier)
        return receipt.result
    finally:
        if held is not None:
            held.release()


def _write_receipt(run: JobRun, key: str, result: dict[str, Any]) -> tuple[Receipt, str]:
    identity = run.identity
    step("execution.before_publication")
    run.store.flush()
    document = run.store.put_content(f"publications/{folder_name(identity.run_id)}/{identity.job}", run.publication.encode(), ".jsonl.zst")
    step("execution.after_publication")
    with run.catalog.begin() as connection:
        if run.lease is not None:
            run.lease.check(connection)
        seq, head = audit.head(connection)
    receipt = Receipt(
        run_id=identity.run_id,
        job=identity.job,
        part=identity.part,
        attempt=identity.attempt,
        actor=identity.actor,
        product_line=identity.product_line,
        fence=run.lease.fence if run.lease else None,
        arguments=identity.arguments,
        consumed=list(identity.consumed),
        inputs=run.inputs,
        outputs=run.outputs,
        publication={"key": document.key, "sha256": str(document.sha256)},
        result=result,
        audit_head={"seq": seq, "hash": head},
        scanloop_version=__version__,
        finished_at=datetime.now(UTC).isoformat(),
    )
    try:
        run.store.put_if_absent(key, encode(receipt), owner=uuid4().hex)
    except ObjectConflict:
        log.warning("Another attempt of %s wrote the receipt first; its result counts.", identity.job)
    step("execution.after_receipt")
    written = load_with_hash(run.store, key)
    if written is None:
        raise ObjectCorrupt(f"The receipt {run.store.uri(key)} was written and cannot be read. Run again.")
    return written


def _publish(
    catalog: Catalog, store: Store, receipt: Receipt, key: str, digest: str, lease: leases.Lease | None, *, is_earlier: bool
) -> None:
    """Bring the catalog level with one receipt, once; where another run came first, log that this one does not count.

    `is_earlier` says that an earlier attempt wrote the receipt: others may have had the lease since.
    """
    try:
        if is_earlier:
            _check_outputs(catalog, store, receipt)
        _apply_receipt(catalog, store, receipt, key, digest, lease)
    except Superseded as superseded:
        _log_superseded(catalog, receipt, key, digest, superseded.message)
        raise


def _subject(receipt: Receipt) -> str:
    return f"{receipt.run_id}/{receipt.job}"


def _log_superseded(catalog: Catalog, receipt: Receipt, key: str, digest: str, reason: str) -> None:
    """One audit entry for a receipt whose changes never reach the catalog, so that the log accounts for every receipt."""
    details = {"receipt_key": key, "receipt_sha256": digest, "part": receipt.part}
    with catalog.begin() as connection:
        audit.hold_head(connection)
        logged = sa.select(audit_log.c.seq).where(
            audit_log.c.run_id == receipt.run_id, audit_log.c.action == "run.superseded", audit_log.c.details.contains(details)
        )
        if connection.execute(logged).first() is None:
            entry = audit.Entry(receipt.actor, "run.superseded", "runs", _subject(receipt), receipt.run_id, {**details, "reason": reason})
            audit.append(connection, [entry])


def _check_outputs(catalog: Catalog, store: Store, receipt: Receipt) -> None:
    """Make sure that what a receipt names is there, unless the catalog has it already.

    A worker that slept between its fence and its receipt may have lost its objects to one that cleared up; whoever has the lease now keeps others
    from doing so.

    Raises:
        Superseded: an object is gone.
    """
    this_run = (runs.c.run_id == receipt.run_id, runs.c.job == receipt.job, runs.c.part == receipt.part)
    with catalog.read() as connection:
        if connection.execute(sa.select(runs.c.receipt_sha256).where(*this_run)).scalar_one_or_none() is not None:
            return
    gone = next((output["key"] for output in receipt.outputs if store.head(output["key"]) is None), None)
    if gone is not None:
        raise Superseded(f"{store.uri(gone)}, which {receipt.job} of {receipt.run_id} wrote, is gone. Start another run.")


def _apply_receipt(catalog: Catalog, store: Store, receipt: Receipt, key: str, digest: str, lease: leases.Lease | None) -> None:
    """Apply the publication that a receipt names, in one transaction, unless that was done."""
    with catalog.begin() as connection:
        audit.hold_head(connection)
        if lease is not None:
            lease.check(connection)
        this_run = (runs.c.run_id == receipt.run_id, runs.c.job == receipt.job, runs.c.part == receipt.part)
        done = connection.execute(sa.select(runs.c.receipt_sha256).where(*this_run)).scalar_one_or_none()
        if done == digest:
            return
        if done is not None:
            raise DataWrong(
                f"The catalog holds another receipt for {receipt.job} of {receipt.run_id} than {store.uri(key)}: one of them was forged."
            )
        content = store.get(receipt.publication["key"])
        if not store.verify(receipt.publication["key"], receipt.publication["sha256"]):
            raise ObjectCorrupt(f"{store.uri(receipt.publication['key'])} is not what its receipt names.")
        entries = apply(connection, Publication.decode(content), run_id=receipt.run_id, actor=receipt.actor)
        row: dict[str, Any] = {"run_id": receipt.run_id, "job": receipt.job, "part": receipt.part, "product_line": receipt.product_line}
        row |= {"attempt": receipt.attempt, "state": "done", "receipt_key": key, "receipt_sha256": digest, "result": receipt.result}
        connection.execute(sa.insert(runs).values(**row))
        links = [{"run_id": receipt.run_id, "consumed_run_id": consumed} for consumed in sorted(set(receipt.consumed))]
        if links:
            connection.execute(pg_insert(run_links).values(links).on_conflict_do_nothing())
        details = {"receipt_key": key, "receipt_sha256": digest, "part": receipt.part}
        finished = audit.Entry(receipt.actor, "run.finished", "runs", _subject(receipt), receipt.run_id, details)
        audit.append(connection, chain(entries, [finished]))
        step("execution.before_commit")
    step("execution.after_commit")
