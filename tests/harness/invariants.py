"""What must hold after every fault, bad input and attack: one function a letter, each gives its violations as sentences. Green is none.

    L  nothing lost       what was delivered is catalogued or quarantined, once, and its bytes are kept
    T  nothing twice      one task, one label, one model, one release for one piece of work
    R  no false ready     nothing counts without a receipt, hashes that match, and a signature where one is due
    A  audit              every change is on record, in an unbroken chain, and the catalog is what the record says
    C  converges          the catalog is what it would be without the fault

They look with their own eyes: at the files, the tables and the publications, not through the functions of the jobs that made them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.world import World
from scanloop.catalog import tables as t
from scanloop.cli.options import World as Opened
from scanloop.execution.anchors import audit_violations
from scanloop.execution.publication import Insert, Publication, Update
from scanloop.execution.receipts import load_with_hash
from scanloop.store import open_store

NOT_PUBLISHED = ("runs", "run_links", "leases", "audit_log", "audit_head")
"""Tables that execution itself keeps; every other row comes from a publication."""


def check_all(world: World, *, killed: bool = False) -> list[str]:
    """Every invariant but C. `killed`: a job was just killed, so one receipt may wait for its run to come again."""
    checks: dict[str, Callable[..., Iterator[str]]] = {"L": lost, "T": twice, "R": false_ready, "A": audit}
    with world.open() as opened:
        return [f"{letter}: {each}" for letter, check in checks.items() for each in check(world, opened, killed=killed)]


def lost(world: World, opened: Opened, *, killed: bool = False) -> Iterator[str]:
    """L. The ledger says what was delivered; what is no longer in the landing zone was acknowledged."""
    scans, held, deliveries = _rows(opened, t.scans), _rows(opened, t.quarantine), _rows(opened, t.deliveries)
    reports = _rows(opened, t.threat_reports)
    homes = Counter(row["scan_id"] for row in scans) + Counter(row["quarantine_id"] for row in held if row["stage"] == "intake")
    homes += Counter(row["report_id"] for row in reports)
    raw = {row["report_id"]: row["raw_key"] for row in reports}
    raw |= {row["scan_id"]: row["raw_key"] for row in scans} | {row["quarantine_id"]: row["raw_key"] for row in held}
    noted = {(row["landing_key"], row["content_sha256"]): row["outcome"] for row in deliveries}
    kept = {sha256 for sha256, key in raw.items() if _sha256(world.home / "store" / key) == sha256}
    for delivered in sorted(world.ledger.entries, key=lambda each: each.landing_key):
        name = f"{delivered.landing_key} ({delivered.sha256[:12]})"
        outcome = noted.get((delivered.landing_key, delivered.sha256))
        if _sha256(world.home / "landing" / delivered.landing_key) == delivered.sha256 and outcome is None:
            continue  # nobody has acknowledged it
        if outcome is None:
            yield f"{name} is gone from the landing zone and is not in the ledger of deliveries."
        elif delivered.is_sidecar:
            if (
                outcome != "sidecar"
                or _sha256(world.home / "store" / f"scans/raw/{delivered.sha256[:2]}/{delivered.sha256}") != delivered.sha256
            ):
                yield f"The sidecar {name} was acknowledged as {outcome} and is not kept."
        elif homes[delivered.sha256] != 1:
            yield f"{name} was acknowledged and is catalogued or quarantined {homes[delivered.sha256]} times."
        elif delivered.sha256 not in kept:
            yield f"The bytes of {name} are not in the store as they were delivered."
    for row in scans:
        key = Path(row["planes_key"])
        if _sha256(world.home / "store" / key) != key.name.partition(".")[0]:
            yield f"The planes of scan {row['scan_id'][:12]} are not in the store as they were written."
    for row in reports:
        for mask in _masks(row["threats"]):
            if _sha256(world.home / "store" / mask) != mask.rpartition("/")[2].partition(".")[0]:
                yield f"The mask {mask} of report {row['report_id'][:12]} is not in the store as it was written."


def _masks(threats: list[dict[str, Any]]) -> Iterator[str]:
    for threat in threats:
        for place in threat["representations"]:
            yield from (region["mask"] for region in place["regions"] if region["mask"])


def twice(world: World, opened: Opened, *, killed: bool = False) -> Iterator[str]:
    """T. Counted by what the work is about, not by the keys of the rows."""
    groups: dict[str, list[tuple[Any, ...]]] = {
        "scan of one content": [(row["raw_key"],) for row in _rows(opened, t.scans)],
        "delivery of one object": [(row["landing_key"], row["content_sha256"], row["run_id"]) for row in _rows(opened, t.deliveries)],
        "task of one scan and round": [
            (row["product_line"], row["scan_id"], row["schema_version"], row["round"]) for row in _rows(opened, t.labelling_tasks)
        ],
        "task under one id of the labelling server": [
            (row["product_line"], row["external_id"]) for row in _rows(opened, t.labelling_tasks)
        ],
        "open task of one scan": [
            (row["product_line"], row["scan_id"]) for row in _rows(opened, t.labelling_tasks) if row["state"] in ("open", "submitted")
        ],
        "label of one person for one task": [
            (row["task_id"], row["author"]) for row in _rows(opened, t.annotations) if row["task_id"] and row["author_kind"] == "person"
        ],
        "report of one content": [(row["raw_key"],) for row in _rows(opened, t.threat_reports)],
        "annotation of one report and scan": [
            (row["report_id"], row["scan_id"]) for row in _rows(opened, t.annotations) if row["report_id"]
        ],
        "consensus of one task": [(row["task_id"],) for row in _rows(opened, t.annotations) if row["author_kind"] == "consensus"],
        "model of one run": [(row["run_id"],) for row in _rows(opened, t.models)],
        "release of one model": [
            (row["product_line"], row["channel"], row["model_id"]) for row in _rows(opened, t.releases) if row["state"] != "refused"
        ],
        "snapshot of one place in the sequence": [(row["product_line"], row["sequence"]) for row in _rows(opened, t.snapshots)],
        "finish of one run": [
            (row["run_id"], row["subject_id"], row["details"]["part"])
            for row in _rows(opened, t.audit_log)
            if row["action"] == "run.finished"
        ],
    }
    for noun, members in groups.items():
        for member, count in Counter(members).items():
            if count > 1:
                yield f"There are {count} times a {noun}: {' / '.join(str(part)[:60] for part in member)}."
    yield from _server_tasks(opened)
    history = [row["sequence"] for row in sorted(_rows(opened, t.champion_history), key=lambda row: (row["product_line"], row["sequence"]))]
    if history != list(range(1, len(history) + 1)):
        yield f"The history of champions counts {history}."


def _server_tasks(opened: Opened) -> Iterator[str]:
    """What the simulated labelling server holds: every scan and round once."""
    asked = [task for stored in opened.store.list("labelling-sim/") for task in json.loads(opened.store.get(stored.key))["tasks"]]
    for (scan_id, number), count in Counter((task["scan_id"], task["round"]) for task in asked).items():
        if count > 1:
            yield f"The labelling server was asked {count} times for round {number} of scan {scan_id[:12]}."


def false_ready(world: World, opened: Opened, *, killed: bool = False) -> Iterator[str]:
    """R. Every row has a run with a receipt; every object that a row or a receipt names is there with its hash; releases are signed."""
    vouched = set()
    for run in _rows(opened, t.runs):
        found = load_with_hash(opened.store, run["receipt_key"])
        if found is None or found[1] != run["receipt_sha256"]:
            yield f"The receipt {run['receipt_key']} is not in the store as the catalog says."
            continue
        vouched.add(run["run_id"])
        receipt = found[0]
        for named in (receipt.publication, *receipt.outputs):
            if _sha256(world.home / "store" / named["key"]) != named["sha256"]:
                yield f"{named['key']} is not in the store as the receipt of {run['job']} of {run['run_id']} says."
        if receipt.result != run["result"]:
            yield f"The result of {run['job']} of {run['run_id']} is not that of its receipt."
    for name, table in t.metadata.tables.items():
        if name not in NOT_PUBLISHED:
            for run_id in {row["run_id"] for row in _rows(opened, table)} - vouched:
                yield f"{name} holds rows of the run {run_id}, which has no receipt."
    yield from _damaged(world, opened)
    yield from _unearned(opened)
    yield from _unsigned(opened)


def _damaged(world: World, opened: Opened) -> Iterator[str]:
    """Objects that ready things need and that are not what their hash says."""
    store = world.home / "store"
    needed: list[tuple[str, str, str]] = []
    for row in _rows(opened, t.snapshots):
        needed.append((f"snapshot {row['snapshot_id'][:12]}", row["root_key"], row["snapshot_id"]))
        if _sha256(store / row["root_key"]) == row["snapshot_id"]:
            root = json.loads((store / row["root_key"]).read_bytes())
            needed += [(f"snapshot {row['snapshot_id'][:12]}", shard["key"], shard["sha256"]) for shard in root["shards"]]
    needed += [(f"model {row['model_id'][:12]}", row["weights_key"], row["model_id"]) for row in _rows(opened, t.models)]
    needed += [(f"decision {row['decision_id'][:12]}", row["evidence_key"], row["evidence_sha256"]) for row in _rows(opened, t.decisions)]
    needed += [(f"release {row['release_id']}", row["bundle_key"], row["bundle_sha256"]) for row in _rows(opened, t.releases)]
    for noun, key, sha256 in needed:
        if _sha256(store / key) != sha256:
            yield f"{noun} needs {key}, which is not in the store with its hash."
    for row in _rows(opened, t.evaluations):
        for key in (row["results_key"], row["outcomes_key"], row["report_key"]):
            if not (store / key).is_file():
                yield f"evaluation {row['evaluation_id'][:12]} needs {key}, which is not in the store."


def _unearned(opened: Opened) -> Iterator[str]:
    """Champions without a decision that says so, and accepted tasks without a review."""
    decisions = {row["decision_id"]: row for row in _rows(opened, t.decisions)}
    champions = _rows(opened, t.champions)
    for row in champions:
        decision = decisions.get(row["decision_id"])
        if decision is None or decision["verdict"] != "promote" or decision["candidate_id"] != row["model_id"]:
            yield f"The champion of {row['product_line']} was not promoted by its decision."
        elif decision["needs_approval"] and not decision["approver"]:
            yield f"The champion of {row['product_line']} needs an approval that nobody gave."
    serving = {row["model_id"] for row in _rows(opened, t.models) if row["state"] == "champion"}
    if serving != {row["model_id"] for row in champions}:
        yield f"The models that count as champion are {sorted(serving)}, the champions others."
    evaluated = {(row["model_id"], row["snapshot_id"]) for row in _rows(opened, t.evaluations)}
    for row in decisions.values():
        if (row["candidate_id"], row["snapshot_id"]) not in evaluated:
            yield f"Decision {row['decision_id'][:12]} judges a model that nobody evaluated."
    reviewed = {row["task_id"]: row["verdict"] for row in _rows(opened, t.reviews)}
    for row in _rows(opened, t.labelling_tasks):
        if row["state"] in ("accepted", "returned", "escalated") and reviewed.get(row["task_id"]) != row["state"]:
            yield f"Task {row['task_id'][:12]} is {row['state']} without a review that says so."


def _unsigned(opened: Opened) -> Iterator[str]:
    """Releases that count as released and that a device would refuse."""
    from scanloop.errors import ScanloopError
    from scanloop.release.verify import verify_release

    channel = open_store(opened.settings.channel_url)
    for row in _rows(opened, t.releases):
        if row["state"] == "released":
            with tempfile.TemporaryDirectory() as folder:
                try:
                    verify_release(channel, row["product_line"], int(row["version"]), row["bundle_sha256"], Path(folder))
                except ScanloopError as error:
                    yield f"Release {row['release_id']} counts as released: {error.message}"


def audit(world: World, opened: Opened, *, killed: bool = False) -> Iterator[str]:
    """A. The chain is whole, every row has its entry, and the publications in the order of the log give exactly the catalog."""
    found = list(audit_violations(opened.catalog, opened.store))
    waiting = [each for each in found if each.endswith("run its job again with the same run id, or the log was cut.")]
    if not killed or len(waiting) > 1:
        yield from waiting
    yield from (each for each in found if each not in waiting)
    entries = sorted(_rows(opened, t.audit_log), key=lambda row: row["seq"])
    yield from (f"Entry {entry['seq']} names no actor." for entry in entries if not entry["actor"])
    added = Counter((entry["subject_kind"], entry["run_id"]) for entry in entries if "row_sha256" in entry["details"])
    for name, table in t.metadata.tables.items():
        if name not in NOT_PUBLISHED:
            for run_id, count in Counter(row["run_id"] for row in _rows(opened, table)).items():
                if added[name, run_id] != count:
                    yield f"{name} holds {count} rows of the run {run_id}, the log {added[name, run_id]}."
    yield from _replayed(opened, [entry for entry in entries if entry["action"] == "run.finished"])


def _replayed(opened: Opened, finished: Collection[Mapping[str, Any]]) -> Iterator[str]:
    """Where the catalog is not what the publications, in the order of the log, make of an empty one."""
    expected: dict[str, dict[tuple[str, ...], dict[str, Any]]] = defaultdict(dict)
    for entry in finished:
        found = load_with_hash(opened.store, entry["details"]["receipt_key"])
        if found is None:
            yield f"The log names the receipt {entry['details']['receipt_key']}, which is not in the store."
            continue
        for change in Publication.decode(opened.store.get(found[0].publication["key"])).changes:
            rows, keys = expected[change.table], [column.name for column in t.metadata.tables[change.table].primary_key]
            if isinstance(change, Insert):
                rows.setdefault(tuple(str(change.row[key]) for key in keys), {**change.row, "run_id": entry["run_id"]})
            elif isinstance(change, Update):
                for row in rows.values():
                    if all(str(row.get(name)) == str(value) for name, value in change.key.items()):
                        row.update(change.set)
    for name, table in t.metadata.tables.items():
        if name in NOT_PUBLISHED:
            continue
        keys = [column.name for column in table.primary_key]
        present = {tuple(str(row[key]) for key in keys): row for row in _rows(opened, table)}
        for key in sorted(present.keys() ^ expected[name].keys()):
            yield f"{name} {'/'.join(key)} is in {'the catalog' if key in present else 'a publication'} only."
        for key, row in expected[name].items():
            for column, value in row.items():
                if key in present and not _is_same(present[key][column], value):
                    yield f"{name} {'/'.join(key)} holds {column} = {present[key][column]!r}, the record says {value!r}."


def _is_same(stored: Any, recorded: Any) -> bool:
    if isinstance(stored, datetime) and isinstance(recorded, str):
        return stored == datetime.fromisoformat(recorded)
    return bool(stored == recorded) or json.dumps(stored, sort_keys=True, default=str) == json.dumps(recorded, sort_keys=True, default=str)


def differences(found: list[str], expected: list[str], most: int = 6) -> list[str]:
    """C. Where two canonical dumps differ."""
    missing, extra = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return [f"C: missing {line[:400]}" for line in list(missing)[:most]] + [f"C: found {line[:400]}" for line in list(extra)[:most]]


def _rows(opened: Opened, table: sa.Table) -> list[dict[str, Any]]:
    with opened.catalog.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
