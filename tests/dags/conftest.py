"""The DAGs of this checkout, parsed once as Airflow's DAG processor does."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import airflow_here
import pytest

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk import DAG


@pytest.fixture(scope="session")
def dag_bag() -> BundleDagBag:
    """Every DAG file, parsed."""
    from airflow.dag_processing.dagbag import BundleDagBag

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BundleDagBag(dag_folder=airflow_here.DAGS, bundle_path=airflow_here.DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="session")
def dags(dag_bag: BundleDagBag) -> dict[str, DAG]:
    """DAG id → DAG."""
    assert not dag_bag.import_errors
    return dict(dag_bag.dags)
