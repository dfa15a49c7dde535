"""Runs in the jobs environment: gives command lines to the real `scanloop` command and says which job each one is, instead of running it.

Standard input: a JSON list of {words, environment}. Standard output: for each, the exit code, what it said, and the job's name, part, product
line, run id and attempt.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections import defaultdict
from typing import Any


def main() -> None:
    """Answer every command line."""
    from scanloop.cli import options

    recorded: list[dict[str, Any]] = []

    def record(
        job: str, body: object, *, options: Any, product_line: str | None = None, lease: str | None = None, part: str = ""
    ) -> dict[str, str]:
        assert callable(body)
        recorded.append(
            {"job": job, "part": part, "product_line": product_line, "run_id": options.run_id, "attempt": options.attempt, "lease": lease}
        )
        return defaultdict(str)

    def record_chunks(job: str, body: object, total: object, *, options: Any, part: str) -> dict[str, str]:
        assert callable(total)
        return record(job, body, options=options, part=part)

    # Before the commands' modules take them from there.
    options.run_job, options.run_job_in_chunks = record, record_chunks
    from scanloop.cli.main import run

    answers = []
    for request in json.load(sys.stdin):
        recorded.clear()
        os.environ.update(request["environment"])
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = run(request["words"])
        answers.append({"code": code, "said": said.getvalue(), "jobs": list(recorded)})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
