"""How long typical queries take over a large catalog: the ratio of each to one second, and how the database does it.

    .venv/jobs/bin/python benchmarks/queries.py [--scans 1000000] [--plans]

A catalog of --scans scans from 5,000 scanners, two a bag, a fifth of them annotated, a tenth tagged, is filled by SQL, so that the benchmark is about
searching. Each query is a whole search as the command makes it: count, the newest 50, and their tags and attributes; the best of three.

Then a tenth of the scans get a tag and an attribute, and lose them again, with `scanloop scan mark`: seconds by the clock, all included.

Exits 1 if a query that has an index takes longer than a second. Queries that have none are printed beside them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from intake import _catalog, command

from scanloop.catalog import Catalog
from scanloop.query.fields import SUBJECTS
from scanloop.query.search import explain, search

LIMIT_S = 1.0
TYPICAL = (
    ("scan", "scanner = scanner-42"),
    ("scan", "state = received"),
    ("scan", "state = validated and scanner = scanner-42 and view = top"),
    ("scan", "state = validated and acquired = 2026-02-03"),
    ("scan", "state = validated and acquired >= 2026-02-20 and site = site-7"),
    ("scan", 'state = validated and scanner ~ "scanner-12*" and not tag = checked'),
    ("scan", "tag = checked"),
    ("scan", "tag = checked and category = knife"),
    ("scan", "attribute.ticket = 17 and state = validated"),
    ("scan", "category = grenade and state = validated"),
    ("scan", "category in (knife, grenade) and model = LineScan-3 and not tag = checked"),
    ("scan", "bag = bag-1234"),
    ("annotation", "category = grenade and author_kind = person"),
    ("annotation", "category = grenade and scan.scanner = scanner-42"),
    ("annotation", "tag = hard and scan.view = top"),
)
WITHOUT_AN_INDEX = (
    ("scan", "header.kv > 150"),
    ("scan", "statistics.high.air_mean < 0.9 and state = validated"),
    ("scan", "state = validated"),
)
_FIGURES = (
    '{"mean": 0.5, "std": 0.2, "minimum": 0.01, "maximum": 1.0, "air_mean": %s, "air_share": 0.4, "air_peak": 0.95, "air_noise": 0.002,'
)
_FIGURES += ' "saturated_share": 0.0, "dark_share": 0.001, "dead_rows": 0, "dead_columns": 0, "is_blank": false}'
FILL = (
    "INSERT INTO sites SELECT 'site-' || n, 'site', 'r' FROM generate_series(0, 199) n",
    "INSERT INTO scanners SELECT 'scanner-' || n, 'site-' || n % 200, 'Maker', 'LineScan-' || n % 7, n::text, 'r' FROM generate_series(0, 4999) n",
    "INSERT INTO bags SELECT 'bag-' || n, 'site-' || n % 200, 'r' FROM generate_series(0, :scans / 2) n",
    f"""INSERT INTO scans (scan_id, site_id, scanner_id, bag_id, view_name, modality, source_format, acquired_at, raw_key, planes_key, planes,
            attributes, statistics, phash, state, run_id)
        SELECT encode(sha256(n::text::bytea), 'hex'), 'site-' || n / 2 % 200, 'scanner-' || n / 2 % 5000, 'bag-' || n / 2,
            CASE n % 2 WHEN 0 THEN 'top' ELSE 'side' END, 'DX', 'dicos', timestamptz '2026-01-01' + n * interval '58 days' / :scans,
            'scans/raw/' || n, 'scans/planes/' || n,
            '[{{"name": "high", "height_px": 768, "width_px": 1024, "bits": 16}}, {{"name": "low", "height_px": 768, "width_px": 1024, "bits": 16}}]',
            jsonb_build_object('kv', 120 + n % 41, 'software', '1.' || n % 9, 'sop_instance_uid', '1.2.3.' || n),
            format('{{"high": %s, "low": %s}}', format('{_FIGURES}', 0.85 + n % 100 * 0.001), format('{_FIGURES}', 0.9))::jsonb,
            substr(md5(n::text), 1, 16), CASE WHEN n % 100 = 0 THEN 'quarantined' WHEN n % 50 = 1 THEN 'received' ELSE 'validated' END, 'r'
        FROM generate_series(0, :scans - 1) n""",
    """INSERT INTO annotations (annotation_id, scan_id, product_line, author, author_kind, tool, taxonomy_version, looked_for, boxes, run_id)
        SELECT 'note-' || n, encode(sha256((n * 5)::text::bytea), 'hex'), 'cabin', 'ann',
            CASE n % 7 WHEN 0 THEN 'person' ELSE 'consensus' END, 'tool', 't-1',
            '["knife", "handgun", "grenade"]',
            CASE WHEN n % 3 = 0 THEN '[]' ELSE format('[{"category": "%s", "bbox_xywh": [1, 2, 3, 4], "occlusion": 0}]',
                CASE WHEN n % 40 = 1 THEN 'grenade' WHEN n % 2 = 0 THEN 'knife' ELSE 'handgun' END)::jsonb END, 'r'
        FROM generate_series(0, :scans / 5 - 1) n""",
    """INSERT INTO marks SELECT 'scan', encode(sha256((n * 10)::text::bytea), 'hex'), 'tag', 'checked', 'true', true, 'r'
        FROM generate_series(0, :scans / 10 - 1) n""",
    """INSERT INTO marks SELECT 'scan', encode(sha256((n * 10)::text::bytea), 'hex'), 'attribute', 'ticket', to_jsonb(n % 1000), true, 'r'
        FROM generate_series(0, :scans / 10 - 1) n""",
    "INSERT INTO marks SELECT 'annotation', 'note-' || n * 20, 'tag', 'hard', 'true', true, 'r' FROM generate_series(0, :scans / 100 - 1) n",
)


def main() -> None:
    """Fill, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=1_000_000)
    parser.add_argument("--plans", action="store_true", help="Print how the database finds each, too.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scanloop-bench-") as name, _catalog(Path(name)) as make_catalog:
        catalog = Catalog(make_catalog())
        began = time.monotonic()
        for statement in FILL:
            with catalog.begin() as connection:
                connection.execute(sa.text(statement.replace(":scans", str(chosen.scans))))
        with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
        print(f"{chosen.scans:,} scans in the catalog after {time.monotonic() - began:.0f} s", flush=True)
        missed = [query for subject, query in TYPICAL if _asked(catalog, subject, query, is_plan_wanted=chosen.plans) > LIMIT_S]
        print("without an index:")
        for subject, query in WITHOUT_AN_INDEX:
            _asked(catalog, subject, query, is_plan_wanted=chosen.plans)
        catalog.close()
        _marked(Path(name), catalog.url.render_as_string(hide_password=False), chosen.scans // 10)
    print("limits missed: " + "; ".join(missed) if missed else "every limit kept")
    sys.exit(bool(missed))


def _asked(catalog: Catalog, subject: str, query: str, *, is_plan_wanted: bool) -> float:
    best, total = float("inf"), 0
    for _ in range(3):
        began = time.monotonic()
        total = search(catalog, query, SUBJECTS[subject], limit=50, timeout_s=60).total
        best = min(best, time.monotonic() - began)
    print(f"{best:7.3f} s  {best / LIMIT_S:5.2f} of the limit  {total:>9,} {subject}s  {query}", flush=True)
    if is_plan_wanted:
        print("".join(f"         {line}\n" for line in explain(catalog, query, SUBJECTS[subject], timeout_s=60)), flush=True)
    return best


def _marked(home: Path, url: str, expected: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCANLOOP_")}
    environment |= {"SCANLOOP_HOME": str(home), "SCANLOOP_DATABASE_URL": url}
    for words in (["--tag", "again", "--set", "ticket2=17"], ["--untag", "again", "--unset", "ticket2"]):
        began = time.monotonic()
        result, _ = command(environment, "scan", "mark", "tag = checked", *words)
        taken = time.monotonic() - began
        assert result["changed"] == expected, result
        print(f"{taken:7.1f} s  {2 * expected / taken:,.0f} marks a second  {expected:,} scans  {' '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
