"""The loop as one graph: tasks joined by their dependencies within a DAG and by assets between DAGs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from airflow.sdk import DAG, Asset, AssetAll, AssetAny
from airflow.sdk.definitions.asset import BaseAsset

WAITS_FOR_ALL = ("all_success", "none_failed", "none_failed_min_one_success", "all_done_min_one_success")
"""Trigger rules under which a task comes after every one of its upstream tasks."""


def waited_for(dag: DAG) -> set[str]:
    """Names of the assets that start a DAG."""
    return {asset.name for asset in _assets(getattr(dag.timetable, "asset_condition", None))}


def _assets(condition: BaseAsset | None) -> Iterable[Asset]:
    if isinstance(condition, Asset):
        yield condition
    elif isinstance(condition, (AssetAny, AssetAll)):
        for part in condition.objects:
            yield from _assets(part)


def emitted_by(dag: DAG) -> set[str]:
    """Names of the assets that tasks of a DAG emit."""
    return {asset.name for task in dag.tasks for asset in task.outlets}


@dataclass(frozen=True)
class Loop:
    """What comes right before what."""

    upstream: Mapping[str, frozenset[str]]
    """`dag.task` → the tasks of its DAG that it waits for."""
    started_by: Mapping[str, frozenset[str]]
    """First task of a DAG → the assets that start the DAG, any one of them."""
    emitters: Mapping[str, frozenset[str]]
    """Asset → the tasks that emit it."""
    _known: dict[str, frozenset[str]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, dags: Mapping[str, DAG]) -> Loop:
        """The loop that `dags` make."""
        upstream, started_by, emitters = {}, {}, {}
        for dag in dags.values():
            for task in dag.tasks:
                name = f"{dag.dag_id}.{task.task_id}"
                upstream[name] = frozenset(f"{dag.dag_id}.{task_id}" for task_id in task.upstream_task_ids)
                if not task.upstream_task_ids:
                    started_by[name] = frozenset(waited_for(dag))
                for asset in task.outlets:
                    emitters[asset.name] = emitters.get(asset.name, frozenset()) | {name}
        return cls(upstream, started_by, emitters)

    def without(self, *assets: str) -> Loop:
        """The loop when these assets are never emitted."""
        kept = {task: started - set(assets) for task, started in self.started_by.items()}
        return replace(self, started_by=kept, _known={})

    def always_before(self, task: str) -> frozenset[str]:
        """Tasks that came before `task` whichever way it was reached by assets."""
        if task not in self._known:
            before = {earlier for one in self.upstream[task] for earlier in (one, *self.always_before(one))}
            ways = [
                frozenset({emitter}) | self.always_before(emitter)
                for asset in self.started_by.get(task, ())
                for emitter in self.emitters.get(asset, ())
            ]
            self._known[task] = frozenset(before) | (frozenset.intersection(*ways) if ways else frozenset())
        return self._known[task]
