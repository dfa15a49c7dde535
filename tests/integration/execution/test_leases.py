"""Leases: one worker at a time, judged by the database's clock; whoever lost the fence changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import leases as table
from scanloop.errors import DataWrong, LeaseHeld
from scanloop.execution import leases

RESOURCE = "cabin_baggage/snapshot"


def _expire(catalog: Catalog, seconds_ago: int = 1) -> None:
    with catalog.begin() as connection:
        connection.execute(sa.update(table).values(expires_at=sa.func.now() - sa.text(f"interval '{seconds_ago} seconds'")))


def _check(catalog: Catalog, lease: leases.Lease) -> None:
    with catalog.begin() as connection:
        lease.check(connection)


def test_a_second_holder_waits_until_the_first_lets_go(catalog: Catalog) -> None:
    first = leases.acquire(catalog, RESOURCE, "run-1/snapshot.create")
    with pytest.raises(LeaseHeld, match=r"cabin_baggage/snapshot is being worked on by run-1/snapshot\.create"):
        leases.acquire(catalog, RESOURCE, "run-2/snapshot.create")
    other = leases.acquire(catalog, "hold_baggage/snapshot", "run-2/snapshot.create")
    first.release()
    second = leases.acquire(catalog, RESOURCE, "run-2/snapshot.create")
    assert second.fence == first.fence + 1
    for lease in (second, other):
        lease.release()


def test_a_later_attempt_of_the_same_holder_takes_over_with_a_higher_fence(catalog: Catalog) -> None:
    first = leases.acquire(catalog, RESOURCE, "run-1/snapshot.create")
    second = leases.acquire(catalog, RESOURCE, "run-1/snapshot.create")
    assert second.fence == first.fence + 1
    _check(catalog, second)
    with pytest.raises(LeaseHeld, match=r"passed to run-1/snapshot\.create \(fence 2, ours was 1\)"):
        _check(catalog, first)
    first.release()  # lets go of nothing: it is not its own any more
    with pytest.raises(LeaseHeld):
        leases.acquire(catalog, RESOURCE, "run-2/snapshot.create")
    second.release()


def test_only_the_clock_of_the_database_ends_a_term(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    first = leases.acquire(catalog, RESOURCE, "run-1/a.b")
    now = time.time()
    for wrong in (-86_400, 86_400, 10 * 365 * 86_400):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: now + wrong)
        with pytest.raises(LeaseHeld):
            leases.acquire(catalog, RESOURCE, "run-2/a.b")
    _expire(catalog)
    second = leases.acquire(catalog, RESOURCE, "run-2/a.b")
    with pytest.raises(LeaseHeld, match=r"passed to run-2/a\.b"):
        _check(catalog, first)
    for lease in (first, second):
        lease.release()


def test_an_expired_lease_that_nobody_took_is_still_good(catalog: Catalog) -> None:
    lease = leases.acquire(catalog, RESOURCE, "run-1/a.b")
    _expire(catalog, 3600)
    _check(catalog, lease)
    lease.release()


def test_a_lease_is_renewed_while_its_holder_lives(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TERM_S", 0.4)
    lease = leases.acquire(catalog, RESOURCE, "run-1/a.b")
    ends = set()
    deadline = time.monotonic() + 30
    while len(ends) < 4:
        assert time.monotonic() < deadline, "it was not renewed"
        with catalog.read() as connection:
            ends.add(connection.execute(sa.select(table.c.expires_at)).scalar_one())
    lease.release()
    with catalog.read() as connection:
        assert connection.execute(sa.select(table.c.expires_at <= sa.func.now())).scalar_one()


def test_of_many_workers_at_once_one_gets_the_lease(catalog: Catalog) -> None:
    def attempt(number: int) -> leases.Lease | None:
        try:
            return leases.acquire(catalog, RESOURCE, f"run-{number}/a.b")
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(5) as pool:
        taken = [lease for lease in pool.map(attempt, range(15)) if lease]
    assert [lease.fence for lease in taken] == [1]
    taken[0].release()


def test_letting_go_never_hides_why_the_work_failed(make_database: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog(make_database())
    lease = leases.acquire(catalog, RESOURCE, "run-1/a.b")
    admin = catalog.url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {catalog.url.database} WITH (FORCE)")  # type: ignore[arg-type]
    with pytest.raises(DataWrong, match="why the work failed"):
        _fail_under(lease)
    assert "ends by itself within 60 s" in caplog.text
    catalog.close()


def _fail_under(lease: leases.Lease) -> None:
    try:
        raise DataWrong("why the work failed")
    finally:
        lease.release()
