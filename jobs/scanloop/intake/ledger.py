"""What the catalog already knows about deliveries and contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import deliveries, quarantine, scans, threat_reports
from scanloop.intake.landing import Shard
from scanloop.intake.work import Kept
from scanloop.scans.sidecar import SUFFIX


@dataclass(frozen=True)
class Known:
    """What is known about one content."""

    is_scan: bool = False
    """A scan has it."""
    is_report: bool = False
    """A report has it."""
    is_held: bool = False
    """It is in quarantine, or was released and not read again yet."""

    @property
    def is_read(self) -> bool:
        """It is in the catalog."""
        return self.is_scan or self.is_report


def known_deliveries(catalog: Catalog, ids: Sequence[str]) -> dict[str, str]:
    """Of these delivery ids, the ones in the catalog, each with the SHA-256 of its content."""
    if not ids:
        return {}
    with catalog.read() as connection:
        query = sa.select(deliveries.c.delivery_id, deliveries.c.content_sha256).where(deliveries.c.delivery_id.in_(ids))
        return {row.delivery_id: row.content_sha256 for row in connection.execute(query)}


def known_contents(catalog: Catalog, digests: Sequence[str]) -> dict[str, Known]:
    """What is known about each of these contents."""
    if not digests:
        return {}
    with catalog.read() as connection:
        found = set(connection.scalars(sa.select(scans.c.scan_id).where(scans.c.scan_id.in_(digests))))
        reports = set(connection.scalars(sa.select(threat_reports.c.report_id).where(threat_reports.c.report_id.in_(digests))))
        held = set(connection.scalars(sa.select(quarantine.c.quarantine_id).where(quarantine.c.quarantine_id.in_(digests))))
    return {digest: Known(digest in found, digest in reports, digest in held - found - reports) for digest in digests}


_KEPT = (quarantine.c.quarantine_id, quarantine.c.raw_key, quarantine.c.landing_key, quarantine.c.stage, quarantine.c.state)


def released_contents(catalog: Catalog, shard: Shard | None = None) -> Iterator[Kept]:
    """Contents released from quarantine that no reading has followed yet, in order."""
    readable_again = sa.exists().where(scans.c.scan_id == quarantine.c.quarantine_id, scans.c.state != "quarantined")
    is_report = sa.exists().where(threat_reports.c.report_id == quarantine.c.quarantine_id)
    query = sa.select(*_KEPT).where(quarantine.c.state == "released", ~readable_again, ~is_report).order_by(quarantine.c.quarantine_id)
    with catalog.read() as connection:
        for row in connection.execute(query.execution_options(yield_per=1000)):
            if shard is None or shard.holds(row.landing_key):
                yield Kept(*row)


def late_sidecars(catalog: Catalog, keys: Sequence[str]) -> dict[str, Kept]:
    """Of these landing keys of sidecars, the ones whose picture is held in quarantine and had none when it was read; with that picture.

    A sidecar that is there already, in another version, is no late one: its picture was read with it.
    """
    if not keys:
        return {}
    pictures = {key.removesuffix(SUFFIX): key for key in keys}
    had_one = sa.exists().where(
        deliveries.c.landing_key == sa.func.concat(quarantine.c.landing_key, SUFFIX), deliveries.c.outcome == "sidecar"
    )
    query = sa.select(*_KEPT).where(quarantine.c.landing_key.in_(list(pictures)), quarantine.c.state == "held", ~had_one)
    with catalog.read() as connection:
        return {pictures[row.landing_key]: Kept(*row) for row in connection.execute(query.order_by(quarantine.c.quarantine_id))}


def held_and_unread_with(catalog: Catalog, sidecars: Mapping[str, str]) -> dict[str, Kept]:
    """Of these contents, each with the SHA-256 of a sidecar, the ones that intake holds in quarantine and never read with that sidecar."""
    if not sidecars:
        return {}
    held = sa.select(*_KEPT).where(
        quarantine.c.quarantine_id.in_(list(sidecars)), quarantine.c.state == "held", quarantine.c.stage == "intake"
    )
    read = sa.select(deliveries.c.quarantine_id, deliveries.c.content_sha256).where(
        deliveries.c.quarantine_id.in_(list(sidecars)), deliveries.c.outcome == "sidecar"
    )
    with catalog.read() as connection:
        tried = {(row.quarantine_id, row.content_sha256) for row in connection.execute(read)}
        kept = [Kept(*row) for row in connection.execute(held)]
    return {one.sha256: one for one in kept if (one.sha256, sidecars[one.sha256]) not in tried}


def deliveries_of(catalog: Catalog, digest: str) -> list[str]:
    """Ids of the deliveries of one content that ended in quarantine, in the order of their landing keys."""
    query = sa.select(deliveries.c.delivery_id).where(deliveries.c.content_sha256 == digest, deliveries.c.outcome == "quarantined")
    with catalog.read() as connection:
        return list(connection.scalars(query.order_by(deliveries.c.landing_key, deliveries.c.delivery_id)))


def sidecar_of(catalog: Catalog, landing_key: str) -> str | None:
    """SHA-256 of the sidecar received last under this landing key, or None."""
    query = sa.select(deliveries.c.content_sha256).where(deliveries.c.landing_key == landing_key, deliveries.c.outcome == "sidecar")
    with catalog.read() as connection:
        return connection.scalars(query.order_by(deliveries.c.created_at.desc(), deliveries.c.delivery_id).limit(1)).first()
