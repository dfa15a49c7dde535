"""Snapshots of a product line that trusts ground truth from reports."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from small_world import add_bags, define, scan_id_of

from scanloop.catalog import tables as t
from scanloop.catalog.definitions import active_definitions
from scanloop.catalog.loop import loop_status
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.product_lines import Labelling, check
from scanloop.snapshots.collect import labelled_scans
from scanloop.snapshots.create import create_snapshot
from scanloop.snapshots.manifest import load_snapshot

BAGS = [f"bag-{number}" for number in range(16)]
BOX = {
    "category": "knife",
    "bbox_xywh": [4.0, 5.0, 6.0, 7.0],
    "threat": 1,
    "polygons": [[[4, 5, 0], [10, 12, 0]]],
    "masks": [],
    "z": [0, 1],
}


def report_on(run_body: Any, bag: str, tdr_type: str = "ground_truth", *, state: str = "matched", boxes: tuple[Any, ...] = ()) -> None:
    """A report about both views of a bag, and its annotations, as matching writes them down."""
    report_id = f"{tdr_type}/{bag}"

    def body(run: Any) -> dict[str, Any]:
        report = {"report_id": report_id, "raw_key": "x", "site_id": "ams", "tdr_type": tdr_type, "decision": "clear", "is_aborted": False}
        run.publication.insert("threat_reports", [report | {"state": state}], action="report.received", subject="report_id")
        notes = [
            {
                "annotation_id": f"{report_id}/{view}",
                "scan_id": scan_id_of(bag, view),
                "product_line": "",
                "author": "ground truth of ams",
                "author_kind": "report",
                "tool": f"dicos-tdr:{tdr_type}",
                "taxonomy_version": "t-1",
                "looked_for": ["grenade", "handgun", "knife"],
                "boxes": list(boxes),
                "report_id": report_id,
            }
            for view in ("side", "top")
        ]
        run.publication.insert("annotations", notes, action="annotation.reported", subject="annotation_id")
        return {}

    run_body("test.report", body, run_id=report_id)


def labelled(world: Any) -> dict[str, Any]:
    with world.catalog.read() as connection:
        (definition,) = active_definitions(connection)
        found = labelled_scans(connection, definition)
        (status,) = loop_status(connection)
    assert status.accepted_scans == len(found)
    return {scan.facts["scan_id"]: scan for scan in found}


def test_reports_count_only_where_their_type_is_trusted(run_body, world) -> None:
    define(run_body)
    add_bags(run_body, world, BAGS)
    report_on(run_body, "bag-0")
    report_on(run_body, "bag-1", "operator")
    assert labelled(world) == {}
    define(run_body, "define-2", labelling={"trusted_reports": ["ground_truth"]})
    assert set(labelled(world)) == {scan_id_of("bag-0", view) for view in ("side", "top")}
    define(run_body, "define-3", labelling={"trusted_reports": ["operator", "ground_truth"]}, scanners={"include": ["acme-one-a"]})
    with world.catalog.read() as connection:
        covered = set(connection.execute(sa.select(t.scans.c.scan_id).where(t.scans.c.scanner_id == "acme-one-a")).scalars())
    expected = {scan_id_of(bag, view) for bag in ("bag-0", "bag-1") for view in ("side", "top")} & covered
    assert set(labelled(world)) == expected


def test_a_report_that_waits_for_another_scan_is_for_training_only(run_body, world) -> None:
    define(run_body, labelling={"trusted_reports": ["ground_truth"]})
    add_bags(run_body, world, BAGS)
    report_on(run_body, "bag-0", state="waiting")
    (scan, _) = labelled(world).values()
    assert (len(scan.whole), len(scan.partial)) == (0, 1)


def test_a_snapshot_is_made_of_reports_alone(run_body, world) -> None:
    define(run_body, labelling={"trusted_reports": ["ground_truth"]})
    add_bags(run_body, world, BAGS)
    for number, bag in enumerate(BAGS):
        report_on(run_body, bag, boxes=(BOX,) if number % 2 else ())
    made = run_body("snapshot.create", create_snapshot, product_line="cabin", lease="snapshot")
    with pytest.raises(NothingToDo):
        run_body("snapshot.create", create_snapshot, run_id="again", product_line="cabin", lease="snapshot")
    records = list(load_snapshot(world.store, made["snapshot_id"]).records())
    assert len(records) == made["counts"]["scans"]
    for record in records:
        has_box = bool(BAGS.index(record.bag_id) % 2)
        assert record.is_clean_bag == (not has_box)
        assert [(box.category, box.bbox_xywh) for box in record.boxes] == ([("knife", (4.0, 5.0, 6.0, 7.0))] if has_box else [])
        assert record.looked_for == ("handgun", "knife")


@pytest.mark.parametrize("types", [["oracle"], ["machine", "machine"], "machine"])
def test_only_types_that_exist_can_be_trusted_each_once(types: Any) -> None:
    with pytest.raises(WrongArguments, match="trusted_reports"):
        check(Labelling, {"trusted_reports": types}, "a test")


def test_nothing_is_trusted_unless_said() -> None:
    assert Labelling().trusted_reports == ()
