"""Receipts as anchors of the audit log: they lie outside the database and remember how the log ended."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from scanloop.catalog import Catalog, audit
from scanloop.catalog.tables import audit_log
from scanloop.execution.receipts import load_with_hash
from scanloop.store import Store


def audit_violations(catalog: Catalog, store: Store) -> Iterator[str]:
    """What is wrong with the audit log, judged by itself and by every receipt in the store; one sentence each."""
    anchors: dict[int, str] = {}
    receipts: dict[str, str] = {}
    for stored in store.list("receipts/"):
        found = load_with_hash(store, stored.key)
        if found is None:
            continue
        receipt, digest = found
        receipts[stored.key] = digest
        seq, remembered = int(receipt.audit_head["seq"]), str(receipt.audit_head["hash"])
        if anchors.setdefault(seq, remembered) != remembered:
            yield f"Two receipts remember different entries {seq}: the log was forked. One of them is {stored.key}."
    with catalog.read() as connection:
        yield from audit.violations(connection, anchors)
        accounted = audit_log.c.action.in_(("run.finished", "run.superseded"))
        entries = connection.execute(sa.select(audit_log.c.details).where(accounted)).scalars()
        logged = {details["receipt_key"]: details["receipt_sha256"] for details in entries}
    for key, digest in sorted(receipts.items()):
        if key not in logged:
            yield f"The receipt {key} is not in the log: run its job again with the same run id, or the log was cut."
        elif logged[key] != digest:
            yield f"The receipt {key} is not the one that the log names: it was changed."
    for key in sorted(logged.keys() - receipts.keys()):
        if store.head(key) is None:  # one written since the store was listed is there
            yield f"The log names the receipt {key}, which is not in the store."
