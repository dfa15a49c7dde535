"""The invariants hold at the end of the loop, and each of them sees a violation that is planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from harness.invariants import check_all, differences
from harness.ledger import Delivered
from harness.matrix import History
from harness.world import World

from scanloop.execution.receipts import encode, load_receipt, receipt_key


def test_the_loop_ends_with_no_violation(history: History) -> None:
    history.world.restore("end")
    assert check_all(history.world) == []


def test_no_stage_ever_leaves_a_violation(history: History, subtests: pytest.Subtests) -> None:
    for stage in history.stages[1:]:
        with subtests.test(before=stage.name):
            history.world.restore(stage.key)
            assert check_all(history.world) == []


@dataclass(frozen=True)
class Planted:
    """A violation, and what must be said of it."""

    name: str
    plant: Callable[[World], object]
    said: str


def _sql(*statements: str) -> Callable[[World], None]:
    return lambda world: world.tamper(*statements)


def _stored(world: World, pattern: str) -> Path:
    return next(path for path in sorted((world.home / "store").glob(pattern)) if path.is_file())


def _lose(pattern: str) -> Callable[[World], None]:
    return lambda world: _stored(world, pattern).unlink()


def _flip(pattern: str = "", *, named_by: str = "") -> Callable[[World], None]:
    """Change one byte of the object that matches, or that a query names; in a file of its own, as the saved states share theirs."""

    def act(world: World) -> None:
        if named_by:
            with psycopg.connect(world.database_url) as connection:
                row = connection.execute(named_by).fetchone()  # type: ignore[call-overload]
        path = world.home / "store" / row[0] if named_by else _stored(world, pattern)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)

    return act


def _deliver_and_swallow(world: World) -> None:
    world.ledger = replace(world.ledger, entries={*world.ledger.entries, Delivered("harbour/x/lost.dcs", "ab" * 32)})


def _forge_receipt(world: World) -> None:
    with world.open() as opened:
        key = receipt_key("train-1", "promotion.compare")
        receipt = load_receipt(opened.store, key)
        assert receipt is not None
        opened.store.delete(key)
        opened.store.put(key, encode(replace(receipt, result={**receipt.result, "verdict": "reject"})))


def _ask_twice(world: World) -> None:
    with world.open() as opened:
        first = next(iter(opened.store.list("labelling-sim/")))
        opened.store.put(first.key.replace("00000001", "00000009"), opened.store.get(first.key))


def _unsign(world: World) -> None:
    for path in (world.home / "channel" / "metadata").glob("*cabin_baggage*"):
        path.unlink()


def _copy_row(table: str, where: str = "true", **changes: str) -> Callable[[World], None]:
    """Add a row that is like another one except in some columns."""

    def act(world: World) -> None:
        from scanloop.catalog.tables import metadata

        columns = metadata.tables[table].c.keys()
        values = ", ".join(changes.get(name, name) for name in columns)
        world.tamper(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} WHERE {where} LIMIT 1")

    return act


PLANTED = [
    Planted("L delivery without ledger", _deliver_and_swallow, "L: harbour/x/lost.dcs (abababababab) is gone from the landing zone"),
    Planted("L raw bytes lost", _lose("scans/raw/*/*"), "L: "),
    Planted("L raw bytes changed", _flip("scans/raw/*/*"), "L: "),
    Planted("L planes lost", _lose("scans/planes/*/*"), "L: The planes of scan"),
    Planted("L scan and quarantine both forgotten", _sql("DELETE FROM quarantine"), "is catalogued or quarantined 0 times"),
    Planted(
        "L scan and quarantine both",
        _sql(
            "INSERT INTO quarantine SELECT scan_id, raw_key, 'x', 'x', site_id, 'x', 'intake', 'held', run_id, created_at FROM scans LIMIT 1"
        ),
        "is catalogued or quarantined 2 times",
    ),
    Planted("L ledger line lost", _sql("DELETE FROM deliveries WHERE outcome = 'duplicate'"), "is not in the ledger of deliveries"),
    Planted(
        "T task twice",
        lambda world: (
            world.tamper("ALTER TABLE labelling_tasks DROP CONSTRAINT uq_labelling_tasks_product_line_scan_id_schema_version_round")
            or _copy_row("labelling_tasks", task_id="'again'")(world)
        ),
        "T: There are 2 times a task of one scan and round",
    ),
    Planted("T label twice", _copy_row("annotations", annotation_id="'again'"), "T: There are 2 times a"),
    Planted("T model twice", _copy_row("models", model_id="'again'"), "T: There are 2 times a model of one run"),
    Planted("T release twice", _copy_row("releases", release_id="'again'", version="2"), "T: There are 2 times a release of one model"),
    Planted("T server asked twice", _ask_twice, "T: The labelling server was asked 2 times"),
    Planted(
        "T run finished twice",
        _copy_row("audit_log", "action = 'run.finished'", seq="99999"),
        "There are 2 times a finish of one run",
    ),
    Planted("T gap in champions", _sql("UPDATE champion_history SET sequence = 3"), "T: The history of champions counts [3]"),
    Planted(
        "R receipt lost", _lose("receipts/train-1/model.train.json"), "R: The receipt receipts/train-1/model.train.json is not in the store"
    ),
    Planted(
        "R receipt forged", _forge_receipt, "R: The receipt receipts/train-1/promotion.compare.json is not in the store as the catalog says"
    ),
    Planted("R row of nobody", _sql("UPDATE models SET run_id = 'nobody'"), "R: models holds rows of the run nobody, which has no receipt"),
    Planted("R weights changed", _flip("models/*/*.safetensors"), "R: model "),
    Planted("R shard changed", _flip("snapshots/shards/*/*"), "R: snapshot "),
    Planted("R evidence lost", _lose("evidence/*/*/*.json"), "R: decision "),
    Planted("R report lost", _lose("evaluations/*/*.html"), "R: evaluation "),
    Planted("R bundle changed", _flip(named_by="SELECT bundle_key FROM releases"), "R: release "),
    Planted(
        "R champion by rejection", _sql("UPDATE decisions SET verdict = 'reject'"), "R: The champion of cabin_baggage was not promoted"
    ),
    Planted("R approval missing", _sql("UPDATE decisions SET needs_approval = true"), "needs an approval that nobody gave"),
    Planted(
        "R second champion", _copy_row("models", model_id="'other'", run_id="'train-1'", state="'champion'"), "R: The models that count"
    ),
    Planted("R nobody evaluated", _sql("DELETE FROM evaluations"), "judges a model that nobody evaluated"),
    Planted("R nobody reviewed", _sql("DELETE FROM reviews"), "is accepted without a review that says so"),
    Planted("R unsigned release", _unsign, "R: Release cabin_baggage-1-"),
    Planted("R release of another bundle", _sql("UPDATE releases SET bundle_sha256 = repeat('0', 64)"), "counts as released: "),
    Planted("A entry edited", _sql("UPDATE audit_log SET actor = 'nobody' WHERE seq = 5"), "A: Entry 5 "),
    Planted("A entry deleted", _sql("DELETE FROM audit_log WHERE seq = 5"), "A: Entry 5 is missing"),
    Planted("A row without entry", _copy_row("bags", bag_id="'nowhere/x/1'"), "bags nowhere/x/1 is in the catalog only"),
    Planted("A row deleted", _sql("DELETE FROM selection_items WHERE rank = 1"), "is in a publication only"),
    Planted("A row changed", _sql("UPDATE annotations SET author = 'somebody'"), "holds author = 'somebody', the record says 'annotator-"),
    Planted("A state changed", _sql("UPDATE scans SET state = 'received'"), "holds state = 'received', the record says 'validated'"),
    Planted("A boxes changed", _sql("UPDATE annotations SET boxes = '[]' WHERE boxes <> '[]'"), "holds boxes = [], the record says"),
]


@pytest.mark.parametrize("planted", PLANTED, ids=[planted.name for planted in PLANTED])
def test_a_planted_violation_is_seen(world: World, planted: Planted) -> None:
    ledger = world.ledger
    try:
        planted.plant(world)
        found = check_all(world)
    finally:
        world.ledger = ledger
    assert any(planted.said in violation and violation.startswith(planted.name[0]) for violation in found), found[:10]


def test_a_catalog_that_differs_in_one_value_has_not_converged(world: World, history: History) -> None:
    expected = history.dumps[history.stages[-1].name]
    assert differences(world.dump(), expected) == []
    world.tamper("UPDATE models SET metrics = metrics || '{\"val_ap\": 0.123}'")
    found = differences(world.dump(), expected)
    assert len(found) == 2
    assert '"val_ap": 0.123' in found[1]


def test_a_receipt_may_wait_only_for_the_run_that_was_killed(world: World) -> None:
    """Directly after a kill one receipt may be ahead of the log; two are a log that was cut."""
    with world.open() as opened:
        for run_id in ("cut-1", "cut-2"):
            receipt = load_receipt(opened.store, receipt_key("define", "definitions.apply"))
            assert receipt is not None
            opened.store.put(receipt_key(run_id, "definitions.apply"), encode(replace(receipt, run_id=run_id)))
            waiting = [violation for violation in check_all(world, killed=True) if "run its job again" in violation]
            assert len(waiting) == (0 if run_id == "cut-1" else 2)
    assert json.loads(json.dumps(waiting)) == waiting
