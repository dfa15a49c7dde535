"""Tags of the DAGs: which part of the loop, and what starts it."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """Every tag a DAG may carry."""

    INTAKE = "intake"
    """From the landing zone to validated scans."""
    LABELS = "labels"
    """From validated scans to accepted annotations."""
    MODELS = "models"
    """From a snapshot to a champion."""
    RELEASES = "releases"
    """From a champion to devices."""
    FLEET = "fleet"
    """What runs in the cluster and at customers' sites."""
    CLOCK = "clock"
    """Started by the clock."""
    KEYED = "keyed"
    """One run per product line."""
    FORM = "form"
    """A person can start it with a form."""
