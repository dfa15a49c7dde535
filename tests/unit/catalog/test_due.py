"""What makes a product line due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scanloop.catalog.due import reasons_due
from scanloop.catalog.loop import LoopStatus
from scanloop.product_lines import ProductLine

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LINE = ProductLine.model_validate(
    {
        "product_line": "cabin",
        "title": "Cabin",
        "taxonomy": "t-1",
        "categories": ["knife"],
        "selection": {"budget_scans": 10},
        "snapshot": {"min_scans": 50, "min_new_scans": 20},
        "wake": {"max_age_days": 30},
    }
)
AT_REST = LoopStatus(
    product_line="cabin", title="Cabin", validated_scans=100, chosen_scans=80, untasked_scans=0, open_tasks=0, submitted_tasks=0,
    returned_tasks=0, accepted_scans=80, snapshots=1, snapshot_scans=80, models=1, champion_id="m", champion_since=NOW - timedelta(days=29),
    verdict="promote", release_version=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"untasked_scans": 3}, "3 chosen scans wait for a labelling task"),
        ({"open_tasks": 3}, "3 labelling tasks may have been finished"),
        ({"submitted_tasks": 3}, "3 finished labelling tasks wait for their check"),
        ({"returned_tasks": 3}, "3 scans go back to the labellers"),
        ({"accepted_scans": 100}, "20 accepted scans are in no snapshot"),
        (
            {"accepted_scans": 81, "champion_since": NOW - timedelta(days=31)},
            "the champion is older than 30 days, and there are 1 accepted scans since",
        ),
    ],
    ids=lambda value: value.replace(" ", "-")[:24] if isinstance(value, str) else next(iter(value)),
)
def test_each_reason_alone_makes_due(change: dict[str, object], reason: str) -> None:
    assert reasons_due(replace(AT_REST, **change), LINE, NOW) == [reason]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"accepted_scans": 99},
        {"champion_since": NOW - timedelta(days=365)},
        {"accepted_scans": 49, "snapshot_scans": 0, "snapshots": 0},
    ],
    ids=("at rest", "too few are new", "an old champion and nothing new", "too few for a first snapshot"),
)
def test_nothing_is_due_that_would_change_nothing(change: dict[str, object]) -> None:
    """Woken for what then does nothing, a product line would be woken again and again."""
    assert reasons_due(replace(AT_REST, **change), LINE, NOW) == []
