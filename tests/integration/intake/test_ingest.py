"""Receiving what sites deliver, with real PostgreSQL and a folder or S3 as landing zone and store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import sqlalchemy as sa
from scan_files import PEOPLE, RLE, dicos, picture, png, sidecar, tiff

from scanloop.catalog.tables import audit_log, bags, deliveries, quarantine, scanners, scans, sites
from scanloop.cli.options import World
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import RunIdentity, execute
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.plan import plan_ingest
from scanloop.intake.release import release
from scanloop.intake.rows import raw_key
from scanloop.intake.shard import ingest_shard
from scanloop.scans.planes import read_planes
from scanloop.settings import Settings
from scanloop.store import Store, open_store

Rows = list[dict[str, Any]]


class Site:
    """A deployment and the sites that deliver to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.landing: Store = open_store(world.settings.landing_url)
        self.runs = 0

    def deliver(self, key: str, content: bytes, about: bytes | None = None) -> str:
        if about is not None:
            self.landing.put(key + ".json", about)
        self.landing.put(key, content)
        return hashlib.sha256(content).hexdigest()

    def job(self, name: str, body: Callable[..., dict[str, Any]], *, run_id: str | None = None, part: str = "") -> dict[str, Any]:
        self.runs += 1
        identity = RunIdentity(run_id or f"run-{self.runs}", name, part, 1, "test")
        return execute(body, identity, settings=self.world.settings, store=self.world.store, catalog=self.world.catalog)

    def plan(self, max_shards: int = 4) -> dict[str, Any]:
        return self.job("ingest.plan", lambda run: plan_ingest(run, max_shards))

    def ingest(self, max_shards: int = 1) -> dict[str, int]:
        """Plan, ingest every shard, acknowledge; the counts of all shards together."""
        total: dict[str, int] = {}
        for shard in self.plan(max_shards)["shards"]:
            result = self.job("ingest.shard", lambda run, shard=shard: ingest_shard(run, Shard.parse(shard)), part=shard)
            for name, count in result.items():
                if name not in ("shard", "left"):
                    total[name] = total.get(name, 0) + count
        return total | self.job("ingest.acknowledge", acknowledge)

    def rows(self, table: sa.Table) -> Rows:
        with self.world.catalog.read() as connection:
            return [dict(row._mapping) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]

    def left(self) -> list[str]:
        return [found.key for found in self.landing.list()]


@pytest.fixture(params=["folder", "s3"])
def site(request: pytest.FixtureRequest, world: World) -> Site:
    if request.param == "s3":
        url = request.getfixturevalue("s3_url")
        base, _, query = url.partition("?")
        settings = Settings(
            home=world.settings.home,
            database_url=world.settings.database_url,
            store_url=f"{base}/store?{query}",
            landing_url=f"{base}/landing?{query}",
        )
        world = World(settings, open_store(settings.store_url), world.catalog)
    return Site(world)


@pytest.fixture
def folder_site(world: World) -> Site:
    return Site(world)


def deliver_everything(site: Site) -> dict[str, str]:
    """One of each kind that sites are known to send."""
    whole = dicos(picture(1), RLE)
    return {
        "dicos": site.deliver("south-terminal/0042/2026-03-01/B1_side.dcs", whole),
        "resent": site.deliver("south-terminal/0042/2026-03-02/resend_B1_side.dcs", whole),
        "png": site.deliver("north-terminal/SN-7/2026-03-01/B2_top.png", png(picture(2)), sidecar()),
        "tiff": site.deliver("north-terminal/SN-8/2026-03-01/B3_top.tif", tiff(picture(3)), sidecar(serial="SN-8", bag_id="B3")),
        "truncated": site.deliver("south-terminal/0042/2026-03-01/B4_top.dcs", dicos(picture(4))[:2000]),
        "stray": site.deliver("south-terminal/0042/2026-03-01/operator_note.txt", b"Belt cleaned at noon. " + PEOPLE.encode()),
        "no_sidecar": site.deliver("north-terminal/SN-7/2026-03-01/B5_top.png", png(picture(5))),
    }


def test_every_delivery_becomes_a_scan_a_duplicate_or_quarantine(site: Site) -> None:
    sent = deliver_everything(site)
    counts = site.ingest(max_shards=4)
    expected = {"scans": 3, "duplicates": 1, "quarantined": 3, "sidecars": 2, "reports": 0, "reread": 0, "deliveries": 7}
    assert counts == expected | {"acknowledged": 9, "kept": 0, "waiting_sidecars": 0}
    assert site.left() == []
    assert {row["scan_id"] for row in site.rows(scans)} == {sent["dicos"], sent["png"], sent["tiff"]}
    reasons = {row["quarantine_id"]: row["reason_code"] for row in site.rows(quarantine)}
    assert reasons == {sent["truncated"]: "truncated", sent["stray"]: "not_a_scan", sent["no_sidecar"]: "sidecar_missing"}
    for row in site.rows(deliveries):
        assert site.world.store.verify(raw_key(row["content_sha256"]), row["content_sha256"])
    outcomes = {row["landing_key"].rpartition("/")[2]: row["outcome"] for row in site.rows(deliveries)}
    assert (outcomes["B1_side.dcs"], outcomes["resend_B1_side.dcs"], outcomes["B2_top.png.json"]) == ("scan", "duplicate", "sidecar")


def test_a_scan_row_says_who_where_what_and_when(folder_site: Site) -> None:
    sent = deliver_everything(folder_site)
    folder_site.ingest()
    row = next(row for row in folder_site.rows(scans) if row["scan_id"] == sent["dicos"])
    assert (row["site_id"], row["scanner_id"], row["bag_id"]) == (
        "south-terminal",
        "veritas-v-620-0042",
        "south-terminal/south-terminal/b000777",
    )
    assert (row["view_name"], row["source_format"], row["state"], row["modality"]) == ("side", "dicos", "received", "DX")
    assert row["acquired_at"].isoformat() == "2026-03-01T08:15:30.250000+00:00"
    assert row["planes"] == [{"name": name, "height_px": 40, "width_px": 32, "bits": 16} for name in ("high", "low")]
    assert row["attributes"]["delivered_site"] == "south-terminal"
    assert row["attributes"]["missing"] == []
    assert 0.9 < row["statistics"]["high"]["air_mean"] < 1
    assert len(row["phash"]) == 16
    planes = read_planes(folder_site.world.store.get(row["planes_key"]))
    assert all((planes[name] == pixels).all() for name, pixels in picture(1).items())
    assert [one["site_id"] for one in folder_site.rows(sites)] == ["north-terminal", "south-terminal"]
    assert {one["scanner_id"] for one in folder_site.rows(scanners)} >= {"argus-line-2-sn-7", "argus-line-2-sn-8"}
    assert len(folder_site.rows(bags)) == 3


def test_personal_data_stay_in_the_received_bytes(folder_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    deliver_everything(folder_site)
    folder_site.ingest()
    with folder_site.world.catalog.read() as connection:
        for table in (scans, scanners, sites, bags, deliveries, quarantine, audit_log):
            assert PEOPLE not in str(connection.execute(sa.select(table)).all())
    assert PEOPLE not in caplog.text
    for found in folder_site.world.store.list():
        if not found.key.startswith("scans/raw/"):
            assert PEOPLE.encode() not in folder_site.world.store.get(found.key)


def test_ingesting_again_changes_nothing(site: Site) -> None:
    deliver_everything(site)
    site.ingest()
    before = [site.rows(table) for table in (scans, deliveries, quarantine, bags)]
    with pytest.raises(NothingToDo, match="nothing new"):
        site.plan()
    # Once more, as a site does that missed the acknowledgement. S3 shows the same objects, a folder shows new ones: then the ledger grows.
    deliver_everything(site)
    counts = site.ingest()
    is_same_delivery = site.landing.url.startswith("s3:")
    assert (counts["scans"], counts["duplicates"], counts["quarantined"]) == ((0, 0, 0) if is_same_delivery else (0, 4, 3))
    assert (counts["acknowledged"], site.left()) == (9, [])
    assert (site.rows(deliveries) == before[1]) == is_same_delivery
    assert [site.rows(table) for table in (scans, quarantine, bags)] == [before[0], before[2], before[3]]


def test_an_ingest_without_its_acknowledgement_is_found_and_finished(folder_site: Site) -> None:
    deliver_everything(folder_site)
    for shard in folder_site.plan()["shards"]:
        folder_site.job("ingest.shard", lambda run, shard=shard: ingest_shard(run, Shard.parse(shard)), part=shard)
    before = folder_site.rows(deliveries)
    counts = folder_site.ingest()
    assert (counts["scans"], counts["duplicates"], counts["quarantined"], counts["acknowledged"]) == (0, 0, 0, 9)
    assert folder_site.rows(deliveries) == before


def test_the_same_content_received_by_two_shards_at_once_is_one_scan(folder_site: Site) -> None:
    whole = dicos(picture(1))
    for serial in range(6):
        folder_site.deliver(f"south-terminal/{serial}/2026-03-01/B1.dcs", whole)
    # Every shard starts from a catalog that knows nothing, as parallel jobs do: bodies first, publications after.
    shards = folder_site.plan(4)["shards"]
    assert len(shards) > 1
    publications = {}

    def body(shard: str) -> Callable[..., dict[str, Any]]:
        def ingest(run: Any) -> dict[str, Any]:
            result = ingest_shard(run, Shard.parse(shard))
            publications[shard] = list(run.publication.changes)
            return result

        return ingest

    def replay(shard: str) -> Callable[..., dict[str, Any]]:
        def publish(run: Any) -> dict[str, Any]:
            run.publication.extend(publications[shard])
            return {}

        return publish

    class Stop(Exception):
        pass

    def stopped(shard: str) -> Callable[..., dict[str, Any]]:
        def ingest(run: Any) -> dict[str, Any]:
            body(shard)(run)
            raise Stop

        return ingest

    for shard in shards:
        with pytest.raises(Stop):
            folder_site.job("ingest.shard", stopped(shard), part=shard)
    for shard in shards:
        folder_site.job("ingest.shard", replay(shard), part=shard)
    outcomes = [row["outcome"] for row in folder_site.rows(deliveries)]
    assert outcomes.count("scan") == len(shards)
    folder_site.job("ingest.acknowledge", acknowledge)
    outcomes = [row["outcome"] for row in folder_site.rows(deliveries)]
    assert sorted(outcomes) == ["duplicate"] * 5 + ["scan"]
    assert len(folder_site.rows(scans)) == 1


def test_acknowledge_keeps_what_is_not_safe(site: Site) -> None:
    lost = site.deliver("south-terminal/0042/2026-03-01/B1.dcs", dicos(picture(1)))
    site.deliver("south-terminal/0042/2026-03-01/B2.dcs", dicos(picture(2)))
    damaged = site.deliver("south-terminal/0042/2026-03-01/B3.dcs", dicos(picture(3)))
    for shard in site.plan()["shards"]:
        site.job("ingest.shard", lambda run, shard=shard: ingest_shard(run, Shard.parse(shard)), part=shard)
    site.world.store.delete(raw_key(lost))
    site.world.store.put(raw_key(damaged), b"x" * len(dicos(picture(3))))
    site.deliver("south-terminal/0042/2026-03-01/B2.dcs", dicos(picture(20)))
    site.deliver("south-terminal/0042/2026-03-01/B4.dcs", dicos(picture(4)))
    assert site.job("ingest.acknowledge", acknowledge) == {"acknowledged": 0, "kept": 4, "waiting_sidecars": 0}
    assert len(site.left()) == 4


def test_a_sidecar_alone_waits_for_its_picture(folder_site: Site) -> None:
    folder_site.landing.put("north-terminal/SN-7/2026-03-01/B9_top.png.json", sidecar())
    with pytest.raises(NothingToDo, match="1 sidecars wait"):
        folder_site.plan()
    folder_site.deliver("south-terminal/0042/2026-03-01/B1.dcs", dicos(picture(1)))
    assert folder_site.ingest()["waiting_sidecars"] == 1
    assert folder_site.left() == ["north-terminal/SN-7/2026-03-01/B9_top.png.json"]
    folder_site.deliver("north-terminal/SN-7/2026-03-01/B9_top.png", png(picture(9)))
    counts = folder_site.ingest()
    assert (counts["scans"], counts["acknowledged"], folder_site.left()) == (1, 2, [])


def test_a_released_content_is_read_again_with_a_sidecar_that_came_later(folder_site: Site) -> None:
    digest = folder_site.deliver("north-terminal/SN-7/2026-03-01/B5_top.png", png(picture(5)))
    folder_site.ingest()
    assert folder_site.job("quarantine.release", lambda run: release(run, digest[:10]))["reason_code"] == "sidecar_missing"
    folder_site.landing.put("north-terminal/SN-7/2026-03-01/B5_top.png.json", sidecar())
    counts = folder_site.ingest()
    assert (counts["reread"], counts["acknowledged"], counts["sidecars"]) == (1, 1, 1)
    assert [row["scan_id"] for row in folder_site.rows(scans)] == [digest]
    assert [row["state"] for row in folder_site.rows(quarantine)] == ["released"]
    ledger = {row["landing_key"].rpartition(".")[2]: row for row in folder_site.rows(deliveries)}
    assert (ledger["png"]["outcome"], ledger["png"]["scan_id"], ledger["png"]["quarantine_id"]) == ("scan", digest, None)
    assert ledger["json"]["outcome"] == "sidecar"
    with pytest.raises(NothingToDo):
        folder_site.plan()
    with folder_site.world.catalog.read() as connection:
        actions = set(connection.scalars(sa.select(audit_log.c.action).where(audit_log.c.subject_id == digest)))
    assert {"content.quarantined", "content.released", "scan.received"} <= actions


@pytest.mark.parametrize("first", [None, b"{", sidecar(planes=["high", "low", "zeff"])])
@pytest.mark.parametrize("again", ["B6_top.png", "B6_top_resent.png"])
def test_a_picture_delivered_again_with_a_right_sidecar_is_read(folder_site: Site, first: bytes | None, again: str) -> None:
    day = "north-terminal/SN-7/2026-03-01"
    digest = folder_site.deliver(f"{day}/B6_top.png", png(picture(6)), first)
    assert folder_site.ingest()["quarantined"] == 1
    folder_site.deliver(f"{day}/{again}", png(picture(6)), b"still none")
    counts = folder_site.ingest()
    assert (counts["reread"], counts["quarantined"], folder_site.left()) == (1, 1, [])
    assert [(row["state"], row["reason_code"]) for row in folder_site.rows(quarantine)] == [("held", "sidecar_invalid")]
    for name in (again, "B6_top_once_more.png"):
        folder_site.deliver(f"{day}/{name}", png(picture(6)), sidecar())
    counts = folder_site.ingest()
    assert (counts["reread"], counts["duplicates"], counts["sidecars"], folder_site.left()) == (1, 2, 2, [])
    assert [row["scan_id"] for row in folder_site.rows(scans)] == [digest]
    assert [row["state"] for row in folder_site.rows(quarantine)] == ["released"]
    outcomes = sorted(row["outcome"] for row in folder_site.rows(deliveries) if row["landing_key"].endswith(".png"))
    assert outcomes == ["duplicate"] * 3 + ["scan"]
    folder_site.deliver(f"{day}/{again}", png(picture(6)), sidecar(view="side"))
    assert folder_site.ingest()["reread"] == 0


def test_another_scanner_does_not_speak_for_a_picture_in_quarantine(folder_site: Site) -> None:
    folder_site.deliver("north-terminal/SN-7/2026-03-01/B6_top.png", png(picture(6)))
    folder_site.ingest()
    folder_site.deliver("north-terminal/SN-8/2026-03-01/B6_top.png", png(picture(6)), sidecar())
    counts = folder_site.ingest()
    assert (counts["reread"], counts["quarantined"], folder_site.rows(scans)) == (0, 1, [])


def test_a_released_content_that_still_cannot_be_read_goes_back(folder_site: Site) -> None:
    digest = folder_site.deliver("south-terminal/0042/2026-03-01/note.txt", b"no scan")
    folder_site.ingest()
    folder_site.job("quarantine.release", lambda run: release(run, digest))
    with pytest.raises(NothingToDo, match="released before"):
        folder_site.job("quarantine.release", lambda run: release(run, digest))
    assert folder_site.ingest()["reread"] == 1
    assert [(row["state"], row["reason_code"]) for row in folder_site.rows(quarantine)] == [("held", "not_a_scan")]
    with pytest.raises(NothingToDo):
        folder_site.plan()


def test_releasing_needs_an_id_that_names_one_content(folder_site: Site) -> None:
    for text in (b"one", b"two"):
        folder_site.deliver(f"south-terminal/0042/2026-03-01/{text.decode()}.txt", text)
    folder_site.ingest()
    for unusable in ("", "%", "zz", "1' OR 1=1"):
        with pytest.raises(WrongArguments):
            folder_site.job("quarantine.release", lambda run, unusable=unusable: release(run, unusable))


HOSTILE_NAMES = (
    "south-terminal/0042/2026-03-01/..%2f..%2fetc%2fpasswd",
    "south-terminal/0042/2026-03-01/'; DROP TABLE scans; --",
    "south-terminal/0042/2026-03-01/<script>alert(1)</script>.dcs",
    "south-terminal/0042/2026-03-01/\u202egnp.exe",
    "south-terminal/0042/2026-03-01/ѕcan.dcs",
    "south-terminal/0042/2026-03-01/CON",
    "south-terminal/0042/2026-03-01/" + "n" * 200,
    "no-folder.dcs",
    "Süd Terminal/0042/2026-03-01/a b.dcs",
    "a/b/c/d/e/f/g.dcs",
)


def test_names_from_outside_never_become_keys(site: Site) -> None:
    for number, name in enumerate(HOSTILE_NAMES):
        site.deliver(name, dicos(picture(100 + number)))
    counts = site.ingest()
    assert (counts["scans"], counts["acknowledged"]) == (len(HOSTILE_NAMES), len(HOSTILE_NAMES))
    for found in site.world.store.list("scans/"):
        assert all(character.isalnum() or character in "/." for character in found.key)


def test_a_name_that_intake_cannot_use_stays_and_stops_nothing(world: World, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("s3_url")
    settings = Settings(home=world.settings.home, database_url=world.settings.database_url, landing_url=url)
    site = Site(World(settings, world.store, world.catalog))
    parts = urlsplit(url)
    client = boto3.client("s3", endpoint_url=parts.query.partition("=")[2])
    client.put_object(Bucket=parts.netloc, Key=f"{parts.path.strip('/')}/south-terminal/0042/bell\x07.dcs", Body=dicos(picture(1)))
    site.deliver("south-terminal/0042/2026-03-01/good.dcs", dicos(picture(2)))
    counts = site.ingest()
    assert (counts["scans"], counts["acknowledged"]) == (1, 1)
    assert len(site.left()) == 1


def test_a_file_name_that_no_store_can_use_stays_and_stops_nothing(folder_site: Site) -> None:
    path = Path(urlsplit(folder_site.world.settings.landing_url).path) / "south-terminal" / "0042" / "line\nbreak.dcs"
    path.parent.mkdir(parents=True)
    path.write_bytes(dicos(picture(1)))
    folder_site.deliver("south-terminal/0042/2026-03-01/good.dcs", dicos(picture(2)))
    counts = folder_site.ingest()
    assert (counts["scans"], counts["acknowledged"]) == (1, 1)


def test_a_plan_makes_no_more_shards_than_scanners_and_covers_each(folder_site: Site) -> None:
    for number in range(20):
        folder_site.deliver(f"site-{number % 3}/{number}/2026-03-01/a.txt", str(number).encode())
    plan = folder_site.plan(6)
    assert 1 < plan["count"] <= 6
    assert plan["deliveries"] == 20
    shards = [Shard.parse(text) for text in plan["shards"]]
    for found in folder_site.landing.list():
        assert sum(shard.holds(found.key) for shard in shards) == 1
    with pytest.raises(WrongArguments):
        folder_site.plan(0)
