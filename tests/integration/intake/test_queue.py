"""Receiving by events: a real S3-speaking bucket and a real SQS-speaking queue over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import random
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import killed
import pytest
import sqlalchemy as sa
from moto.sqs.models import sqs_backends
from scan_files import dicos, picture, png, sidecar

from scanloop.catalog import Catalog
from scanloop.catalog.tables import deliveries, quarantine, scans
from scanloop.cli.options import World
from scanloop.errors import NothingToDo, StoreUnavailable, WrongArguments
from scanloop.execution import RunIdentity, execute, execute_in_chunks
from scanloop.intake import shard as shard_module
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.plan import plan_ingest
from scanloop.intake.queue import EventQueue
from scanloop.intake.shard import ingest_shard, total_of
from scanloop.settings import Settings
from scanloop.store import open_store

SOURCES = sorted(str(path.relative_to(killed.PACKAGE)) for path in (killed.PACKAGE / "intake").glob("*.py"))
OWN = {"queue.before_delete"}
covered: set[str] = set()


class Bucket:
    """A landing bucket whose events go to a queue, and the deployment that reads both."""

    def __init__(self, world: World, s3_url: str) -> None:
        base, _, query = s3_url.partition("?")
        self.endpoint = query.partition("=")[2]
        self.name = base.removeprefix("s3://").partition("/")[0]
        self.sqs = boto3.client("sqs", endpoint_url=self.endpoint)
        self.queue_url = self.sqs.create_queue(QueueName=f"q{uuid.uuid4().hex[:8]}")["QueueUrl"]
        settings = Settings(
            home=world.settings.home,
            database_url=world.settings.database_url,
            store_url=f"{base}/store?{query}",
            landing_url=f"{base}/landing?{query}",
            landing_queue_url=self.queue_url,
        )
        self.world = World(settings, open_store(settings.store_url), world.catalog)
        self.landing = open_store(settings.landing_url)
        self.runs = 0

    def event(self, *keys: str) -> None:
        records = [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": self.name}, "object": {"key": f"scanloop/landing/{key}"}}}
            for key in keys
        ]
        self.say(json.dumps({"Records": records}))

    def say(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def deliver(self, key: str, content: bytes, *, times: int = 1) -> str:
        self.landing.put(key, content)
        for _ in range(times):
            self.event(key)
        return hashlib.sha256(content).hexdigest()

    def waiting(self) -> int:
        """Messages that nobody has deleted."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    def let_time_pass(self) -> None:
        """The visibility timeout of every message ends."""
        name = self.queue_url.rpartition("/")[2]
        for message in sqs_backends["123456789012"]["us-east-1"].queues[name]._messages:
            message.visible_at = 0

    def job(self, name: str, body: Callable[..., dict[str, Any]], run_id: str, part: str = "") -> dict[str, Any]:
        identity = RunIdentity(run_id, name, part, 1, "test")
        return execute(body, identity, settings=self.world.settings, store=self.world.store, catalog=self.world.catalog)

    def plan(self, run_id: str, **limits: int) -> dict[str, Any]:
        return self.job("ingest.plan", lambda run: plan_ingest(run, 4, **limits), run_id)

    def ingest(self, **limits: int) -> dict[str, Any]:
        """One run of the DAG: plan, every shard in chunks, acknowledge."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        self.let_time_pass()
        plan = self.plan(run_id, **limits)
        totals: dict[str, Any] = {"plan": plan}
        for name in plan["shards"]:
            shard = Shard.parse(name)
            result = execute_in_chunks(
                lambda run, chunk, shard=shard: ingest_shard(run, shard, chunk),
                lambda chunks, shard=shard: total_of(shard, chunks),
                RunIdentity(run_id, "ingest.shard", name, 1, "test"),
                settings=self.world.settings,
                store=self.world.store,
                catalog=self.world.catalog,
            )
            for outcome in ("scans", "duplicates", "quarantined", "sidecars", "reread", "chunks"):
                totals[outcome] = totals.get(outcome, 0) + result[outcome]
        return totals | self.job("ingest.acknowledge", acknowledge, run_id)

    def count(self, table: sa.Table) -> int:
        with self.world.catalog.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.fixture
def bucket(world: World, s3_url: str) -> Bucket:
    return Bucket(world, s3_url)


def test_what_events_name_is_received_once_and_the_messages_go(bucket: Bucket) -> None:
    bucket.deliver("s/1/2026-03-01/a.dcs", dicos(picture(1)), times=3)
    bucket.landing.put("n/SN-7/2026-03-01/b.png.json", sidecar())
    bucket.deliver("n/SN-7/2026-03-01/b.png", png(picture(2)))
    bucket.event("s/1/2026-03-01/gone.dcs")
    counts = bucket.ingest()
    assert (counts["scans"], counts["sidecars"], counts["acknowledged"], counts["messages"]) == (2, 1, 3, 5)
    assert (bucket.waiting(), list(bucket.landing.list())) == (0, [])
    with pytest.raises(NothingToDo):
        bucket.ingest()


def test_an_event_that_was_lost_is_made_up_for_by_the_sweep(bucket: Bucket) -> None:
    bucket.deliver("s/1/2026-03-01/a.dcs", dicos(picture(1)), times=0)
    counts = bucket.ingest()
    assert (counts["plan"]["swept"], counts["scans"]) == (True, 1)
    # Within the hour only the queue is asked: the next lost event waits for the next sweep.
    bucket.deliver("s/1/2026-03-01/b.dcs", dicos(picture(2)), times=0)
    with pytest.raises(NothingToDo):
        bucket.ingest()
    bucket.deliver("s/1/2026-03-01/c.dcs", dicos(picture(3)))
    counts = bucket.ingest()
    assert (counts["plan"]["swept"], counts["scans"]) == (False, 1)


def test_a_message_that_is_no_event_is_kept_aside_and_goes(bucket: Bucket) -> None:
    bucket.deliver("s/1/2026-03-01/a.dcs", dicos(picture(1)))
    bucket.say("<xml>not an event</xml>")
    counts = bucket.ingest()
    assert (counts["plan"]["unreadable_events"], counts["scans"], bucket.waiting()) == (1, 1, 0)
    (kept,) = bucket.world.store.list("intake/unreadable-events/")
    assert bucket.world.store.get(kept.key) == b"<xml>not an event</xml>"


def test_what_had_to_wait_stays_in_the_queue(bucket: Bucket) -> None:
    for number in range(12):
        bucket.deliver(f"s/{number % 3}/2026-03-01/{number:02d}.dcs", dicos(picture(number)))
    first = bucket.ingest(max_deliveries=5)
    assert (first["scans"], first["plan"]["postponed"], first["messages"], bucket.waiting()) == (5, 7, 5, 7)
    assert bucket.ingest(max_deliveries=50)["scans"] == 7
    assert bucket.waiting() == 0


def test_nothing_is_received_while_validation_is_behind(bucket: Bucket) -> None:
    for number in range(3):
        bucket.deliver(f"s/1/2026-03-01/{number}.dcs", dicos(picture(number)))
    bucket.ingest()
    bucket.deliver("s/1/2026-03-01/more.dcs", dicos(picture(9)))
    with pytest.raises(NothingToDo, match="validation is behind"):
        bucket.ingest(max_waiting=2)
    assert (bucket.waiting(), len(list(bucket.landing.list()))) == (1, 1)
    assert bucket.ingest(max_waiting=3)["scans"] == 1


def test_a_sidecar_that_comes_after_its_picture_was_refused_brings_it_back(bucket: Bucket) -> None:
    digest = bucket.deliver("n/SN-7/2026-03-01/b.png", png(picture(2)))
    assert bucket.ingest()["quarantined"] == 1
    bucket.deliver("n/SN-7/2026-03-01/b.png.json", sidecar())
    counts = bucket.ingest()
    assert (counts["plan"]["late_sidecars"], counts["reread"], counts["acknowledged"], bucket.waiting()) == (1, 1, 1, 0)
    with bucket.world.catalog.read() as connection:
        assert connection.scalars(sa.select(scans.c.scan_id)).all() == [digest]
        assert connection.scalars(sa.select(quarantine.c.state)).all() == ["released"]
        outcomes = dict(connection.execute(sa.select(deliveries.c.landing_key, deliveries.c.outcome)).all())
    assert outcomes == {"n/SN-7/2026-03-01/b.png": "scan", "n/SN-7/2026-03-01/b.png.json": "sidecar"}


def test_ten_thousand_events_with_repetitions_late_and_in_any_order_end_in_one_scan_each(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 events, 30 % of them repetitions, in batches of a message, shuffled, over several runs; 60 contents at 7,000 places would take long,
    so most events name the same few objects: it is the events that are many."""
    monkeypatch.setattr(shard_module, "CHUNK", 25)
    draw = random.Random(20261124)
    keys = [f"s/{number % 7}/2026-03-01/{number:03d}.dcs" for number in range(80)]
    sent = {key: dicos(picture(int(key[-7:-4]) % 60)) for key in keys}
    events = keys + draw.choices(keys, k=9_920)
    draw.shuffle(events)
    for key, content in sent.items():
        bucket.landing.put(key, content)
    third = len(events) // 3
    for part in (events[:third], events[third : 2 * third], events[2 * third :]):
        for start in range(0, len(part), 100):
            bucket.event(*part[start : start + 100])
        try:
            bucket.ingest(max_deliveries=60)
        except NothingToDo:
            continue
    while bucket.waiting() or list(bucket.landing.list()):
        bucket.ingest()
    assert bucket.count(scans) == 60
    assert bucket.count(deliveries) == 80
    with bucket.world.catalog.read() as connection:
        outcomes = connection.scalars(sa.select(deliveries.c.outcome)).all()
    assert sorted(outcomes) == ["duplicate"] * 20 + ["scan"] * 60


def test_a_queue_without_a_bucket_is_refused(world: World, bucket: Bucket) -> None:
    settings = Settings(home=world.settings.home, database_url=world.settings.database_url, landing_queue_url=bucket.queue_url)
    identity = RunIdentity("r", "ingest.plan", "", 1, "test")
    with pytest.raises(WrongArguments, match="no bucket"):
        execute(lambda run: plan_ingest(run, 1), identity, settings=settings, store=world.store, catalog=world.catalog)


@pytest.mark.parametrize("url", ["", "queue", "https://", "https://host/", "https://host/a/b/c", "file:///a/b", "http://host:bad/1/q"])
def test_what_is_no_queue_is_refused(url: str) -> None:
    with pytest.raises(WrongArguments, match="Expected the URL of a queue"):
        EventQueue(url)


def test_a_queue_that_is_not_there_is_unavailable(s3_url: str) -> None:
    endpoint = s3_url.partition("endpoint_url=")[2]
    with pytest.raises(StoreUnavailable, match="failed"):
        list(EventQueue(f"{endpoint}/123456789012/none").receive())


def acknowledge_killed(settings: Settings, run_id: str, credentials: dict[str, str]) -> None:
    os.environ.update(credentials)
    catalog, identity = Catalog(settings.database_url), RunIdentity(run_id, "ingest.acknowledge", "", 1, "test")
    execute(
        acknowledge,
        identity,
        settings=settings,
        store=open_store(settings.store_url),
        catalog=catalog,
    )


def test_killed_before_the_messages_are_deleted_they_come_again_and_change_nothing(bucket: Bucket) -> None:
    bucket.deliver("s/1/2026-03-01/a.dcs", dicos(picture(1)))
    plan = bucket.plan("r1")
    for name in plan["shards"]:
        bucket.job("ingest.shard", lambda run, name=name: ingest_shard(run, Shard.parse(name)), "r1", name)
    own = {name for name in killed.boundaries(*SOURCES) if name.startswith("queue.")}
    # The processes that are killed fork from a server that may be older than this test's environment.
    credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for boundary in sorted(own):
        assert killed.run(acknowledge_killed, bucket.world.settings, "r1", credentials, kill=boundary) == killed.KILLED
        covered.add(boundary)
    assert (bucket.waiting(), list(bucket.landing.list())) == (1, [])
    # The same run again, and a new run that sees the message once more: both find everything done.
    assert bucket.job("ingest.acknowledge", acknowledge, "r1")["messages"] == 1
    assert bucket.waiting() == 0
    bucket.event("s/1/2026-03-01/a.dcs")
    counts = bucket.ingest()
    assert (counts["scans"], counts["messages"], bucket.count(scans), bucket.count(deliveries)) == (0, 1, 1, 1)
    assert covered == own == OWN
