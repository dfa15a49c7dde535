"""What the catalog already knows about deliveries and contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import deliveries, quarantine, scans
from scanloop.intake.landing import Shard


@dataclass(frozen=True)
class Known:
    """What is known about one content."""

    is_scan: bool = False
    """A scan has it."""
    is_held: bool = False
    """It is in quarantine, or was released and not read again yet."""


@dataclass(frozen=True)
class ReleasedContent:
    """A content that somebody released from quarantine and that has to be read again."""

    sha256: str
    """Its SHA-256, which is also its quarantine id."""
    raw_key: str
    """Where its bytes are kept."""
    landing_key: str
    """Where it was first delivered."""
    stage: str
    """What had refused it: intake or validation."""


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
        held = set(connection.scalars(sa.select(quarantine.c.quarantine_id).where(quarantine.c.quarantine_id.in_(digests))))
    return {digest: Known(digest in found, digest in held - found) for digest in digests}


def released_contents(catalog: Catalog, shard: Shard | None = None) -> Iterator[ReleasedContent]:
    """Contents released from quarantine that no reading has followed yet, in order."""
    readable_again = sa.exists().where(scans.c.scan_id == quarantine.c.quarantine_id, scans.c.state != "quarantined")
    query = (
        sa.select(quarantine.c.quarantine_id, quarantine.c.raw_key, quarantine.c.landing_key, quarantine.c.stage)
        .where(quarantine.c.state == "released", ~readable_again)
        .order_by(quarantine.c.quarantine_id)
    )
    with catalog.read() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        if shard is None or shard.holds(row.landing_key):
            yield ReleasedContent(*row)


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
