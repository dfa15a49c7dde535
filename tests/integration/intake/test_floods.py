"""Too much at once: one scanner that floods, a fleet of 5,000, and one hostile file a hundred times among good ones."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from fuzzing.corpus import load
from harness.tier import IS_LONG
from scan_files import dicos, picture

from scanloop.catalog.tables import deliveries, quarantine, scans, threat_reports
from scanloop.cli.options import World
from scanloop.execution import RunIdentity, execute
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.plan import plan_ingest
from scanloop.intake.shard import ingest_shard
from scanloop.intake.work import decode_work
from scanloop.scans import sandbox as room
from scanloop.store import open_store

FLOOD = 100_000 if IS_LONG else 20_000
FLEET, JOBS = 5_000, 64
SCANNERS, FILES = 20, 30


def job(world: World, run_id: str, name: str, body: Callable[..., dict[str, Any]], part: str = "") -> dict[str, Any]:
    return execute(body, RunIdentity(run_id, name, part, 1, "test"), settings=world.settings, store=world.store, catalog=world.catalog)


def place(world: World, folder: str, count: int) -> None:
    """Put tiny files into a folder of the landing zone, as quickly as files can be made."""
    path = Path(urlsplit(world.settings.landing_url).path) / folder
    path.mkdir(parents=True)
    for number in range(count):
        os.close(os.open(path / f"{number:06d}.dcs", os.O_CREAT | os.O_WRONLY))


def planned(world: World, run_id: str, **limits: int) -> tuple[dict[str, Any], dict[str, int]]:
    """The plan of a run, and the place of each delivery in the order in which its job receives it, from 1."""
    plan = job(world, run_id, "ingest.plan", lambda run: plan_ingest(run, **({"max_shards": JOBS} | limits)))
    places: dict[str, int] = {}
    for key in plan["work"].values():
        work = [one.landing_key for one in decode_work(world.store.get(key))]
        assert not places.keys() & set(work), "a delivery is in two shards"
        places |= {landing_key: place for place, landing_key in enumerate(work, start=1)}
    return plan, places


@pytest.mark.parametrize("max_shards", [1, 8])
def test_one_flooding_scanner_delays_the_others_at_most_twofold(world: World, max_shards: int) -> None:
    for number in range(SCANNERS):
        place(world, f"site-{number % 4}/{number:02d}/2026-03-01", FILES)
    _, calm = planned(world, "calm", max_shards=max_shards)
    place(world, "site-0/flood/2026-03-01", FLOOD)
    plan, flooded = planned(world, "flooded", max_shards=max_shards, max_deliveries=2_000)
    delays = [flooded[key] / before for key, before in calm.items()]
    print(
        f"\n{FLOOD} files of one scanner among {SCANNERS} others, {max_shards} jobs: the others wait at most {max(delays):.2f} times as long"
    )
    # With a shard for few scanners the one that floods changes which scanners share a job as well, so the sum counts there.
    assert max(delays) <= 2
    assert calm.keys() <= flooded.keys()
    assert (len(flooded), plan["postponed"]) == (2_000, SCANNERS * FILES + FLOOD - 2_000)


def test_a_fleet_of_5000_scanners_makes_at_most_a_set_number_of_jobs(world: World) -> None:
    for number in range(FLEET):
        place(world, f"site-{number % 50}/{number:04d}/2026-03-01", 1)
    plan, places = planned(world, "fleet", min_a_shard=25)
    assert (plan["scanners"], plan["deliveries"], len(places)) == (FLEET, FLEET, FLEET)
    assert plan["count"] == len(plan["shards"]) <= JOBS
    shares = Counter(Shard.index_of(key, JOBS) for key in places)
    print(f"\n{FLEET} scanners make {plan['count']} jobs of {min(shares.values())} to {max(shares.values())} deliveries")
    assert max(shares.values()) < 2 * FLEET / JOBS
    _, few = planned(world, "few", max_shards=3)
    assert few.keys() == places.keys()


DYING = """
import os
from scanloop.scans import decode, reader

honest = decode.read_scan

def read_scan(content, about):
    if content.startswith(b"crash"):
        os.abort()
    return honest(content, about)

decode.read_scan = read_scan
reader.main()
"""


def test_hostile_files_among_good_ones_harm_none_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends its reader a hundred times under other names, two more that do, and every file of the corpus of the fuzzer."""
    monkeypatch.setattr(room, "_READER", ("-c", DYING))
    landing = open_store(world.settings.landing_url)
    kept = [one for one in load() if one.file.sidecar is None]
    good = {f"south-terminal/0042/2026-03-01/{number:03d}.dcs": dicos(picture(number)) for number in range(50)}
    hostile = {f"south-terminal/0042/2026-03-01/{number:03d}-bad.dcs": b"crash" for number in range(100)}
    hostile |= {f"south-terminal/0042/2026-03-02/{number}-bad.dcs": b"crash %d" % number for number in range(2)}
    tried = {f"south-terminal/0042/2026-03-01/{number:03d}-odd.dcs": one.file.content for number, one in enumerate(kept)}
    for key, content in (good | hostile | tried).items():
        landing.put(key, content)
    plan = job(world, "r1", "ingest.plan", lambda run: plan_ingest(run, 1))
    job(world, "r1", "ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), "00/01")
    job(world, "r1", "ingest.acknowledge", acknowledge)
    digests = {hashlib.sha256(content).hexdigest() for content in good.values()}
    with world.catalog.read() as connection:
        received = {*connection.scalars(sa.select(scans.c.scan_id)), *connection.scalars(sa.select(threat_reports.c.report_id))}
        reasons = Counter(connection.scalars(sa.select(quarantine.c.reason_code)))
        lines = connection.scalar(sa.select(sa.func.count()).select_from(deliveries))
        bad = connection.scalar(sa.select(sa.func.count()).where(deliveries.c.content_sha256 == hashlib.sha256(b"crash").hexdigest()))
    assert lines == plan["deliveries"] == len(good) + len(hostile) + len(tried)
    assert digests <= received
    assert bad == 100
    assert reasons["reader_died"] == 3
    assert len(received) == 50 + len({one.file.content for one in kept if one.code == "accepted"})
    assert sum(reasons.values()) == 3 + len({one.file.content for one in kept if one.code != "accepted"})
    assert list(landing.list()) == []
