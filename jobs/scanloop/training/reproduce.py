"""The job `model reproduce`: train a model again from its record, and say how alike the two are. Nothing is published."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from scanloop.catalog.tables import models
from scanloop.errors import DataWrong
from scanloop.training.choose import Parent
from scanloop.training.config import ModelConfig, config_from_bytes
from scanloop.training.fitting import Plan, fit_plan
from scanloop.training.team import Team
from scanloop.training.train import Finished, OnStep, read_finished, states_prefix

if TYPE_CHECKING:
    from scanloop.execution import JobRun
    from scanloop.snapshots.manifest import SnapshotReader
    from scanloop.training.loop import Fitted

log = logging.getLogger(__name__)
LOSS_TOLERANCE = 0.1
"""Largest difference of the loss of a step on another machine, as a share: sums in another order move which priors count as positive, and with
them a loss by up to 0.05 (measured over processors and thread counts)."""
METRIC_TOLERANCE = 0.05
"""Largest difference of AP and AP50 on the val split on another machine."""
METRICS = ("val_ap", "val_ap50")


@dataclass(frozen=True)
class Check:
    """One thing that was compared."""

    what: str
    """Name of it."""
    recorded: str
    """As the record has it."""
    found: str
    """As it came out now."""
    limit: str
    """How far apart they may be."""
    holds: bool | None
    """Whether they are that close; None: for information, or the record does not say."""


def reproduce_model(run: JobRun, row: Mapping[str, Any], on_step: OnStep) -> dict[str, Any]:
    """Train again what a row of `models` records: same snapshot, recipe, options and parent. Resumes as a training does.

    On an equal machine weights must be equal bit for bit; on another, losses and val metrics within the tolerances. Returns model_id,
    found_model_id, is_reproduced, differing (what of the environment is another) and checks.

    Raises:
        DataWrong: the record is damaged, or what it names is gone.
    """
    from scanloop.snapshots.manifest import load_snapshot
    from scanloop.training.network import model_id_of, weights_bytes
    from scanloop.training.state import StateStore

    product_line = str(row["product_line"])
    config = config_from_bytes(run.store.get(row["config_key"]))
    snapshot = load_snapshot(run.store, row["snapshot_id"])
    run.add_input("model", row["model_id"])
    run.add_input("snapshot", snapshot.snapshot_id)
    recorded = read_finished(run.store, states_prefix(product_line, row["run_id"]))
    if recorded is not None and recorded.model_id != row["model_id"]:
        recorded = None
    prefix = states_prefix(product_line, run.identity.run_id)
    plan = Plan.of(run.store, config, snapshot, _parent_of(run, row["parent_model_id"]), prefix=prefix, name=product_line)
    fitted = fit_plan(plan, run.store, run.workdir, on_step=on_step, team=Team())
    StateStore(run.store, plan.prefix, plan.fingerprint).clear()
    found_id = model_id_of(weights_bytes(fitted.weights))
    differing = _differing(recorded.environment if recorded else {}, fitted.environment)
    is_exact = not differing and (fitted.environment["device"] == "cpu" or config.options.deterministic)
    checks = [
        Check("weights", row["model_id"][:12], found_id[:12], "equal bits" if is_exact else "none on another machine",
              found_id == row["model_id"] or (False if is_exact else None)),
        *compare_curves(recorded, fitted, may_stop_early=bool(config.options.patience)),
        *_compare_metrics(row["metrics"], _metrics(fitted, config, snapshot)),
    ]  # fmt: skip
    return {
        "model_id": row["model_id"],
        "found_model_id": found_id,
        "is_reproduced": is_alike(checks),
        "differing": differing,
        "checks": [asdict(check) for check in checks],
    }


def is_alike(checks: Sequence[Check]) -> bool:
    """Whether something could be compared, and all that could holds."""
    judged = [check.holds for check in checks if check.holds is not None]
    return bool(judged) and all(judged)


def _parent_of(run: JobRun, parent_id: str | None) -> Parent | None:
    """The model that the recorded training started from. Raises DataWrong if the catalog does not know it."""
    if parent_id is None:
        return None
    wanted = sa.select(models.c.config_key, models.c.weights_key).where(models.c.model_id == parent_id)
    with run.catalog.read() as connection:
        row = connection.execute(wanted).one_or_none()
    if row is None:
        raise DataWrong(f"The parent model {parent_id[:12]} is not in the catalog.")
    run.add_input("model", parent_id)
    return Parent(parent_id, row.weights_key, config_from_bytes(run.store.get(row.config_key)).categories)


def _differing(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Parts of the environment that are another, with both values. A record that says nothing differs in everything."""
    return {name: [str(recorded.get(name, "not recorded")), str(value)] for name, value in found.items() if recorded.get(name) != value}


def _metrics(fitted: Fitted, config: ModelConfig, snapshot: SnapshotReader) -> dict[str, Any]:
    """First numbers of the network on the val split."""
    from scanloop.training.detector import Detector
    from scanloop.training.devices import choose_device
    from scanloop.training.network import build_model
    from scanloop.training.scoring import score_split

    network = build_model(config)
    network.load_state_dict(fitted.weights)
    detector = Detector(network.to(choose_device(config.options.device)), config)
    return score_split(detector, snapshot, "val").metrics


def compare_curves(recorded: Finished | None, fitted: Fitted, *, may_stop_early: bool) -> list[Check]:
    """How many steps there were, and the largest difference of a step's loss over those that both took."""
    limit, found = f"{LOSS_TOLERANCE:.0%} a step", len(fitted.curves)
    if recorded is None:
        return [Check("losses", "the record of the training is gone", f"{found} steps", limit, None)]
    steps = len(recorded.curves)
    worst = worst_difference([_loss(values) for _, values in recorded.curves], [_loss(values) for _, values in fitted.curves])
    return [
        Check("steps", str(steps), str(found), "any, because of the patience" if may_stop_early else "equal",
              None if may_stop_early else steps == found),
        Check("losses", f"{steps} steps", "none in common" if worst is None else f"at most {worst:.2%} apart", limit,
              worst is not None and worst <= LOSS_TOLERANCE),
    ]  # fmt: skip


def _loss(values: Any) -> float:
    """The loss of one noted step; not a number where the record has none, so that it is near nothing."""
    found = values.get("loss") if isinstance(values, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else math.nan


def worst_difference(recorded: Sequence[float], found: Sequence[float]) -> float | None:
    """Largest difference as a share of the recorded value, over the steps that both have; None if there is none.

    Infinite where one of the two is no number.
    """
    shares = [abs(one - other) / max(abs(one), 1e-9) for one, other in zip(recorded, found, strict=False)]
    return max((share if math.isfinite(share) else math.inf for share in shares), default=None)


def _compare_metrics(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[Check]:
    checks = []
    for name in METRICS:
        one, other = recorded.get(name), found.get(name)
        holds = None if one is None or other is None else abs(one - other) <= METRIC_TOLERANCE
        shown = ["none" if value is None else f"{value:.4f}" for value in (one, other)]
        checks.append(Check(name, shown[0], shown[1], f"{METRIC_TOLERANCE} apart", holds))
    return checks
