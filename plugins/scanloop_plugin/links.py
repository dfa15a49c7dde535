"""Links on a task's page in Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.sdk.bases.operatorlink import BaseOperatorLink
from airflow.sdk.bases.xcom import BaseXCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ExperimentLink(BaseOperatorLink):
    """The experiment that a job was tracked as."""

    name = "Experiment"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Its address; empty for a job that was not tracked by a server."""
        result = BaseXCom.get_value(key="return_value", ti_key=ti_key)
        url = result.get("experiment_url") if isinstance(result, Mapping) else None
        return url if isinstance(url, str) and url.startswith(("http://", "https://")) else ""
