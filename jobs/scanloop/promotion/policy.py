"""When a candidate may become champion: the gate of a product line, as the rules need it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scanloop.canonical import digest_of
from scanloop.product_lines import Gate

GATE_VERSION = 1
"""Raised when the rules change, so that a new decision is a new decision."""
REJECTING_RULES = 3
"""Rules by which a candidate that is no worse could be rejected by bad luck: Pfa, the slices together, AP50."""


def rejecting_confidence(confidence: float) -> float:
    """Confidence that one rule needs to reject, so that all of them together reject a candidate with nothing wrong no more often than agreed.

    Source: the Bonferroni inequality.
    """
    return 1 - (1 - confidence) / REJECTING_RULES


@dataclass(frozen=True)
class GatePolicy:
    """What the rules of the gate ask for."""

    target_pfa: float
    """Share of clean bags that may alarm at the operating point."""
    min_ap50: float
    """A first champion needs at least this AP50."""
    max_pd_drop: float
    """A new champion's Pd may be lower than the old one's by at most this: the non-inferiority margin."""
    min_ap50_gain: float
    """A new champion needs at least this gain in AP50."""
    confidence: float
    """Confidence of every bound."""
    min_threat_bags: int
    """Fewer test bags with threats than this are too little evidence."""
    min_clean_bags: int
    """Fewer clean test bags than this are too little evidence."""
    approval: str
    """never or always: whether a named person must approve."""
    approvers: tuple[str, ...]
    """Who may approve."""

    @classmethod
    def of(cls, gate: Gate) -> GatePolicy:
        """Take the gate of a product line's definition."""
        return cls(**{name: getattr(gate, name) for name in cls.__dataclass_fields__})

    def as_json(self) -> dict[str, Any]:
        """The fields and the version of the rules, for the evidence."""
        return {"gate_version": GATE_VERSION, **asdict(self), "approvers": list(self.approvers)}

    @property
    def digest(self) -> str:
        """SHA-256 of the policy."""
        return digest_of(self.as_json())


def decision_id(candidate_id: str, champion_id: str | None, snapshot_id: str, policy: GatePolicy) -> str:
    """Name the decision by what it decides: the same two models on the same snapshot under the same policy are the same decision."""
    return digest_of([candidate_id, champion_id, snapshot_id, policy.digest])
