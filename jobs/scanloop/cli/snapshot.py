"""`scanloop snapshot`: frozen datasets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from scanloop.cli.options import AttemptOption, ProductLineArg, RunIdOption, RunOptions, World, open_world, print_result, run_job

app = typer.Typer(no_args_is_help=True, help="Freeze accepted annotations into immutable datasets; look at, check and export them.")
_NAMED = "Id of the snapshot, or the beginning of it; or PRODUCT_LINE@NUMBER, PRODUCT_LINE@latest."
SnapshotArg = Annotated[str, typer.Argument(help=_NAMED, show_default=False)]


@app.command("create")
def create(product_line: ProductLineArg, run_id: RunIdOption = None, attempt: AttemptOption = 1) -> None:
    """Freeze what is accepted now. Exit code 99: nothing changed, or too little; the message says how many scans it still takes."""
    from scanloop.snapshots.create import create_snapshot

    run_job("snapshot.create", create_snapshot, product_line=product_line, options=RunOptions(run_id, attempt), lease="snapshot")


@app.command("show")
def show(
    snapshot_id: SnapshotArg,
    as_json: Annotated[bool, typer.Option("--json", help="Print the root's facts as one JSON line.")] = False,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw the balance over scanners and categories as PNG.")] = None,
) -> None:
    """Show what a snapshot holds, and how train is balanced over scanners and categories, before and after its rules."""
    from scanloop.errors import WrongArguments
    from scanloop.snapshots.counts import WITHHELD_REASON
    from scanloop.snapshots.manifest import load_snapshot
    from scanloop.snapshots.picture import cells, draw

    world = open_world()
    with closing(world.catalog):
        row = _find(world, snapshot_id)
    reader = load_snapshot(world.store, row["snapshot_id"])
    root = reader.root
    balance = cells(reader.rows(), reader.categories)
    if picture is not None:
        if picture.suffix != ".png":
            raise WrongArguments(f"The picture is a PNG: give it a name that ends in .png, not {picture.name}.")
        draw(balance, f"Snapshot {row['snapshot_id'][:12]} of {row['product_line']}", picture)
    if as_json:
        facts = {name: row[name] for name in ("snapshot_id", "product_line", "definition_version", "parent_id", "sequence")}
        print_result(
            facts
            | {"categories": list(root.categories), "rules": root.rules, "shards": len(root.shards), "counts": row["counts"]}
            | {"balance": vars(balance) | {"before": balance.before.tolist(), "after": balance.after.round(3).tolist()}}
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Snapshot {row['snapshot_id'][:12]} of {row['product_line']}, number {row['sequence']}")
    for heading in ("split", "scans", "bags", "clean bags", *root.categories):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in root.counts["splits"].items():
        boxes = (str(counts["boxes"][category]) for category in root.categories)
        table.add_row(split, str(counts["scans"]), str(counts["bags"]), str(counts["clean_bags"]), *boxes)
    table.caption = f"{len(root.shards)} shards; parent {(row['parent_id'] or 'none')[:12]}"
    Console().print(table)
    shares = Table("scanner", title="Train: scans, and how often they are shown in one pass")
    for column in balance.columns:
        shares.add_column(column, justify="right")
    for number, scanner in enumerate(balance.scanners):
        pairs = zip(balance.before[number], balance.after[number], strict=True)
        shares.add_row(scanner, *(f"{before} → {after:.0f}" if before else "–" for before, after in pairs))
    Console().print(shares)
    because = row["counts"].get("withheld_because") or {}
    cut = {reason: number for reason, number in row["counts"]["withheld"].items() if not because or reason != WITHHELD_REASON}
    for reason, number in {**because, **cut, **row["counts"]["left_out"]}.items():
        typer.echo(f"{number} scans not used: {reason}")


@app.command("verify")
def verify(
    snapshot_id: SnapshotArg,
    is_with_parents: Annotated[
        bool, typer.Option("--with-parents", help="Compare it with every snapshot before it: nothing may have changed its split.")
    ] = False,
) -> None:
    """Read every shard again: digests, counts, and no bag or near copy in two splits. Exit code 65: something is wrong."""
    from scanloop.errors import DataWrong
    from scanloop.snapshots.manifest import load_snapshot
    from scanloop.snapshots.verify import leaks_between, violations

    world = open_world()
    with closing(world.catalog):
        row = _find(world, snapshot_id)
        reader = load_snapshot(world.store, row["snapshot_id"])
        found = list(violations(reader))
        rows = list(reader.rows())
        parent_id = row["parent_id"] if is_with_parents else None
        while parent_id is not None:
            parent = _find(world, parent_id)
            parent_id = parent["parent_id"]
            earlier = list(load_snapshot(world.store, parent["snapshot_id"]).rows())
            leaks = leaks_between(earlier, rows, int(reader.root.rules["near_duplicate_bits"]))
            found += [f"Snapshot {parent['snapshot_id'][:12]}: {sentence}" for sentence in leaks]
    for sentence in found:
        typer.echo(sentence, err=True)
    if found:
        raise DataWrong(f"Snapshot {reader.snapshot_id[:12]} is not what it says: {len(found)} violations, first: {found[0]}")
    print_result({"snapshot_id": reader.snapshot_id, "scans": reader.counts["scans"], "shards": len(reader.root.shards), "violations": 0})


@app.command("diff")
def diff(
    earlier: Annotated[str, typer.Argument(help="The earlier snapshot: id, or PRODUCT_LINE@NUMBER.", show_default=False)],
    later: Annotated[str, typer.Argument(help="The later one.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Show at most so many scans.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print every scan that differs as a JSON line.")] = False,
) -> None:
    """Say which scans, annotations, weights and splits changed between two snapshots, and why."""
    import json
    import sys

    from scanloop.errors import WrongArguments
    from scanloop.snapshots.diff import changes, explained, rules_changed, totals
    from scanloop.snapshots.manifest import load_snapshot

    world = open_world()
    with closing(world.catalog):
        rows = [_find(world, snapshot_id) for snapshot_id in (earlier, later)]
        if rows[0]["product_line"] != rows[1]["product_line"]:
            raise WrongArguments(
                f"The snapshots are of {rows[0]['product_line']} and {rows[1]['product_line']}; compare those of one product line."
            )
        one, other = (load_snapshot(world.store, row["snapshot_id"]) for row in rows)
        found = list(changes(one, other))
        with world.catalog.read() as connection:
            found = explained(connection, found)
    if as_json:
        sys.stdout.writelines(json.dumps(vars(change)) + "\n" for change in found)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for name, (before, after) in rules_changed(one, other).items():
        typer.echo(f"Rule {name}: {json.dumps(before)} before, {json.dumps(after)} now.")
    table = Table("scan", "bag", "what", "before", "after", "why")
    for change in found[:limit]:
        what = change.kind if not change.parts else ", ".join(change.parts)
        table.add_row(change.scan_id[:12], escape(change.bag_id), what, *map(_brief, (change.before, change.after)), escape(change.why))
    if limit and found:
        Console().print(table)
    print_result({"earlier": one.snapshot_id, "later": other.snapshot_id, **totals(found)})


@app.command("lineage")
def lineage(snapshot_id: SnapshotArg) -> None:
    """Show a snapshot, its parents back to the first, what each added, and the models that were trained on it."""
    import sqlalchemy as sa
    from rich.console import Console
    from rich.table import Column, Table

    from scanloop.catalog import tables
    from scanloop.snapshots.diff import changes, totals
    from scanloop.snapshots.manifest import load_snapshot

    world = open_world()
    with closing(world.catalog):
        row: dict[str, Any] | None = _find(world, snapshot_id)
        table = Table("number", Column("snapshot", min_width=12), "made", "scans", "added", "removed", "changed", "models")
        while row is not None:
            with world.catalog.read() as connection:
                models = connection.execute(
                    sa.select(tables.models.c.model_id).where(tables.models.c.snapshot_id == row["snapshot_id"]).order_by(sa.text("1"))
                ).scalars()
                names = ", ".join(model[:12] for model in models)
            parent = _find(world, row["parent_id"]) if row["parent_id"] else None
            moved = ["", "", ""]
            if parent is not None:
                counts = totals(list(changes(*(load_snapshot(world.store, one["snapshot_id"]) for one in (parent, row)))))
                moved = [str(counts[kind]) for kind in ("added", "removed", "changed")]
            made = row["created_at"].strftime("%Y-%m-%d %H:%M")
            table.add_row(str(row["sequence"]), row["snapshot_id"][:12], made, str(row["counts"]["scans"]), *moved, names)
            row = parent
    Console().print(table)


def _brief(said: Mapping[str, Any]) -> str:
    """The parts of a row that a person looks at."""
    parts = [str(said[name]) for name in ("split",) if name in said]
    parts += [f"weight {said['weight']:g}"] if "weight" in said else []
    parts += [f"{len(said['boxes'])} boxes"] if "boxes" in said else []
    return ", ".join(parts)


@app.command("export")
def export(
    snapshot_id: SnapshotArg, out: Annotated[Path, typer.Option("--out", help="Folder for train.json, val.json and test.json.")]
) -> None:
    """Write the splits as COCO JSON. Pixels stay in the store: `file_name` is the key of a scan's planes."""
    from scanloop.canonical import canonical_json
    from scanloop.snapshots.coco import to_coco
    from scanloop.snapshots.manifest import SPLITS, load_snapshot

    world = open_world()
    with closing(world.catalog):
        reader = load_snapshot(world.store, _find(world, snapshot_id)["snapshot_id"])
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in SPLITS:
        path = out / f"{split}.json"
        content = to_coco(reader.records(split), reader.categories)
        path.write_bytes(canonical_json(content))
        files[split] = {"path": str(path), "images": len(content["images"]), "annotations": len(content["annotations"])}
    print_result({"snapshot_id": reader.snapshot_id, "files": files})


@app.command("gc")
def gc(
    min_age_h: Annotated[float, typer.Option("--min-age-h", min=0, help="Delete only what is at least so many hours old.")] = 24.0,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    run_id: RunIdOption = None,
    attempt: AttemptOption = 1,
) -> None:
    """Delete shards and roots that no snapshot needs: what runs left behind that were ended. Exit code 99: there are none; 75: one is being made.

    Snapshots themselves stay, and so do pixels and annotations.
    """
    from scanloop.snapshots.gc import collect_garbage, garbage_of

    if not is_dry:
        run_job(
            "snapshot.gc", lambda run: collect_garbage(run, min_age_h=min_age_h), options=RunOptions(run_id, attempt), lease="snapshot-gc"
        )
        return
    world = open_world()
    with closing(world.catalog):
        found = garbage_of(world.catalog, world.store, min_age_h=min_age_h)
    for entry in found.unused:
        typer.echo(f"{entry.modified_at:%Y-%m-%d %H:%M}  {entry.size_bytes:>12}  {entry.key}", err=True)
    freed = sum(entry.size_bytes for entry in found.unused)
    print_result({"unused": len(found.unused), "bytes": freed, "kept": found.used, "young": found.young})


def _find(world: World, snapshot_id: str) -> dict[str, Any]:
    import sqlalchemy as sa

    from scanloop.catalog import tables
    from scanloop.errors import WrongArguments

    line, _, number = snapshot_id.rpartition("@")
    snapshots = tables.snapshots
    with world.catalog.read() as connection:
        query = sa.select(snapshots).limit(2)
        if line and number == "latest":
            query = query.where(snapshots.c.product_line == line).order_by(snapshots.c.sequence.desc()).limit(1)
        elif line and number.isdecimal() and len(number) < 10:
            query = query.where(snapshots.c.product_line == line, snapshots.c.sequence == int(number))
        else:
            query = query.where(snapshots.c.snapshot_id.startswith(snapshot_id, autoescape=True))
        rows = [dict(row) for row in connection.execute(query).mappings()]
    if line and number and not rows:
        raise WrongArguments(f"{line} has no snapshot {number}." if number != "latest" else f"{line} has no snapshot yet.")
    if len(rows) != 1:
        raise WrongArguments(f"{'More than one snapshot begins' if rows else 'No snapshot begins'} with {snapshot_id!r}.")
    return rows[0]
