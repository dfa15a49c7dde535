"""The commands of these rooms as processes: exit codes, one JSON line on standard output, one sentence on standard error."""

from __future__ import annotations

import subprocess
import sys

import pytest

BAGS = [f"bag-{number}" for number in range(60)]


@pytest.fixture
def command(environment):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "scanloop.cli.main", *arguments], env=environment, capture_output=True, text=True, timeout=120
        )

    return run
