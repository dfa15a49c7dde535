"""Suites run by Great Expectations: ephemeral, quiet and offline."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.errors import ScanloopError
from scanloop.validation.suites import Suite

if TYPE_CHECKING:
    import pandas as pd

# Great Expectations reads this on import and would otherwise report its use to its makers.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
_SEVERITIES = {"blocks": "critical", "warns": "warning"}
"""Severity of a check to what Great Expectations calls it."""
_RUN_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Data Docs are named by run and time; the run is enough, and without the time the same run writes the same pages."""


@dataclass(frozen=True)
class SuiteOutcome:
    """What one suite found in one table."""

    failed: Mapping[str, tuple[str, ...]]
    """Row, named by its index column, to the names of the checks it failed, in the suite's order. Rows that passed are not in it."""
    counts: Mapping[str, int]
    """Name of a check to the number of rows that failed it."""
    page: Path
    """The rendered result."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's warnings and progress to itself."""
    loggers = [logging.getLogger(name) for name in ("great_expectations", "posthog", "tqdm")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def run_suites(
    frame: pd.DataFrame, suites: tuple[Suite, ...], run_name: str, docs_folder: Path, shown: tuple[str, ...] = ("scan_id",)
) -> dict[str, SuiteOutcome]:
    """Run every suite over the rows of `frame` and render Data Docs below `docs_folder`. Suite name to what it found.

    `shown` are the columns that name a failing row in the pages; the first of them tells rows apart.

    Raises:
        ScanloopError: an expectation could not be evaluated; that is a defect of the suite, and nothing passes because of it.
    """
    with _quiet():
        import great_expectations as gx
        from great_expectations import expectations
        from great_expectations.checkpoint import UpdateDataDocsAction
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig

        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs_folder)}
        site = {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}}
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            data_docs_sites={"datadocs": site},
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        )
        context = gx.get_context(mode="ephemeral", project_config=config)
        batch = context.data_sources.add_pandas("catalog").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("new")
        definitions = []
        for suite in suites:
            built = [
                getattr(expectations, check.expectation)(
                    **check.arguments, meta={"check": check.name}, notes=check.says, severity=_SEVERITIES[check.severity]
                )
                for check in suite.checks
            ]
            added = context.suites.add(gx.ExpectationSuite(suite.full_name, expectations=built))
            definitions.append(context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=added)))
        checkpoint = gx.Checkpoint(
            name="rows",
            validation_definitions=definitions,
            actions=[UpdateDataDocsAction(name="render", site_names=["datadocs"])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(shown)},
        )
        run_id = RunIdentifier(run_name=run_name, run_time=_RUN_TIME)
        result = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame}, run_id=run_id)
    pages = {path.parents[2].name: path for path in docs_folder.glob("validations/*/*/*/*.html")}
    found = {str(one.suite_name): one for one in result.run_results.values()}
    return {suite.name: _outcome(suite, found[suite.full_name], pages[suite.full_name], shown[0]) for suite in suites}


def _outcome(suite: Suite, result: Any, page: Path, index: str) -> SuiteOutcome:
    failing: dict[str, set[str]] = {}
    for one in result.results:
        name = one.expectation_config.meta["check"]
        if one.exception_info.get("raised_exception", True):
            raise ScanloopError(
                f"The check {name} of suite {suite.name} cannot be evaluated: {one.exception_info.get('exception_message')}."
            )
        rows = one.result.get("unexpected_index_list") or []
        failing[name] = {str(row[index]) for row in rows}
        if bool(one.success) == bool(rows):
            raise ScanloopError(
                f"The check {name} of suite {suite.name} {'passed' if one.success else 'failed'} with {len(rows)} failing rows."
            )
    names = [check.name for check in suite.checks]
    if set(names) != failing.keys():
        raise ScanloopError(f"Suite {suite.name} has {len(names)} checks, {len(failing)} were evaluated.")
    rows_failed = sorted(set().union(*failing.values()))
    failed = {row: tuple(name for name in names if row in failing[name]) for row in rows_failed}
    return SuiteOutcome(failed, {name: len(failing[name]) for name in names}, page)
