"""Suites as data, records of scans, and pages that need no network."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from scanloop.validation.docs import index_page, offline_page
from scanloop.validation.frame import scan_record
from scanloop.validation.suites import SUITES

FIGURES = {"air_mean": 0.97, "saturated_share": 0.0, "dark_share": 0.01, "dead_columns": 0, "dead_rows": 0, "is_blank": False}


def scan(**changes: Any) -> dict[str, Any]:
    return {
        "scan_id": "0" * 64,
        "site_id": "north",
        "bag_id": "north/north/b1",
        "view_name": "top",
        "manufacturer": "Argus",
        "model": "2",
        "serial": "7",
        "acquired_at": datetime(2026, 3, 1, tzinfo=UTC),
        "scan_type": "operational",
        "source_format": "png",
        "planes": [{"name": name, "height_px": 40, "width_px": 32, "bits": 16} for name in ("high", "low")],
        "attributes": {"delivered_site": "north", "missing": []},
        "statistics": {"high": FIGURES, "low": FIGURES},
    } | changes


def test_every_check_is_about_a_column_that_records_have() -> None:
    columns = scan_record(scan()).keys()
    for suite in SUITES:
        for check in suite.checks:
            assert {value for name, value in check.arguments.items() if name.startswith("column")} <= columns


def test_names_of_checks_are_unique_over_all_suites() -> None:
    names = [check.name for suite in SUITES for check in suite.checks]
    assert len(set(names)) == len(names)


def test_the_worst_plane_speaks_for_the_scan() -> None:
    bad = FIGURES | {"air_mean": 0.5, "dead_columns": 9, "is_blank": True}
    record = scan_record(scan(statistics={"high": FIGURES, "low": bad}))
    assert (record["air_mean"], record["dead_columns"], record["is_blank"], record["dark_share"]) == (0.5, 9, True, 0.01)


def test_what_the_file_did_not_say_is_none_whatever_stands_in() -> None:
    missing = ["manufacturer", "serial", "site", "bag", "view", "acquired_at"]
    record = scan_record(scan(attributes={"missing": missing}, acquired_at=None, site_id="unknown", view_name="unknown"))
    assert [name for name in ("site", "bag", "view", "manufacturer", "model", "serial", "acquired_at", "year") if record[name] is None] == [
        "site",
        "bag",
        "view",
        "manufacturer",
        "serial",
        "acquired_at",
        "year",
    ]


PAGE = """<html><head><link rel="stylesheet" href="https://cdn.example/x.css"/><link href="../static/images/favicon.ico"/></head>
<body><script src="https://cdn.example/x.js"></script><script>ours()</script><img src="http://cdn.example/x.png"><iframe src="x">
</iframe><style>a { background: url('https://cdn.example/y.png') }</style><a href="https://example/n?a=1">n</a>
<a href="#s-397482bf-41cc-4a8b-a0da-601ea933ef89"><p id="s-397482bf-41cc-4a8b-a0da-601ea933ef89">kept</p>
<b id="01a6315e-e9c1-4f5c-8f4c-faf6009cd07b"></b><span>20261123T201454.685135Z</span></body></html>"""


def test_a_page_loses_every_reference_to_elsewhere_and_nothing_else() -> None:
    page = offline_page(PAGE)
    for gone in ("http:", "https:", "iframe", "favicon", "ours()", "cdn.example", "20261123T"):
        assert gone not in page
    for kept in ("kept", 'href="#s-id-0"', 'id="s-id-0"', 'id="id-1"', "<style>"):
        assert kept in page


def test_the_index_links_every_page_and_escapes_what_it_shows() -> None:
    path, content = index_page("run <b>", [("pixels", "validations/a/b.html", 7, 0), ("<meta>", 'x".html', 7, 2)])
    page = content.decode()
    assert str(path) == "index.html"
    assert 'href="validations/a/b.html">pixels</a></td><td>7</td><td>0</td>' in page
    assert (page.count('class="passed"'), page.count('class="failed"')) == (1, 1)
    for raw in ("<b>", "<meta>", 'x".html'):
        assert raw not in page


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_suite_says_what_holds_in_plain_words(suite: Any) -> None:
    for check in suite.checks:
        assert check.says
        assert check.says[0].islower()
        assert not check.says.endswith(".")
