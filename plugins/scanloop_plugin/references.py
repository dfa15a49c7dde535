"""Values that a task's options take from earlier results and from the form, when it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.definitions.xcom_arg import XComArg
from airflow.sdk.exceptions import AirflowFailException


class ResultEntry(ResolveMixin):
    """One entry of what an earlier task returned. Using it makes that task an upstream one."""

    def __init__(self, task: BaseOperator, *path: str, is_required: bool = True) -> None:
        self.task = task
        self.path = path
        self.is_required = is_required

    def __repr__(self) -> str:
        return f"result of {self.task.task_id}: {'.'.join(self.path)}"

    def iter_references(self) -> Iterable[tuple[Any, str]]:
        """The task whose result this is; Airflow derives the dependency from it."""
        yield from XComArg(self.task).iter_references()

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """The entry's value. Raises AirflowFailException if it is required and the result lacks it."""
        value = XComArg(self.task).resolve(context)
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None and self.is_required:
            raise AirflowFailException(f"The result of {self.task.task_id} has no {'.'.join(self.path)}.")
        return value


class FormValue(ResolveMixin):
    """What a person entered for a param of the DAG, checked by Airflow against the param's schema."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"form: {self.name}"

    def iter_references(self) -> Iterable[tuple[Any, str]]:
        """A form comes from no task."""
        return ()

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """The entered value, or the param's default."""
        return context["params"][self.name]


def result(task: BaseOperator, *path: str) -> ResultEntry:
    """The entry at `path` of what `task` returns, which must be there."""
    return ResultEntry(task, *path)


def result_if_any(task: BaseOperator, *path: str) -> ResultEntry:
    """The entry at `path` of what `task` returns; None if the task was skipped or has no such entry."""
    return ResultEntry(task, *path, is_required=False)


def form(name: str) -> FormValue:
    """What was entered for the DAG's param `name`."""
    return FormValue(name)
