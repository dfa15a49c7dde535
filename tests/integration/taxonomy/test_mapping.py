"""Annotations under an older taxonomy count once somebody says so, and then say what they can say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from small_world import add_bags, define, definition, label_chosen, label_everything, rows_of, run_job_of
from taxonomies import first, next_of

from scanloop.catalog import audit
from scanloop.catalog import tables as t
from scanloop.catalog.definitions import active_definitions, apply_definitions
from scanloop.catalog.loop import loop_status
from scanloop.cli.main import run as cli
from scanloop.cli.options import World
from scanloop.curation.pool import candidates_of
from scanloop.curation.select import plan_backfill
from scanloop.errors import DataWrong, NothingToDo, WrongArguments
from scanloop.labelling.boxes import Box
from scanloop.product_lines import ProductLine
from scanloop.snapshots.collect import labelled_scans, unmapped_scans
from scanloop.snapshots.manifest import SnapshotRecord, load_snapshot
from scanloop.taxonomy.lineage import lineage_of, older_versions
from scanloop.taxonomy.map_forward import map_forward, unmap
from scanloop.taxonomy.tree import Taxonomy

Run = Callable[..., dict[str, Any]]
BAGS = [f"bag-{number}" for number in range(28)]


def second(*changes: dict[str, Any], ids: tuple[str, ...], version: str = "t-2", follows: str = "t-1") -> Taxonomy:
    content = {"taxonomy_version": version, "follows": follows, "changes": list(changes)}
    return Taxonomy.model_validate(content | {"categories": [{"id": name, "name": name} for name in ids]})


RENAMED = second({"rename": "knife", "to": "blade"}, ids=("handgun", "blade", "grenade"))
SPLIT = second({"split": "knife", "into": ["dagger", "machete"]}, ids=("handgun", "dagger", "machete", "grenade"))
MERGED = second({"merge": ["handgun", "knife"], "into": "weapon"}, ids=("weapon", "grenade"))


def move_to(run_body: Run, taxonomy: Taxonomy, *categories: str, **changes: Any) -> None:
    line = ProductLine.model_validate(definition(taxonomy=taxonomy.taxonomy_version, categories=list(categories), **changes))
    name = f"define-{taxonomy.taxonomy_version}-{taxonomy.follows}"
    run_body("definitions.apply", lambda run: apply_definitions(run, taxonomy, [line]), run_id=name, lease="definitions")


def say(run_body: Run, name: str, act: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    return run_body("taxonomy.map", act, run_id=name, product_line="cabin", lease="cabin/taxonomy")


def freeze(world: World, run_body: Run, name: str) -> dict[str, SnapshotRecord]:
    made = run_job_of(run_body, "snapshot.create", name)
    return {row.scan_id: row for row in load_snapshot(world.store, made["snapshot_id"]).rows()}


def boxed(rows: dict[str, SnapshotRecord], **names: str) -> dict[str, list[Box]]:
    """Boxes by scan, with categories under other names."""
    return {scan: sorted(Box(names.get(box.category, box.category), box.bbox_xywh) for box in row.boxes) for scan, row in rows.items()}


@pytest.fixture
def labelled(run_body: Run, world: World) -> World:
    define(run_body)
    add_bags(run_body, world, BAGS)
    label_everything(run_body, "one")
    return world


def check_consistent(world: World) -> None:
    """What the loop counts is what snapshots are made of, and the log of changes is whole."""
    with world.catalog.read() as connection:
        (line,) = active_definitions(connection)
        (status,) = loop_status(connection)
        assert status.accepted_scans == len(labelled_scans(connection, line))
        assert list(audit.violations(connection)) == []


def test_after_a_rename_nothing_counts_until_it_is_mapped_and_then_everything_does(labelled: World, run_body: Run) -> None:
    before = freeze(labelled, run_body, "snap-1")
    move_to(run_body, RENAMED, "handgun", "blade")
    check_consistent(labelled)
    with pytest.raises(NothingToDo, match="cabin has 0 accepted scans"):
        run_job_of(run_body, "snapshot.create", "snap-2")
    (mapped,) = say(run_body, "map", map_forward)["mapped"]
    boxes = sum(len(row.boxes) for row in before.values())
    assert (mapped["from_version"], mapped["boxes"], mapped["boxes_carried"], mapped["open"]) == ("t-1", boxes, boxes, {})
    assert mapped["known"] == {"handgun": len(before), "blade": len(before)}
    check_consistent(labelled)
    after = freeze(labelled, run_body, "snap-3")
    assert boxed(after) == boxed(before, knife="blade")
    assert any(box.category == "blade" for row in after.values() for box in row.boxes)
    assert {row.looked_for for row in after.values()} == {("handgun", "blade")}
    assert {scan: row.split for scan, row in after.items()} == {scan: row.split for scan, row in before.items()}
    assert {scan: row.annotation_ids for scan, row in after.items()} == {scan: row.annotation_ids for scan, row in before.items()}
    # No annotation was written or changed for it.
    assert {row["taxonomy_version"] for row in rows_of(labelled, "annotations")} == {"t-1"}
    with pytest.raises(NothingToDo, match="count already"):
        say(run_body, "map-again", map_forward)


def test_a_mapping_can_be_taken_back_and_made_again(labelled: World, run_body: Run) -> None:
    move_to(run_body, RENAMED, "handgun", "blade")
    say(run_body, "map", map_forward)
    say(run_body, "unmap", lambda run: unmap(run, "t-1"))
    with pytest.raises(NothingToDo, match="do not count"):
        say(run_body, "unmap-again", lambda run: unmap(run, "t-1"))
    with pytest.raises(NothingToDo, match="0 accepted scans"):
        run_job_of(run_body, "snapshot.create", "snap")
    check_consistent(labelled)
    say(run_body, "map-again", map_forward)
    assert freeze(labelled, run_body, "snap-2")
    check_consistent(labelled)
    entries = rows_of(labelled, "audit_log", subject_kind="taxonomy_mappings")
    assert [entry["action"] for entry in entries] == ["taxonomy.mapped", "taxonomy.unmapped", "taxonomy.mapped"]


def test_after_a_split_clean_scans_count_and_the_others_are_asked_about_again(labelled: World, run_body: Run) -> None:
    before = freeze(labelled, run_body, "snap-1")
    move_to(run_body, SPLIT, "handgun", "dagger", "machete")
    (mapped,) = say(run_body, "map", map_forward)["mapped"]
    with_knife = {scan for scan, row in before.items() if any(box.category == "knife" for box in row.boxes)}
    assert mapped["open"] == {"knife": len(with_knife)}
    assert with_knife
    after = freeze(labelled, run_body, "snap-2")
    for scan, row in after.items():
        assert row.looked_for == (("handgun",) if scan in with_knife else ("handgun", "dagger", "machete"))
        assert {box.category for box in row.boxes} <= {"handgun"}
    # A backfill of a part asks about these scans, and about no other.
    made = run_body("backfill.plan", lambda run: plan_backfill(run, "dagger", None, None, None), run_id="back", product_line="cabin")
    chosen = {row["scan_id"] for row in rows_of(labelled, "selection_items", selection_id=made["selection_id"])}
    assert chosen == with_knife
    check_consistent(labelled)


def test_merged_classes_are_known_where_both_were_looked_for(labelled: World, run_body: Run) -> None:
    before = freeze(labelled, run_body, "snap-1")
    move_to(run_body, MERGED, "weapon")
    say(run_body, "map", map_forward)
    assert boxed(freeze(labelled, run_body, "snap-2")) == boxed(before, knife="weapon", handgun="weapon")
    with labelled.catalog.read() as connection:
        (line,) = active_definitions(connection)
        assert candidates_of(connection, line, category="weapon") == []


def test_two_steps_are_carried_at_once_and_each_version_is_mapped_by_itself(labelled: World, run_body: Run) -> None:
    before = freeze(labelled, run_body, "snap-1")
    move_to(run_body, RENAMED, "handgun", "blade")
    third = second({"merge": ["blade", "grenade"], "into": "other"}, ids=("handgun", "other"), version="t-3", follows="t-2")
    move_to(run_body, third, "handgun", "other")
    with pytest.raises(WrongArguments, match=r"does not go back to 't-9'\. Older versions: t-2, t-1"):
        say(run_body, "map-9", lambda run: map_forward(run, ["t-9"]))
    say(run_body, "map", lambda run: map_forward(run, ["t-1"]))
    after = freeze(labelled, run_body, "snap-2")
    # Nobody looked for grenades, so a scan without a blade may still hold something of the merged class.
    assert {row.looked_for for row in after.values()} == {("handgun",)}
    assert boxed(after) == {scan: [box for box in boxes if box.category == "handgun"] for scan, boxes in boxed(before).items()}


def test_an_answer_means_what_was_asked_though_the_definition_moved_on(run_body: Run, world: World) -> None:
    define(run_body)
    add_bags(run_body, world, BAGS)
    run_job_of(run_body, "selection.create", "select")
    move_to(run_body, RENAMED, "handgun", "blade")
    label_chosen(run_body, "one")
    assert {(row["taxonomy_version"], *row["looked_for"]) for row in rows_of(world, "annotations")} == {("t-1", "handgun", "knife")}
    say(run_body, "map", map_forward)
    rows = freeze(world, run_body, "snap")
    assert {row.looked_for for row in rows.values()} == {("handgun", "blade")}
    assert any(box.category == "blade" for row in rows.values() for box in row.boxes)


def test_a_snapshot_says_how_many_scans_wait_for_a_mapping(labelled: World, run_body: Run) -> None:
    move_to(run_body, RENAMED, "handgun", "blade", labelling={"schema_version": "2"})
    new = [f"new-{number}" for number in range(30)]
    add_bags(run_body, labelled, new, run_id="ingest-2")
    label_everything(run_body, "two")
    made = run_job_of(run_body, "snapshot.create", "snap")
    waiting = {reason: count for reason, count in made["counts"]["left_out"].items() if "t-1, which is not mapped" in reason}
    accepted = rows_of(labelled, "annotations", author_kind="consensus")
    before, after = ({row["scan_id"] for row in accepted if row["taxonomy_version"] == version} for version in ("t-1", "t-2"))
    assert list(waiting.values()) == [len(before - after)]


def test_a_version_must_account_for_the_one_before(labelled: World, run_body: Run) -> None:
    with pytest.raises(DataWrong, match="does not say which version it follows; product lines use t-1"):
        move_to(run_body, Taxonomy(taxonomy_version="t-2", categories=SPLIT.categories), "handgun")
    with pytest.raises(DataWrong, match="follows t-0, which is not in the catalog"):
        move_to(run_body, second(ids=("handgun", "knife", "grenade"), follows="t-0"), "handgun")
    with pytest.raises(DataWrong, match="say what became of 'knife'"):
        move_to(run_body, second(ids=("handgun", "grenade")), "handgun")
    assert [row["taxonomy_version"] for row in rows_of(labelled, "taxonomies")] == ["t-1"]
    third = second({"rename": "knife", "to": "blade"}, ids=("handgun", "blade", "grenade"), version="t-2b")
    move_to(run_body, RENAMED, "handgun", "blade")
    with pytest.raises(DataWrong, match="follows t-1, which does not go back to t-2; product lines use that version"):
        move_to(run_body, third, "handgun", "blade")
    with pytest.raises(DataWrong, match="Taxonomy t-2 is in the catalog with other changes"):
        move_to(run_body, Taxonomy(taxonomy_version="t-2", follows="", categories=RENAMED.categories), "handgun")
    anew = Taxonomy(taxonomy_version="x-1", follows="", categories=SPLIT.categories)
    move_to(run_body, anew, "handgun")
    with pytest.raises(NothingToDo, match="they are none"):
        say(run_body, "map", map_forward)


def test_sql_and_python_agree_about_random_histories(run_body: Run, world: World) -> None:
    drawn = random.Random(20260301)
    compared: Counter[bool] = Counter()
    versions = [first(drawn)]
    for _ in range(6):
        versions.append(next_of(drawn, *versions[-1]))
    taxonomies = [taxonomy for taxonomy, _ in versions]
    scans = add_bags(run_body, world, ["bag-1"], views=("side",))

    def notes() -> Any:
        for number in range(700):
            taxonomy = taxonomies[number % len(taxonomies)]
            looked_for = [name for name in taxonomy.ids if drawn.random() < 0.8]
            boxes = [Box(name, (1.0, 1.0, 2.0, 2.0)).as_json() for name in looked_for if drawn.random() < 0.25]
            yield {
                "annotation_id": f"n{number}", "scan_id": scans[0], "product_line": "cabin", "author": "x", "author_kind": "person",
                "tool": "x", "taxonomy_version": taxonomy.taxonomy_version, "looked_for": looked_for, "boxes": boxes,
            }  # fmt: skip

    def publish(run: Any) -> dict[str, Any]:
        run.publication.insert("taxonomies", [one.as_row() for one in taxonomies], action="taxonomy.added", subject="taxonomy_version")
        run.publication.insert("annotations", notes(), action="annotation.imported", subject="annotation_id")
        return {}

    run_body("test.notes", publish, run_id="notes")
    last = taxonomies[-1]
    line = ProductLine.model_validate(definition(taxonomy=last.taxonomy_version, categories=last.ids))
    mappings = [
        {"product_line": "cabin", "from_version": one.taxonomy_version, "to_version": last.taxonomy_version, "is_active": number != 2}
        for number, one in enumerate(taxonomies[:-1])
    ]
    subject = "product_line/from_version/to_version"
    run_body(
        "test.map",
        lambda run: run.publication.insert("taxonomy_mappings", mappings, action="taxonomy.mapped", subject=subject) or {},
        run_id="m",
    )
    with world.catalog.read() as connection:
        assert list(older_versions(connection, last.taxonomy_version)) == [one.taxonomy_version for one in taxonomies[-2::-1]]
        lineage = lineage_of(connection, line)
        assert taxonomies[2].taxonomy_version not in lineage.steps
        said = {}
        for row in connection.execute(sa.select(t.annotations)).mappings():
            boxes = [Box(one["category"], tuple(one["bbox_xywh"])) for one in row["boxes"]]
            found = lineage.carried(row["taxonomy_version"], row["looked_for"], boxes)
            said[row["annotation_id"]] = frozenset() if found is None else found[0]
        for category in last.ids:
            by_sql = set(
                connection.execute(sa.select(t.annotations.c.annotation_id).where(lineage.is_about(t.annotations, [category]))).scalars()
            )
            assert by_sql == {note for note, known in said.items() if category in known}, category
            compared[bool(by_sql)] += 1
        every = set(
            connection.execute(sa.select(t.annotations.c.annotation_id).where(lineage.is_about_all(t.annotations, last.ids))).scalars()
        )
        assert every == {note for note, known in said.items() if known.issuperset(last.ids)}
    assert compared[True] >= 2


def test_the_commands(
    labelled: World, run_body: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SCANLOOP_DATABASE_URL", labelled.settings.database_url)
    monkeypatch.setenv("SCANLOOP_HOME", str(labelled.settings.home))
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "cabin.yaml").write_text(yaml.safe_dump(definition(taxonomy="t-2", categories=["handgun", "dagger"])))
    content = SPLIT.model_dump(mode="json", exclude_none=True)
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(content | {"follows": "t-0"}))
    assert cli(["definitions", "diff", "--folder", str(folder)]) == 0
    assert "Applying this is refused: Taxonomy t-2 follows t-0, which is not in the catalog." in capsys.readouterr().err
    assert cli(["definitions", "apply", "--folder", str(folder)]) == 65
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(content))
    assert cli(["definitions", "apply", "--folder", str(folder)]) == 0
    capsys.readouterr()
    assert cli(["taxonomy", "list"]) == 0
    listed = capsys.readouterr().out
    assert "t-2" in listed
    assert "cabin" in listed
    assert cli(["taxonomy", "show", "t-2"]) == 0
    assert "Since t-1: knife is split into dagger, machete." in capsys.readouterr().out
    assert cli(["taxonomy", "show", "t-9"]) == 64
    assert cli(["taxonomy", "map", "--product-line", "cabin", "--dry-run"]) == 0
    shown = capsys.readouterr().err
    assert "have a box of knife, which was split" in shown
    assert rows_of(labelled, "taxonomy_mappings") == []
    assert cli(["taxonomy", "map", "--product-line", "cabin"]) == 0
    assert cli(["taxonomy", "map", "--product-line", "cabin"]) == 99
    assert cli(["taxonomy", "map", "--product-line", "cabin", "--from", "t-7"]) == 64
    assert cli(["taxonomy", "map", "--product-line", "hold"]) == 64
    assert cli(["taxonomy", "unmap", "--product-line", "cabin", "--from", "t-1"]) == 0
    assert cli(["taxonomy", "unmap", "--product-line", "cabin", "--from", "t-1"]) == 99
    assert [row["is_active"] for row in rows_of(labelled, "taxonomy_mappings")] == [False]


def test_a_split_class_that_keeps_its_id_is_asked_about_again(labelled: World, run_body: Run) -> None:
    before = freeze(labelled, run_body, "snap-1")
    narrowed = second({"split": "knife", "into": ["knife", "machete"]}, ids=("handgun", "knife", "machete", "grenade"))
    move_to(run_body, narrowed, "handgun", "knife", "machete")
    say(run_body, "map", map_forward)
    with_knife = {scan for scan, row in before.items() if any(box.category == "knife" for box in row.boxes)}
    made = run_body("backfill.plan", lambda run: plan_backfill(run, "knife", None, None, None), run_id="back", product_line="cabin")
    assert {row["scan_id"] for row in rows_of(labelled, "selection_items", selection_id=made["selection_id"])} == with_knife
    label_chosen(run_body, "two")
    tasks = rows_of(labelled, "labelling_tasks", selection_id=made["selection_id"])
    assert {row["scan_id"] for row in tasks} == with_knife
    after = freeze(labelled, run_body, "snap-2")
    assert any(box.category == "knife" for row in after.values() for box in row.boxes)
    with pytest.raises(NothingToDo):
        run_body("backfill.plan", lambda run: plan_backfill(run, "knife", None, None, None), run_id="again", product_line="cabin")


def test_answers_that_come_after_the_mapping_count_too(run_body: Run, world: World) -> None:
    define(run_body)
    add_bags(run_body, world, BAGS)
    run_job_of(run_body, "selection.create", "select")
    run_job_of(run_body, "labelling.push", "push")
    move_to(run_body, RENAMED, "handgun", "blade")
    assert [one["annotations"] for one in say(run_body, "map", map_forward)["mapped"]] == [0]
    run_job_of(run_body, "labelling.pull", "pull")
    run_job_of(run_body, "review.run", "review")
    assert {row.looked_for for row in freeze(world, run_body, "snap").values()} == {("handgun", "blade")}


def test_imports_under_an_older_version_wait_too(run_body: Run, world: World) -> None:
    define(run_body)
    scans = add_bags(run_body, world, BAGS)

    def bring(run: Any) -> dict[str, Any]:
        about = {"product_line": "cabin", "author": "set", "author_kind": "report", "tool": "import:coco", "taxonomy_version": "t-1"}
        rows = [about | {"annotation_id": f"i-{scan}", "scan_id": scan, "looked_for": ["handgun", "knife"], "boxes": []} for scan in scans]
        run.publication.insert("annotations", rows, action="annotation.imported", subject="annotation_id")
        return {}

    run_body("test.import", bring, run_id="import")
    anew = Taxonomy(taxonomy_version="x-1", follows="", categories=SPLIT.categories)
    move_to(run_body, RENAMED, "handgun", "blade")
    with world.catalog.read() as connection:
        (line,) = active_definitions(connection)
        assert unmapped_scans(connection, line, ()) == {
            "labelled under the taxonomy t-1, which is not mapped (scanloop taxonomy map)": len(scans)
        }
        assert unmapped_scans(connection, line, scans) == {}
    move_to(run_body, anew, "handgun")
    with world.catalog.read() as connection:
        (line,) = active_definitions(connection)
        assert unmapped_scans(connection, line, ()) == {"labelled under the taxonomy t-1, to which x-1 does not go back": len(scans)}
