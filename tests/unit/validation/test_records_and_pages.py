"""Records of scans, and pages that need no network."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from scanloop.validation.charts import Bounds, Series, chart
from scanloop.validation.docs import MachineEntry, SuiteEntry, machines_table, offline_page, page, suites_table
from scanloop.validation.frame import scan_record

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
    found = offline_page(PAGE)
    for gone in ("http:", "https:", "iframe", "favicon", "ours()", "cdn.example", "20261123T"):
        assert gone not in found
    for kept in ("kept", 'href="#s-id-0"', 'id="s-id-0"', 'id="id-1"', "<style>"):
        assert kept in found


def test_the_tables_link_every_page_and_escape_what_they_show() -> None:
    content = page(
        "run <b>",
        suites_table([SuiteEntry("pixels", "a/b.html", 7, 0, (), ("<w>",)), SuiteEntry("<meta>", 'x".html', 7, 2, ("gain",), ())])
        + machines_table([MachineEntry("argus-<i>", "argus.html", "drifted", "2026-03-01", ("gain_holds",))]),
    ).decode()
    assert 'href="a/b.html">pixels</a></td><td>7</td><td>0</td>' in content
    assert (content.count('class="passed"'), content.count('class="failed"'), content.count('td class="drifted"')) == (1, 1, 1)
    for raw in ("<b>", "<meta>", 'x".html', "<w>", "<i>"):
        assert raw not in content
    assert "http" not in content


BOUNDS = Bounds(expected=0.98, least=0.96, most=1.0)
MOMENTS = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]


def test_a_chart_draws_every_point_inside_its_frame_and_the_limits() -> None:
    drawn = chart(
        [Series("past", list(zip(MOMENTS, (0.98, 0.979, 0.981), strict=True))), Series("held", [(MOMENTS[2], 0.88)])], BOUNDS, "level"
    )
    circles = re.findall(r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert [kind for kind, *_ in circles] == ["past", "past", "past", "held"]
    assert all(0 < float(x) < 520 and 0 < float(y) < 190 for _, x, y in circles)
    assert float(circles[3][2]) > max(float(y) for kind, _, y in circles if kind == "past"), "lower values are further down"
    assert (drawn.count('class="limit"'), drawn.count('class="expected"'), drawn.count('class="band"')) == (2, 1, 1)
    assert "2026-03-01" in drawn


@pytest.mark.parametrize("values", [(), (0.5,), (0.5, 0.5)], ids=["nothing", "one point", "all the same"])
def test_a_chart_of_hardly_anything_is_one_too(values: tuple[float, ...]) -> None:
    drawn = chart([Series("new", list(zip(MOMENTS, values, strict=False)))], Bounds(), "share")
    assert "nan" not in drawn
    assert ("<svg" in drawn) == bool(values)
