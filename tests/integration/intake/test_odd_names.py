"""500 odd names, as files in the landing zone and as values of headers and sidecars: keys come from hashes alone, and everything has its place."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from fuzzing.names import COUNT, odd_names
from fuzzing.seeds import all_seeds
from scan_files import sidecar

from scanloop.catalog.tables import bags, deliveries, quarantine, scanners, scans, sites
from scanloop.cli.options import World
from scanloop.execution import RunIdentity, execute
from scanloop.intake.acknowledge import acknowledge
from scanloop.intake.landing import Shard
from scanloop.intake.plan import plan_ingest
from scanloop.intake.shard import ingest_shard
from scanloop.scans.content import clean_text
from scanloop.settings import Settings
from scanloop.store import Store, open_store

_HEX = r"[0-9a-f]"
KEY = re.compile(
    rf"(scans/(raw|planes|views)|publications|intake/work)/{_HEX}{{2}}/{_HEX}{{64}}(\.[a-z.]+)?|(receipts|publications|runs|anchors)/[A-Za-z0-9./_%-]+"
)
ID = re.compile(r"[a-z0-9-]{1,160}(/[a-z0-9-]{1,64}){0,2}")
NAMES = odd_names()


def ingest(world: World, run_id: str) -> dict[str, Any]:
    def job(name: str, body: Callable[..., dict[str, Any]], part: str = "") -> dict[str, Any]:
        return execute(body, RunIdentity(run_id, name, part, 1, "test"), settings=world.settings, store=world.store, catalog=world.catalog)

    planned = job("ingest.plan", lambda run: plan_ingest(run, 1))
    received = job("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), "00/01")
    return planned | received | job("ingest.acknowledge", acknowledge)


def column(world: World, what: sa.Column[Any]) -> list[Any]:
    with world.catalog.read() as connection:
        return list(connection.scalars(sa.select(what)))


def keys_of(store: Store) -> Iterator[str]:
    return (entry.key for entry in store.list())


def test_there_are_500_and_all_differ() -> None:
    assert len(set(NAMES)) == COUNT == 500
    assert sum(len(name) >= 4096 for name in NAMES) > 100
    assert sum(".." in name for name in NAMES) > 20
    assert sum("\0" in name for name in NAMES) >= 3


@pytest.fixture(params=["folder", "s3"])
def there(request: pytest.FixtureRequest, world: World) -> World:
    if request.param == "folder":
        return world
    settings = Settings(home=world.settings.home, database_url=world.settings.database_url, landing_url=request.getfixturevalue("s3_url"))
    return World(settings, world.store, world.catalog)


def deliver(world: World, names: list[str]) -> tuple[int, set[str]]:
    """Put a file under each name as far as the landing zone can hold it; how many, and the digests of their contents."""
    parts = urlsplit(world.settings.landing_url)
    placed, digests = 0, set()
    client = boto3.client("s3", endpoint_url=parts.query.partition("=")[2]) if parts.scheme == "s3" else None
    for number, name in enumerate(names):
        content = f"no scan {number}".encode()
        try:
            if client is not None:
                key = f"{parts.path.strip('/')}/south-terminal/0042/{name}"
                if len(key.encode()) > 1024 or "\0" in key or {"..", "."} & set(key.split("/")):
                    continue  # no bucket takes it, or no client sends it as it is
                client.put_object(Bucket=parts.netloc, Key=key, Body=content)
            else:
                folder = os.fsencode(Path(parts.path) / "south-terminal" / "0042")
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103  names as bytes
                path = os.path.join(folder, name.encode())  # noqa: PTH118
                if b"/" in name.encode() or name in ("", ".", ".."):
                    continue  # no file can have it
                with open(path, "xb") as file:  # noqa: PTH123
                    file.write(content)
        except (OSError, ValueError, ClientError):
            continue
        placed += 1
        digests.add(hashlib.sha256(content).hexdigest())
    return placed, digests


def test_files_of_odd_names_are_received_or_stay_and_never_become_keys(there: World, caplog: pytest.LogCaptureFixture) -> None:
    placed, digests = deliver(there, NAMES)
    whole = all_seeds()["dicom explicit"].content
    open_store(there.settings.landing_url).put("south-terminal/0042/2026-03-01/good.dcs", whole)
    before = {path for path in there.settings.home.rglob("*") if "landing" not in path.parts}
    result = ingest(there, "r1")
    held = set(column(there, quarantine.c.quarantine_id))
    stayed = placed - len(held)
    print(f"\n{len(NAMES)} names, {placed} that this landing zone can hold: {len(held)} in quarantine, {stayed} stay there")
    assert result["scans"] == 1
    assert held <= digests
    # What a store cannot name stays, with a warning each; nothing else does.
    assert sum("has a name that cannot be used" in line for line in caplog.messages) >= stayed
    assert sum(1 for _ in open_store(there.settings.landing_url).list()) == stayed
    assert len(held) > 60
    assert [key for key in keys_of(there.store) if not KEY.fullmatch(key)] == []
    new = {path for path in there.settings.home.rglob("*") if "landing" not in path.parts} - before
    assert all(path.is_relative_to(there.settings.home / "store") or path.is_relative_to(there.settings.home / "work") for path in new)
    assert len(column(there, deliveries.c.delivery_id)) == len(held) + 1
    assert all(message.isprintable() for message in caplog.messages)


def header_files() -> Iterator[tuple[str, bytes, bytes | None]]:
    """Name, bytes and sidecar of files that carry the 500 names, five in each, in DICOM headers and in sidecars by turns."""
    tags = {0x00100020: "bag", 0x00100021: "issuer", 0x00080080: "site", 0x0008103E: "view", 0x00181000: "serial"}
    for number, start in enumerate(range(0, COUNT, len(tags))):
        values = NAMES[start : start + len(tags)]
        if number % 2:
            fields = dict(zip(("bag_id", "issuer", "site", "view", "serial"), (value[:256] for value in values), strict=True))
            yield f"{number}.png", all_seeds()["png 16"].content + bytes(number), sidecar(**fields)
            continue
        tree = all_seeds()["dicom explicit"].tree
        assert tree is not None
        file = tree.copy()
        for element in file.dataset:
            if element.tag in tags:
                content = values[list(tags).index(element.tag)].encode()
                element.value = content + b" " * (len(content) % 2)
        yield f"{number}.dcs", file.encode(), None


def test_values_of_odd_names_are_read_or_refused_and_never_become_keys(world: World) -> None:
    landing = open_store(world.settings.landing_url)
    sent = list(header_files())
    for name, content, about in sent:
        if about is not None:
            landing.put(f"south-terminal/0042/2026-03-01/{name}.json", about)
        landing.put(f"south-terminal/0042/2026-03-01/{name}", content)
    result = ingest(world, "r1")
    print(f"\n{len(NAMES)} values in {len(sent)} files: {result['scans']} scans, {result['quarantined']} in quarantine")
    assert result["scans"] + result["quarantined"] == len(sent) == 100
    assert result["scans"] > 80
    assert [key for key in keys_of(world.store) if not KEY.fullmatch(key)] == []
    for what in (bags.c.bag_id, sites.c.site_id, scanners.c.scanner_id, scans.c.bag_id):
        assert [value for value in column(world, what) if not ID.fullmatch(value)] == []
    for what in (scans.c.view_name, sites.c.name, scanners.c.serial, quarantine.c.reason):
        assert [value for value in column(world, what) if value != clean_text(value, 512) or len(value) > 512] == []
