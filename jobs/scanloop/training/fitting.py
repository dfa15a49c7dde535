"""From a snapshot to a trained network: what a training, its helpers in other processes, and a repetition of it have in common."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.canonical import digest_of
from scanloop.errors import DataWrong
from scanloop.training.choose import Parent
from scanloop.training.config import ModelConfig, config_from_bytes
from scanloop.training.pretrained import PretrainedWeights, fetch_pretrained, parse_pretrained, with_pretrained
from scanloop.training.team import Team

if TYPE_CHECKING:
    import torch

    from scanloop.snapshots.manifest import SnapshotReader, SnapshotRecord
    from scanloop.store import Store
    from scanloop.training.loop import Fitted, Look, OnStep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training, as it is told to the other processes of a team."""

    config: bytes
    """The model's configuration, encoded."""
    snapshot_id: str
    """What to train on."""
    parent: Parent | None
    """Whose weights to start from."""
    pretrained: PretrainedWeights | None
    """Which weights to start from, if there is no parent."""
    prefix: str
    """Where training states are kept in the store."""
    name: str
    """What the training is called."""

    @classmethod
    def of(cls, store: Store, config: ModelConfig, snapshot: SnapshotReader, parent: Parent | None, *, prefix: str, name: str) -> Plan:
        """Make the plan. A parent's weights cover what pretrained ones would, so those are not read then.

        Raises:
            WrongArguments: the option `pretrained` names nothing in the store.
        """
        named = parse_pretrained(config.options.pretrained, store)
        return cls(config.to_bytes(), snapshot.snapshot_id, parent, None if parent else named, prefix, name)

    @property
    def fingerprint(self) -> str:
        """Digest of what decides the numbers: a state of another training is not resumed."""
        config = config_from_bytes(self.config).model_dump(mode="json")
        start = {"parent": self.parent and self.parent.model_id}
        return digest_of({"config": config, "snapshot": self.snapshot_id, **start})

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Plan:
        """What `to_plain` gave."""
        parent, pretrained = plain["parent"], plain["pretrained"]
        nested = {"parent": parent and Parent(**parent), "pretrained": pretrained and PretrainedWeights(**pretrained)}
        return cls(**{**plain, **nested})


def fit_plan(plan: Plan, store: Store, workdir: Path, *, on_step: OnStep, team: Team) -> Fitted:
    """Carry out a plan, or go on with it from its newest good state. Every process of the team calls this.

    Raises:
        DataWrong: no train scan has a box to learn from, no val scan has one to look at, weights do not fit, or the training diverges.
        ObjectCorrupt: the parent's weights are not those that its id names.
        WrongArguments: the device cannot train in the precision asked for, or a step's scans cannot be shared evenly.
        WorldUnavailable: there is no GPU for this process, or another process is gone.
    """
    from scanloop.snapshots.manifest import load_snapshot
    from scanloop.training.devices import check_precision, choose_device
    from scanloop.training.loop import fit
    from scanloop.training.network import build_model
    from scanloop.training.options import check_window
    from scanloop.training.state import StateStore

    config = config_from_bytes(plan.config)
    check_window(config.options, team.part_of(config.options.batch_size))  # what cannot be is said before anything long begins
    check_precision(config.options, choose_device(config.options.device, team.local_rank))
    snapshot = load_snapshot(store, plan.snapshot_id)
    records = train_records(snapshot)
    model = build_model(config)
    begin = _start(model, store, workdir, config, plan)
    look = _look(config, snapshot) if config.options.validate_interval else None
    dataset = _dataset(store, config, records, team)
    log.info("Training %s on %d scans of snapshot %s for %d iterations, from %s.", config.recipe, len(records), plan.snapshot_id[:12],
             config.options.iterations, begin)  # fmt: skip
    weights = [record.weight for record in records]
    states = StateStore(store, plan.prefix, plan.fingerprint)
    return fit(config, model, dataset, weights, states, workdir, name=plan.name, on_step=on_step, look=look, team=team)


def help_fit(store: Store, team: Team) -> None:
    """What every process but the first does: wait for the plan, carry it out together, and end. No plan means nothing to do."""
    told = team.share(None)
    if told is None:
        return
    with tempfile.TemporaryDirectory(prefix="scanloop-training-") as folder:
        fit_plan(Plan.from_plain(told), store, Path(folder), on_step=lambda *_: None, team=team)


def train_records(snapshot: SnapshotReader) -> list[SnapshotRecord]:
    """The train split in its order. Raises DataWrong if nothing in it can be learned from."""
    records = sorted(snapshot.records("train"), key=lambda record: record.scan_id)
    if not any(record.boxes for record in records):
        raise DataWrong(f"Snapshot {snapshot.snapshot_id[:12]} has {len(records)} train scans and no box to learn from.")
    return records


def _start(model: torch.nn.Module, store: Store, workdir: Path, config: ModelConfig, plan: Plan) -> str:
    """Put the parent's or pretrained weights into a fresh network; returns what it starts from, for people."""
    from scanloop.training.network import download_model, read_weights, warm_started
    from scanloop.training.recipes import recipe

    if plan.parent is not None:
        path = download_model(store, plan.parent.weights_key, plan.parent.model_id, workdir / "parent.safetensors")
        layers = recipe(config.recipe).class_layers
        model.load_state_dict(warm_started(model.state_dict(), read_weights(path), config.categories, plan.parent.categories, layers))
        path.unlink()
        return f"model {plan.parent.model_id[:12]}"
    if plan.pretrained is not None:
        given = fetch_pretrained(store, plan.pretrained, workdir / "pretrained.safetensors")
        model.load_state_dict(with_pretrained(model.state_dict(), given))
        return f"pretrained weights {plan.pretrained.sha256[:12]}"
    return "scratch"


def _look(config: ModelConfig, snapshot: SnapshotReader) -> Look:
    """A function that gives a network's AP50 on the val split."""
    from scanloop.training.detector import Detector
    from scanloop.training.scoring import score_split

    if not any(record.boxes for record in snapshot.records("val")):
        raise DataWrong(f"Snapshot {snapshot.snapshot_id[:12]} has no val scan with a box, so validate_interval has nothing to look at.")

    def look(network: torch.nn.Module) -> float:
        return float(score_split(Detector(network, config), snapshot, "val").metrics["val_ap50"] or 0.0)

    return look


def _dataset(store: Store, config: ModelConfig, records: Sequence[SnapshotRecord], team: Team) -> Any:
    from scanloop.training.dataset import ScanDataset, SnapshotLoader
    from scanloop.training.devices import cpu_threads

    options = config.options
    load = SnapshotLoader(store, records, categories=config.categories, size_px=options.size_px, planes_spec=options.planes)
    dataset = ScanDataset(load, len(records), config.categories, options)
    dataset.warm_up(cpu_threads(options.threads, team.local_size))
    return dataset
