"""How thorough this session is, and its one seed."""

from __future__ import annotations

import os

SEED = int(os.environ.get("SCANLOOP_ASSURANCE_SEED", "20261123"))
"""Decides every draw of the fault tests; printed with the kill matrix."""
IS_LONG = os.environ.get("SCANLOOP_ASSURANCE") == "long"
"""Whether to try everything (`make assurance-long`) or what fits into a few minutes."""
INSTANTS = int(os.environ.get("SCANLOOP_ASSURANCE_INSTANTS", "1000" if IS_LONG else "40"))
"""At how many random instants intake is killed (`make instants` tries 200)."""
