"""A small catalog in which every field has several values, absent ones included; and the same as plain values."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t

TEXTS = ("a", "B", "two words", 'quo"te', "back\\slash", "100%", "under_score", "st*r", "'; DROP TABLE scans; --", "é☃", "true", "3", "")
OPEN = (*TEXTS, 3, 3.5, -1, True, False, 0)
DAY = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """What is in the catalog."""

    catalog: Catalog
    scans: dict[str, dict[str, Any]]
    annotations: dict[str, dict[str, Any]]


def fill(connection: sa.Connection, count: int, seed: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random scans and annotations into an empty catalog; returns them by id as plain values."""
    drawn = random.Random(seed)
    run = {"run_id": "fill"}
    sites = [f"site-{number}" for number in range(3)]
    connection.execute(sa.insert(t.sites), [{"site_id": site, "name": site, **run} for site in sites])
    scanners = [
        {"scanner_id": f"scanner-{n}", "site_id": sites[n % 3], "manufacturer": drawn.choice(TEXTS), "model": drawn.choice(TEXTS), "serial": str(n)}
        for n in range(5)
    ]  # fmt: skip
    connection.execute(sa.insert(t.scanners), [scanner | run for scanner in scanners])
    bags = [f"bag-{number}" for number in range(max(1, count // 2))]
    connection.execute(sa.insert(t.bags), [{"bag_id": bag, "site_id": sites[0], **run} for bag in bags])
    scans: dict[str, dict[str, Any]] = {}
    for number in range(count):
        scanner, identity = drawn.choice(scanners), f"{number:04d}" + "0" * 60
        planes = drawn.choice((["high", "low"], ["high"], ["red", "green", "blue"]))
        at = drawn.choice((None, DAY, DAY + timedelta(hours=12), DAY + timedelta(days=1), DAY - timedelta(microseconds=1)))
        row = {
            "id": identity, "bag": drawn.choice(bags), "site": scanner["site_id"], "scanner": scanner["scanner_id"],
            "manufacturer": scanner["manufacturer"], "model": scanner["model"], "serial": scanner["serial"],
            "view": drawn.choice(TEXTS), "modality": drawn.choice(("DX", "CT")), "format": drawn.choice(("png", "dicos")),
            "type": drawn.choice(("operational", "test")), "state": drawn.choice(("received", "validated", "quarantined")),
            "acquired": at, "received": DAY + timedelta(minutes=number), "projected": drawn.random() < 0.3, "plane": planes,
            "header": {name: drawn.choice(OPEN) for name in ("kv", "odd name") if drawn.random() < 0.7},
            "statistics": {name: {"mean": drawn.choice((0.25, 0.5, 0.75))} for name in planes if drawn.random() < 0.8},
            "tag": [], "attribute": {}, "category": set(), "looked_for": set(), "author_kind": set(), "annotated_for": set(),
        }  # fmt: skip
        scans[identity] = row
        connection.execute(
            sa.insert(t.scans),
            {"scan_id": identity, "site_id": row["site"], "scanner_id": row["scanner"], "bag_id": row["bag"], "view_name": row["view"],
             "modality": row["modality"], "source_format": row["format"], "acquired_at": at, "scan_type": row["type"],
             "is_projected": row["projected"], "raw_key": "r", "planes_key": "p", "planes": [{"name": name} for name in planes],
             "attributes": row["header"], "statistics": row["statistics"], "phash": "0" * 16, "state": row["state"],
             "created_at": row["received"], **run},
        )  # fmt: skip
    notes: dict[str, dict[str, Any]] = {}
    for number in range(count):
        identity, scan = f"note-{number:04d}", scans[drawn.choice(sorted(scans))]
        before = drawn.choice(sorted(notes)) if notes and drawn.random() < 0.3 else None
        kind = drawn.choice(("person", "model", "report"))
        found = [drawn.choice(("knife", "handgun", "é☃")) for _ in range(drawn.randrange(3))]
        row = {
            "id": identity, "product_line": drawn.choice(("", "cabin")), "author": drawn.choice(TEXTS), "author_kind": kind,
            "tool": drawn.choice(TEXTS), "taxonomy": "threats-1", "created": DAY + timedelta(hours=number), "boxes": len(found),
            "category": set(found), "looked_for": set(found) | ({"grenade"} if drawn.random() < 0.5 else set()), "replaced": False,
            "tag": [], "attribute": {}, "scan": scan,
        }  # fmt: skip
        if before is not None and notes[before]["author_kind"] == kind:
            notes[before]["replaced"] = True
        notes[identity] = row
        boxes = [{"category": category, "x_px": 1, "y_px": 1, "width_px": 2, "height_px": 2} for category in found]
        connection.execute(
            sa.insert(t.annotations),
            {"annotation_id": identity, "scan_id": scan["id"], "product_line": row["product_line"], "author": row["author"],
             "author_kind": kind, "tool": row["tool"], "taxonomy_version": "threats-1", "looked_for": sorted(row["looked_for"]),
             "boxes": boxes, "supersedes": before, "created_at": row["created"], **run},
        )  # fmt: skip
    for row in notes.values():
        if not row["replaced"]:
            for name in ("category", "looked_for"):
                row["scan"][name] |= row[name]
            row["scan"]["author_kind"].add(row["author_kind"])
            row["scan"]["annotated_for"].add(row["product_line"])
    for subject, known in (("scan", scans), ("annotation", notes)):
        for identity, row in known.items():
            for kind, name, value in (("tag", "new", True), ("tag", "odd/é", True), ("attribute", "shift", drawn.choice(OPEN))):
                if drawn.random() < 0.5:
                    is_set = drawn.random() < 0.8
                    mark = {"subject": subject, "subject_id": identity, "kind": kind, "name": name, "value": value, "is_set": is_set}
                    connection.execute(sa.insert(t.marks), mark | run)
                    if is_set and kind == "tag":
                        row["tag"].append(name)
                    elif is_set:
                        row["attribute"][name] = value
    return scans, notes


@pytest.fixture(scope="module")
def known(database_template: str) -> Iterator[Known]:
    """A catalog of 80 scans and 80 annotations that no test changes."""
    admin, name = database_template.replace("/template_catalog", "/postgres"), f"q_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_catalog")  # type: ignore[arg-type]
    catalog = Catalog(database_template.replace("/template_catalog", f"/{name}"))
    with catalog.begin() as filled:
        scans, annotations = fill(filled, 80)
    yield Known(catalog, scans, annotations)
    catalog.close()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]
