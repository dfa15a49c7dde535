"""Intake is killed at random instants, wherever it is: nothing is lost, nothing is there twice, and running again comes to an end."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from harness.invariants import check_all, lost, twice
from harness.tier import INSTANTS, SEED
from harness.world import World
from harness.zygote import Done, Zygote
from scan_files import RLE, dicos, picture, png, sidecar

from scanloop.catalog import tables as t
from scanloop.scans.errors import REASONS

EVERY = 20
"""How often every invariant is checked; after the kills between, those about what was delivered."""
STAGES = ("plan", "shard", "acknowledge")


def deliver(landing: Path, draw: random.Random, number: int, sent: dict[str, bytes]) -> None:
    """What came since: a new scan, one with a sidecar (first, late or never), a repetition, a broken file."""
    folder = landing / f"site-{number % 3}" / f"{number % 5}" / "2026-03-01"
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{number:04d}.dcs": dicos(picture(number), draw.choice([RLE, "1.2.840.10008.1.2.1"]))}
    kind = draw.randrange(4)
    if kind == 0:
        files |= {f"{number:04d}.png.json": sidecar(bag_id=f"B{number}"), f"{number:04d}.png": png(picture(10_000 + number))}
    elif kind == 1 and sent:
        files[f"again-{number:04d}.dcs"] = draw.choice([content for key, content in sent.items() if not key.endswith(".json")])
    elif kind == 2:
        files[f"cut-{number:04d}.dcs"] = dicos(picture(20_000 + number))[: draw.randrange(200, 2000)]
    for name, content in files.items():
        aside = folder / f".{name}"
        aside.write_bytes(content)
        aside.rename(folder / name)
        sent[f"{folder.relative_to(landing)}/{name}"] = content


@pytest.mark.timeout(3600)
def test_intake_killed_at_random_instants_loses_and_doubles_nothing(zygote: Zygote, database_template: str, tmp_path: Path) -> None:
    world = World(tmp_path / "world", database_template, zygote.run).create()
    landing = world.home / "landing"
    draw, sent, killed = random.Random(SEED), dict[str, bytes](), dict.fromkeys(STAGES, 0)
    took = dict.fromkeys(STAGES, 0.5)

    def run(stage: str, run_id: str, kill_after_s: float | None = None) -> Done:
        words = {"plan": ["plan", "--max-shards=1"], "shard": ["shard", "--shard=00/01"], "acknowledge": ["acknowledge"]}[stage]
        began = time.monotonic()
        done = zygote.run(["ingest", *words, f"--run-id={run_id}"], world.environment(), world.folder / "output", kill_after_s)
        if done.code == 0:
            took[stage] = time.monotonic() - began
        return done

    try:
        for number in range(INSTANTS):
            deliver(landing, draw, number, sent)
            world.ledger.note(landing)
            victim, run_id = draw.choice(STAGES), f"run-{number}"
            for stage in STAGES:
                if stage == victim:
                    done = run(stage, run_id, kill_after_s=draw.uniform(0, took[stage]))
                    killed[stage] += done.was_killed
                    with world.open() as opened:
                        found = [*lost(world, opened, killed=True), *twice(world, opened, killed=True)]
                    assert found == [], f"after {stage} of {run_id} was killed"
                done = run(stage, run_id)
                assert done.code == 0, f"{stage} of {run_id} ended with {done.code}: {done.stderr[-2000:]}"
            if number % EVERY == EVERY - 1:
                assert check_all(world) == []
        assert check_all(world) == []
        assert [path for path in landing.rglob("*") if path.is_file() and ".scanloop-aside" not in path.parts] == []
        with world.open() as opened, opened.catalog.read() as connection:
            scans = {row.scan_id for row in connection.execute(t.scans.select())}
            held = {row.quarantine_id: row.reason_code for row in connection.execute(t.quarantine.select())}
            places = {row.landing_key for row in connection.execute(t.deliveries.select())}
        assert places == sent.keys()
        assert not scans & held.keys()
        assert set(held.values()) <= REASONS.keys()
        cut = {content for key, content in sent.items() if "/cut-" in key}
        assert len(held) == len(cut)
        assert len(scans) == len({content for key, content in sent.items() if not key.endswith(".json")} - cut)
        print(
            f"\n{INSTANTS} random instants, {sum(killed.values())} of them while a job ran {killed}: {len(places)} deliveries, no violation"
        )
        assert sum(killed.values()) > INSTANTS // 3, killed
    finally:
        world.destroy()
