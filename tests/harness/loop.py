"""The whole loop, stage by stage, by its commands: what a person or Airflow would run, on a tiny simulated world."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.world import World
from harness.zygote import Done

ROOT = Path(__file__).parents[2]
KEY = "cabin_baggage"
SHARDS = ("00/02", "01/02")
BAGS = 16
DEFINITION = """\
product_line: cabin_baggage
title: Cabin baggage, tiny
taxonomy: threats-1
categories: [handgun, knife]
selection: {budget_scans: 60, exploration_share: 0.1, near_duplicate_bits: 2, seed: 11}
labelling: {annotators: 2, schema_version: "1", iou_agreement: 0.5, min_agreement: 0.99}
snapshot:
  splits: {train: 0.4, val: 0.3, test: 0.3}
  seed: 102
  min_scans: 4
  min_new_scans: 1
  clean_bag_ratio: 9.0
  buckets: 3
training: {recipe: rtmdet_tiny, planes: [high, low, material], size_px: 64, iterations: 2, batch_size: 2, learning_rate: 0.002, seed: 1}
gate: {target_pfa: 0.5, min_ap50: 0.0, max_pd_drop: 1.0, min_ap50_gain: -1.0, min_threat_bags: 1, min_clean_bags: 1, approval: never}
release: {channel: stable}
"""
"""A product line whose gate lets a barely trained model through: what is tested is the loop, not the detector."""

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One command of the loop."""

    name: str
    """Its name in results and tables."""
    arguments: Callable[[World], list[str]]
    """Its command line, from what ran before."""
    code: int = 0
    """Its exit code when nothing goes wrong."""
    before: Callable[[World], None] | None = None
    """What the outside does before it."""
    after: Callable[[World], None] | None = None
    """What the outside does after it."""
    again: tuple[int, ...] = ()
    """Other exit codes that are right when it runs again after a kill."""
    follow: tuple[str, ...] = ()
    """Stages that show, after a kill, that this one did its work: their results are outside the catalog."""

    @property
    def key(self) -> str:
        """Its name as part of the name of a database."""
        return re.sub("[^a-z0-9]", "_", self.name)


def _job(
    name: str, run_id: str, *options: Callable[[Results], str] | str, command: str = "", code: int = 0, follow: tuple[str, ...] = ()
) -> Stage:
    """A job that takes a run id; options may depend on earlier results."""

    def arguments(world: World) -> list[str]:
        given = [option if isinstance(option, str) else option(world.results) for option in options]
        return [*(command or name).split("."), *given, f"--run-id={run_id}"]

    return Stage(name, arguments, code, follow=follow)


def _of(stage: str, key: str, option: str) -> Callable[[Results], str]:
    return lambda results: f"--{option}={results[stage][key]}"


def _write_definitions(world: World) -> None:
    folder = world.folder / "product_lines"
    if not folder.exists():
        folder.mkdir()
        shutil.copy(ROOT / "product_lines" / "taxonomy.yaml", folder)
        (folder / "cabin.yaml").write_text(DEFINITION)


def _note_deliveries(world: World) -> None:
    world.ledger.note(world.home / "landing")


def device_home(world: World) -> Path:
    """Folder of the simulated device. Part of the home folder, so that it is saved and restored with it."""
    return world.home / "device"


def _device(*words: str) -> Callable[[World], list[str]]:
    return lambda world: ["edge", *words, f"--device-home={device_home(world)}"]


def _enrol(world: World) -> list[str]:
    sha256 = world.results["release.init"]["root_sha256"]
    channel = f"--channel-url={(world.home / 'channel').as_uri()}"
    return [*_device("enrol")(world), "--site=north-terminal", f"--product-line={KEY}", channel, f"--root-sha256={sha256}"]


def _fresh_scan(world: World) -> Path:
    """A received DICOS file that the device is asked about."""
    files = sorted(path for path in (world.home / "store" / "scans" / "raw").rglob("*") if path.is_file() and path.stat().st_size > 50_000)
    return next(path for path in files if path.read_bytes()[128:132] == b"DICM")


def _answer(world: World) -> list[str]:
    return [*_device("answer")(world), str(_fresh_scan(world)), f"--out={world.home / 'report.dcs'}"]


LINE = f"--product-line={KEY}"
MODEL, SNAPSHOT = _of("model.train", "model_id", "model"), _of("snapshot.create", "snapshot_id", "snapshot")
RELEASE = _of("release.export", "release_id", "release")


def stages(seed: int = 7) -> list[Stage]:
    """Every stage, in order."""
    deliver = ["simulate", "deliver", "--sites=2", f"--bags={BAGS}", f"--seed={seed}", "--threats=handgun,knife", "--clean-fraction=0.4"]
    deliver.append("--reports=0.5")
    return [
        Stage("simulate.deliver", lambda _: deliver, after=_note_deliveries),
        Stage(
            "definitions.apply",
            lambda world: ["definitions", "apply", f"--folder={world.folder / 'product_lines'}", "--run-id=define"],
            before=_write_definitions,
        ),
        _job("ingest.plan", "ingest-1", f"--max-shards={len(SHARDS)}"),
        *(_job(f"ingest.shard.{number}", "ingest-1", f"--shard={shard}", command="ingest.shard") for number, shard in enumerate(SHARDS)),
        _job("ingest.reports", "ingest-1"),
        _job("ingest.acknowledge", "ingest-1"),
        _job("validation.run", "validate-1"),
        _job("validation.arrivals", "watch-1", "--at=2025-01-14"),
        _job("selection.create", "curate-1", LINE),
        _job("labelling.push", "sync-1", LINE),
        _job("labelling.pull", "sync-1", LINE),
        _job("review.run", "review-1", LINE),
        _job("labelling.push.again", "sync-2", LINE, command="labelling.push"),
        _job("labelling.pull.again", "sync-2", LINE, command="labelling.pull"),
        _job("review.run.again", "review-2", LINE, command="review.run"),
        _job("snapshot.create", "snapshot-1", LINE),
        _job("model.train", "train-1", LINE, SNAPSHOT, "--set=threads=1", "--set=state_interval=1"),
        _job("evaluation.run", "train-1", LINE, MODEL, SNAPSHOT),
        _job("promotion.compare", "train-1", LINE, MODEL, SNAPSHOT),
        _job("promotion.promote", "train-1", LINE, _of("promotion.compare", "decision_id", "decision")),
        Stage("release.init", lambda _: ["release", "init"], follow=("edge.enrol",)),
        _job("release.export", "publish-1", LINE),
        _job(
            "release.ask",
            "publish-1",
            LINE,
            RELEASE,
            "--wait-s=0",
            command="release.publish",
            code=75,
            follow=("release.sign", "release.publish"),
        ),
        Stage("release.sign", lambda _: ["release", "sign", "--once"], follow=("release.publish",)),
        _job("release.publish", "publish-1", LINE, RELEASE, "--wait-s=0"),
        Stage("edge.enrol", _enrol, follow=("edge.update",)),
        Stage(
            "release.enrol-device",
            lambda world: ["release", "enrol-device", f"--enrolment={world.results['edge.enrol']['enrolment']}", "--run-id=enrol-1"],
        ),
        Stage("edge.update", _device("update"), again=(99,), follow=("edge.answer",)),
        Stage("edge.answer", _answer),
        _job("product-line.due", "wake-1"),
    ]


class StageFailed(AssertionError):
    """A stage did not end as it must."""


def run_stage(world: World, stage: Stage, *, kill: str = "", trace: Path | None = None, is_again: bool = False) -> Done:
    """Run one stage and keep its result. A stage that is to be killed may end in any way.

    Raises:
        StageFailed: it ended with another exit code than it must.
    """
    if stage.before is not None:
        stage.before(world)
    done = world.run(stage.arguments(world), kill=kill, trace=trace)
    if kill:
        return done
    if done.code not in ({stage.code, *stage.again} if is_again else {stage.code}):
        raise StageFailed(f"{stage.name} ended with {done.code} instead of {stage.code}: {done.stderr[-3000:]}")
    if done.code == 0:
        world.results[stage.name] = done.result
    if stage.after is not None:
        stage.after(world)
    return done
