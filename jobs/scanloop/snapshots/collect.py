"""From the catalog to the rows of a snapshot."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import tables
from scanloop.curation.near_duplicates import Fingerprint
from scanloop.labelling.boxes import boxes_from_json
from scanloop.labelling.trusted import is_believed, is_trusted, is_trusted_report, not_replaced
from scanloop.product_lines import ProductLine
from scanloop.query.sql import of_product_line
from scanloop.snapshots.effective import AnnotationSet, EffectiveAnnotation, effective_annotation
from scanloop.snapshots.manifest import WITHHELD, SnapshotRecord
from scanloop.snapshots.past import NOTHING_BEFORE, Past
from scanloop.snapshots.splits import NEAR_COPY, WAITS, allotted, is_frozen, split_bags, unit_of
from scanloop.taxonomy.lineage import Lineage, lineage_of, older_versions

_SYNTHETIC = "projected threats outside train"


@dataclass(frozen=True)
class LabelledScan:
    """A scan with everything that was accepted about it."""

    facts: Mapping[str, Any]
    """Its columns and its scanner's model."""
    whole: tuple[AnnotationSet, ...]
    """Annotations from selections in which every chosen scan of the bag was accepted."""
    partial: tuple[AnnotationSet, ...]
    """Annotations from selections in which another scan of the bag is still open, or was never agreed on."""


@dataclass(frozen=True)
class Collected:
    """The rows of a snapshot, and what did not become one."""

    records: list[SnapshotRecord]
    """By bag and scan."""
    left_out: dict[str, int]
    """Accepted scans that are no row, by reason."""
    withheld_for: dict[str, str]
    """Bags withheld as near copies, and the bag each is one of."""
    withheld: dict[str, int] = field(default_factory=dict)
    """Scans that are withheld, by reason."""


def labelled_scans(connection: sa.Connection, definition: ProductLine) -> list[LabelledScan]:
    """Every validated scan of the product line's scanners with an accepted annotation, or one that is trusted as it came, by scan id.

    Annotations under an older version of the taxonomy say what they say under the definition's; those of one that is not mapped are not there.
    """
    tasks, reviews, notes = tables.labelling_tasks, tables.reviews, tables.annotations
    lineage = lineage_of(connection, definition)
    accepted = connection.execute(
        sa.select(
            tasks.c.scan_id,
            tasks.c.bag_id,
            tasks.c.selection_id,
            notes.c.annotation_id,
            notes.c.taxonomy_version,
            notes.c.looked_for,
            notes.c.boxes,
            reviews.c.created_at,
        )
        .join(tasks, tasks.c.task_id == reviews.c.task_id)
        .join(notes, notes.c.annotation_id == reviews.c.annotation_id)
        .where(reviews.c.product_line == definition.product_line, reviews.c.verdict == "accepted", lineage.counts(notes))
    ).all()
    unfinished = _unfinished_portions(connection, definition.product_line)
    whole: dict[str, list[AnnotationSet]] = defaultdict(list)
    partial: dict[str, list[AnnotationSet]] = defaultdict(list)
    for row in accepted:
        note = _annotation_set(row, lineage)
        (partial if (row.bag_id, row.selection_id) in unfinished else whole)[row.scan_id].append(note)
    for scan_id, note in _trusted(connection, definition, lineage):
        whole[scan_id].append(note)
    for scan_id, note, is_whole in _from_reports(connection, definition, lineage):
        (whole if is_whole else partial)[scan_id].append(note)
    scan_ids = sorted({*whole, *partial})
    facts = _facts(connection, scan_ids, definition)
    return [
        LabelledScan(facts[scan_id], tuple(whole[scan_id]), tuple(partial[scan_id]))
        for scan_id in scan_ids
        if scan_id in facts and definition.covers(facts[scan_id]["scanner_id"])
    ]


def unmapped_scans(connection: sa.Connection, definition: ProductLine, used: Collection[str]) -> dict[str, int]:
    """Scans of the product line, beside those `used`, about which something is known under versions of the taxonomy that do not count, by reason."""
    notes, scans = tables.annotations, tables.scans
    lineage = lineage_of(connection, definition)
    rows = connection.execute(
        sa.select(notes.c.taxonomy_version, scans.c.scan_id, scans.c.scanner_id)
        .join(scans, scans.c.scan_id == notes.c.scan_id)
        .where(
            ~lineage.counts(notes),
            is_believed(notes, definition),
            scans.c.state == "validated",
            of_product_line(definition.query),
        )
        .distinct()
    ).all()
    older = older_versions(connection, definition.taxonomy)
    found: Counter[str] = Counter()
    for version, scan_id, scanner_id in rows:
        if scan_id not in used and definition.covers(scanner_id):
            way = "which is not mapped (scanloop taxonomy map)" if version in older else f"to which {definition.taxonomy} does not go back"
            found[f"labelled under the taxonomy {version}, {way}"] += 1
    return dict(sorted(found.items()))


def _annotation_set(row: Any, lineage: Lineage) -> AnnotationSet:
    """What an annotation of a version that counts says under the definition's."""
    said = lineage.carried(row.taxonomy_version, row.looked_for, boxes_from_json(row.boxes))
    assert said is not None
    return AnnotationSet(row.annotation_id, row.created_at.isoformat(), *said)


def _trusted(connection: sa.Connection, definition: ProductLine, lineage: Lineage) -> Iterator[tuple[str, AnnotationSet]]:
    """Scan and annotation for each about a category of the definition that counts without a review and that no later one of its kind replaces."""
    notes = tables.annotations
    rows = connection.execute(
        sa.select(*_said(notes))
        .where(
            notes.c.product_line == definition.product_line,
            is_trusted(notes),
            not_replaced(notes),
            lineage.is_about(notes, definition.categories),
        )
        .order_by(notes.c.annotation_id)
    )
    for row in rows:
        yield row.scan_id, _annotation_set(row, lineage)


def _said(notes: sa.Table) -> list[sa.Column[Any]]:
    return [notes.c[name] for name in ("scan_id", "annotation_id", "taxonomy_version", "looked_for", "boxes", "created_at")]


def _from_reports(connection: sa.Connection, definition: ProductLine, lineage: Lineage) -> Iterator[tuple[str, AnnotationSet, bool]]:
    """Scan and annotation from each report of a type that the product line trusts; and whether every scan that the report names is there."""
    if not definition.labelling.trusted_reports:
        return
    notes, reports = tables.annotations, tables.threat_reports
    rows = connection.execute(
        sa.select(*_said(notes), reports.c.state)
        .join(reports, reports.c.report_id == notes.c.report_id)
        .where(is_trusted_report(notes, definition), lineage.is_about(notes, definition.categories))
        .order_by(notes.c.annotation_id)
    )
    for row in rows:
        yield row.scan_id, _annotation_set(row, lineage), row.state == "matched"


def _unfinished_portions(connection: sa.Connection, product_line: str) -> set[tuple[str, str]]:
    """(bag, selection) where a chosen, still validated scan is not accepted in any round."""
    items, selections, scans, tasks = tables.selection_items, tables.selections, tables.scans, tables.labelling_tasks
    settled = sa.exists().where(
        tasks.c.product_line == selections.c.product_line,
        tasks.c.scan_id == items.c.scan_id,
        tasks.c.selection_id == items.c.selection_id,
        tasks.c.state == "accepted",
    )
    rows = connection.execute(
        sa.select(scans.c.bag_id, items.c.selection_id)
        .join(selections, selections.c.selection_id == items.c.selection_id)
        .join(scans, scans.c.scan_id == items.c.scan_id)
        .where(selections.c.product_line == product_line, items.c.is_chosen, scans.c.state == "validated", ~settled)
        .distinct()
    )
    return {(bag_id, selection_id) for bag_id, selection_id in rows}


def _facts(connection: sa.Connection, scan_ids: Sequence[str], definition: ProductLine) -> dict[str, Mapping[str, Any]]:
    scans, scanners = tables.scans, tables.scanners
    names = ("scan_id", "bag_id", "site_id", "scanner_id", "view_name", "planes_key", "planes", "acquired_at", "phash", "is_projected")
    rows = connection.execute(
        sa.select(*(scans.c[name] for name in names), (scanners.c.manufacturer + " " + scanners.c.model).label("scanner_model"))
        .join(scanners, scanners.c.scanner_id == scans.c.scanner_id)
        .where(scans.c.scan_id == sa.func.any(list(scan_ids)), scans.c.state == "validated", of_product_line(definition.query))
    )
    return {row["scan_id"]: dict(row) for row in rows.mappings()}


def records_of(scans: Iterable[LabelledScan], definition: ProductLine, past: Past = NOTHING_BEFORE) -> Collected:
    """Decide split and annotation of every labelled scan, knowing what earlier snapshots did. The order of the input does not matter.

    A bag in val or test is scored as a whole: what its clean views show counts as much as what the others do. So there only annotations from
    finished portions count; train takes everything that was accepted. A scan without the planes that the definition trains on is no row.
    """
    left_out: Counter[str] = Counter()
    known = []
    for scan in sorted(scans, key=lambda scan: (scan.facts["bag_id"], scan.facts["scan_id"])):
        if definition.training.needed_planes <= {plane["name"] for plane in scan.facts["planes"]}:
            known.append(scan)
        else:
            left_out["no planes that the detector reads"] += 1
    rules = definition.snapshot
    units: dict[str, set[str | None]] = defaultdict(set)
    for scan in known:
        units[scan.facts["bag_id"]].add(unit_of(scan.facts, rules.split_by))
    decided = {bag_id: allotted(bag_id, found, rules, past) for bag_id, found in units.items()}
    split_by_bag = {bag_id: split for bag_id, (split, _) in decided.items()}
    records = []
    for scan in known:
        is_train = split_by_bag[scan.facts["bag_id"]] == "train"
        found = effective_annotation([*scan.whole, *(scan.partial if is_train else ())], definition.categories)
        if not found.looked_for:
            left_out["bag not finished" if scan.partial else "no category of the definition was looked for"] += 1
            continue
        records.append(_record(scan.facts, found))
    # A new view of a bag that is in a frozen test set waits, as new bags do.
    late = {record.scan_id for record in records if split_by_bag[record.bag_id] == "test" and record.scan_id not in past.scan_ids}
    waiting = late if is_frozen(rules, past) else set()
    # What is used in no split whatever happens hinders nobody.
    unusable = waiting | {record.scan_id for record in records if record.is_synthetic and split_by_bag[record.bag_id] != "train"}
    prints = [_fingerprint(record) for record in records if record.scan_id not in unusable]
    splitting = split_bags(prints, split_by_bag, definition.selection.near_duplicate_bits, past)
    threat_bags = {record.bag_id for record in records if record.boxes}
    placed = []
    withheld: Counter[str] = Counter()
    for record in records:
        why = WAITS if record.scan_id in waiting else decided[record.bag_id][1]
        placed.append(_placed(record, WITHHELD if why else splitting.split_by_bag[record.bag_id], threat_bags))
        if placed[-1].split == WITHHELD:
            withheld[why or (NEAR_COPY if record.bag_id in splitting.withheld_for else _SYNTHETIC)] += 1
    return Collected(placed, dict(sorted(left_out.items())), splitting.withheld_for, dict(sorted(withheld.items())))


def _record(facts: Mapping[str, Any], found: EffectiveAnnotation) -> SnapshotRecord:
    planes = facts["planes"]
    return SnapshotRecord(
        scan_id=facts["scan_id"],
        bag_id=facts["bag_id"],
        site_id=facts["site_id"],
        scanner_id=facts["scanner_id"],
        scanner_model=facts["scanner_model"],
        view_name=facts["view_name"],
        planes_key=facts["planes_key"],
        planes=tuple(plane["name"] for plane in planes),
        height_px=planes[0]["height_px"],
        width_px=planes[0]["width_px"],
        acquired_at=facts["acquired_at"].astimezone(UTC).isoformat() if facts["acquired_at"] else None,
        phash=facts["phash"] or None,
        split=WITHHELD,
        is_synthetic=facts["is_projected"],
        is_clean_bag=False,
        looked_for=found.looked_for,
        annotation_ids=found.annotation_ids,
        boxes=found.boxes,
    )


def _fingerprint(record: SnapshotRecord) -> Fingerprint:
    return Fingerprint(record.scan_id, record.bag_id, record.scanner_model, record.view_name, record.phash)


def _placed(record: SnapshotRecord, split: str, threat_bags: Collection[str]) -> SnapshotRecord:
    """Give a record its split. Projected threats are for training only: in any other split their scan is withheld."""
    is_misplaced = record.is_synthetic and split != "train"
    return replace(record, split=WITHHELD if is_misplaced else split, is_clean_bag=record.bag_id not in threat_bags)
