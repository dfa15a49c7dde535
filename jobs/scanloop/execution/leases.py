"""Leases: who may work on a product line now, and the fence that stops whoever thinks so still.

Expiry is judged by the database's clock alone, so a worker's wrong clock changes nothing.
Source: fencing tokens as in Kleppmann, "Designing Data-Intensive Applications", chapter 8.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as pg_insert

from scanloop.catalog import Catalog
from scanloop.catalog.tables import leases
from scanloop.errors import CatalogUnavailable, LeaseHeld

log = logging.getLogger(__name__)

TERM_S = 60


@dataclass
class Lease:
    """A held lease, renewed in the background until it is released."""

    catalog: Catalog
    resource: str
    holder: str
    fence: int
    _done: threading.Event = field(default_factory=threading.Event)
    _renewer: threading.Thread | None = None

    def start_renewing(self) -> None:
        """Renew until released. A renewal that fails is tried again; the fence decides whether it was in time."""
        self._renewer = threading.Thread(target=self._renew, name=f"lease {self.resource}", daemon=True)
        self._renewer.start()

    def _renew(self) -> None:
        while not self._done.wait(TERM_S / 4):
            try:
                with self.catalog.begin() as connection:
                    connection.execute(sa.update(leases).where(*self._ours()).values(expires_at=_in(TERM_S)))
            except CatalogUnavailable:
                continue

    def _ours(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (leases.c.resource == self.resource, leases.c.fence == self.fence)

    def check(self, connection: sa.Connection) -> None:
        """Hold the lease's row until the transaction ends. Raises LeaseHeld if another run took it over."""
        row = connection.execute(
            sa.select(leases.c.holder, leases.c.fence).where(leases.c.resource == self.resource).with_for_update()
        ).one()
        if row.fence != self.fence:
            raise LeaseHeld(
                f"The lease on {self.resource} passed to {row.holder} (fence {row.fence}, ours was {self.fence}). Nothing was changed."
            )

    def release(self) -> None:
        """Let others have it at once. A catalog that is away only means that they wait for the term to end."""
        self._done.set()
        if self._renewer is not None:
            self._renewer.join()
        try:
            with self.catalog.begin() as connection:
                connection.execute(sa.update(leases).where(*self._ours()).values(expires_at=sa.func.now()))
        except CatalogUnavailable as error:
            log.warning("The lease on %s ends by itself within %s s: %s", self.resource, TERM_S, error.message)


def _in(seconds: float) -> sa.ColumnElement[datetime]:
    return sa.func.now() + sa.text(f"interval '{seconds} seconds'")


def acquire(catalog: Catalog, resource: str, holder: str) -> Lease:
    """Take the lease on `resource` if it is free, expired, or an earlier attempt of the same `holder` has it.

    Raises:
        LeaseHeld: another holder has it.
    """
    wanted = pg_insert(leases).values(resource=resource, holder=holder, fence=1, expires_at=_in(TERM_S))
    taken = wanted.on_conflict_do_update(
        index_elements=[leases.c.resource],
        set_={"holder": holder, "fence": leases.c.fence + 1, "expires_at": _in(TERM_S)},
        where=sa.or_(leases.c.expires_at <= sa.func.now(), leases.c.holder == holder),
    ).returning(leases.c.fence)
    with catalog.begin() as connection:
        fence = connection.execute(taken).scalar_one_or_none()
        if fence is None:
            other = connection.execute(sa.select(leases.c.holder).where(leases.c.resource == resource)).scalar_one()
            raise LeaseHeld(f"{resource} is being worked on by {other}. Run again later.")
    lease = Lease(catalog, resource, holder, int(fence))
    lease.start_renewing()
    return lease
