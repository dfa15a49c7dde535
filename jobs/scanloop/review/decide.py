"""Whether the annotations of one task are believed. Rules only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanloop.labelling.boxes import Box
from scanloop.labelling.tasks import verdict_of_failure
from scanloop.review.agreement import Disputed, agree

_NAMED = 5
"""Disputed findings that a reason names at most; the details keep all."""


@dataclass(frozen=True)
class Verdict:
    """What review decided about a task."""

    verdict: str
    """`accepted`, `returned` or `escalated`."""
    reason: str
    """Why, in words for the people who label."""
    agreement: float
    """Agreement in [0, 1]."""
    consensus: tuple[Box, ...]
    """What is accepted; empty unless accepted."""
    details: dict[str, Any] = field(default_factory=dict)
    """Every disputed and dismissed finding."""


def decide(boxes_by_author: Mapping[str, Sequence[Box]], round_number: int, *, iou_agreement: float, min_agreement: float) -> Verdict:
    """Accept when agreement is high enough and no finding is disputed; otherwise send back, or up after the last round."""
    found = agree(boxes_by_author, iou_agreement)
    details = {
        "authors": sorted(boxes_by_author),
        "disputed": [_as_json(one) for one in found.disputed],
        "dismissed": [_as_json(one) for one in found.dismissed],
    }
    score = round(found.score, 6)
    if not found.disputed and score >= min_agreement:
        said = f"{len(boxes_by_author)} annotators agree on {len(found.consensus)} boxes"
        return Verdict("accepted", said, score, found.consensus, details)
    reasons = [str(one) for one in (found.disputed or found.dismissed)[:_NAMED]]
    unnamed = len(found.disputed or found.dismissed) - len(reasons)
    reason = f"agreement {score:.2f}, needed {min_agreement:.2f}: {'; '.join(reasons)}{f'; and {unnamed} more' if unnamed else ''}"
    return Verdict(verdict_of_failure(round_number), reason, score, (), details)


def _as_json(one: Disputed) -> dict[str, Any]:
    return one.box.as_json() | {"authors": list(one.authors), "instead": one.instead}
