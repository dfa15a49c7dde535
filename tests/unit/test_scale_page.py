"""The page on scale says what its script works out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "scale.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
