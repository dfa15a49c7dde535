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
_INDEX = "scan_id"
_RUN_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Data Docs are named by run and time; the run is enough, and without the time the same run writes the same pages."""


@dataclass(frozen=True)
class SuiteOutcome:
    """What one suite found in one batch of scans."""

    failed: Mapping[str, tuple[str, ...]]
    """Scan id to the names of the checks it failed, in the suite's order. Scans that passed are not in it."""
    counts: Mapping[str, int]
    """Name of a check to the number of scans that failed it."""
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


def run_suites(frame: pd.DataFrame, suites: tuple[Suite, ...], run_name: str, docs_folder: Path) -> dict[str, SuiteOutcome]:
    """Run every suite over the scans in `frame` and render Data Docs below `docs_folder`. Suite name to what it found.

    Raises:
        ScanloopError: an expectation could not be evaluated; that is a defect of the suite, and no scan passes because of it.
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
        batch = context.data_sources.add_pandas("catalog").add_dataframe_asset("scans").add_batch_definition_whole_dataframe("new")
        definitions = []
        for suite in suites:
            built = [
                getattr(expectations, check.expectation)(**check.arguments, meta={"check": check.name}, notes=check.says)
                for check in suite.checks
            ]
            added = context.suites.add(gx.ExpectationSuite(f"{suite.name}-{suite.version}", expectations=built))
            definitions.append(context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=added)))
        checkpoint = gx.Checkpoint(
            name="scans",
            validation_definitions=definitions,
            actions=[UpdateDataDocsAction(name="render", site_names=["datadocs"])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [_INDEX]},
        )
        run_id = RunIdentifier(run_name=run_name, run_time=_RUN_TIME)
        result = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame}, run_id=run_id)
    pages = {path.parents[2].name: path for path in docs_folder.glob("validations/*/*/*/*.html")}
    found = {str(one.suite_name): one for one in result.run_results.values()}
    return {suite.name: _outcome(suite, found[f"{suite.name}-{suite.version}"], pages[f"{suite.name}-{suite.version}"]) for suite in suites}


def _outcome(suite: Suite, result: Any, page: Path) -> SuiteOutcome:
    failing: dict[str, set[str]] = {}
    for one in result.results:
        name = one.expectation_config.meta["check"]
        if one.exception_info.get("raised_exception", True):
            raise ScanloopError(
                f"The check {name} of suite {suite.name} cannot be evaluated: {one.exception_info.get('exception_message')}."
            )
        rows = one.result.get("unexpected_index_list") or []
        failing[name] = {str(row[_INDEX]) for row in rows}
        if bool(one.success) == bool(rows):
            raise ScanloopError(
                f"The check {name} of suite {suite.name} {'passed' if one.success else 'failed'} with {len(rows)} failing scans."
            )
    names = [check.name for check in suite.checks]
    if set(names) != failing.keys():
        raise ScanloopError(f"Suite {suite.name} has {len(names)} checks, {len(failing)} were evaluated.")
    scans = sorted(set().union(*failing.values()))
    failed = {scan: tuple(name for name in names if scan in failing[name]) for scan in scans}
    return SuiteOutcome(failed, {name: len(failing[name]) for name in names}, page)
