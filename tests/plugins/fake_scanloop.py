"""A `scanloop` command that does no work: it speaks exit codes, writes lines and leaves real receipts, as a scenario tells it.

The scenario is the JSON file named by SCANLOOP_SCENARIO: job name, or `job@product_line`, or `job#part` → a list of acts, one an attempt (the
last one is for every later attempt). An act may hold: `exit`, `say` (lines), `result`, `receipt` (false: leave none; or fields to forge),
`sleep_s`, `children` (processes started and left running, the last of them in a session of its own), `stubborn` (they ignore SIGTERM).
Every call appends what it saw to the file named by SCANLOOP_CALLS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DIGEST = "ab" * 32
RESULTS: dict[str, dict[str, Any]] = {
    "product-line.due": {"product_lines": ["cabin_baggage", "hold_baggage"]},
    "ingest.plan": {"shards": ["00/02", "01/02"], "count": 4},
    "ingest.shard": {"scans": 2, "duplicates": 0, "quarantined": 0, "deliveries": 2},
    "ingest.acknowledge": {"deleted": 4},
    "validation.run": {"validated": 4, "quarantined": 0, "product_lines": ["cabin_baggage", "hold_baggage"]},
    "selection.create": {"selection_id": "s1", "chosen": 3},
    "labelling.push": {"tasks": 3},
    "labelling.pull": {"annotations": 6, "open": 0},
    "review.run": {"accepted": 3, "returned": 0, "escalated": 0},
    "snapshot.create": {"snapshot_id": DIGEST, "counts": {"train": 2}},
    "model.train": {"model_id": "cd" * 32, "snapshot_id": DIGEST, "metrics": {"loss": 0.5}},
    "evaluation.run": {"evaluation_id": "e1", "ap50": 0.8, "pd": 0.9, "pfa": 0.02},
    "promotion.compare": {
        "decision_id": "d1", "verdict": "promote", "needs_approval": False, "approvers": [], "reasons": ["no champion yet"],
    },
    "promotion.promote": {"champion": "cd" * 32, "sequence": 1},
    "release.export": {"release_id": "r1", "bundle_key": "bundles/ab"},
    "release.publish": {"version": 1, "target": "cabin_baggage-1"},
    "backfill.plan": {"selection_id": "s2", "chosen": 5},
}  # fmt: skip


def _act(scenario: dict[str, Any], job: str, product_line: str, part: str, attempt: int) -> dict[str, Any]:
    acts = scenario.get(f"{job}#{part}") or scenario.get(f"{job}@{product_line}") or scenario.get(job) or [{}]
    found: dict[str, Any] = acts[min(attempt, len(acts)) - 1]
    return found


def _write_receipt(job: str, part: str, product_line: str, result: dict[str, Any], forged: dict[str, Any]) -> None:
    from dataclasses import replace

    from scanloop.execution.receipts import Receipt, encode, receipt_key
    from scanloop.settings import read_settings
    from scanloop.store import open_store

    run_id = os.environ["SCANLOOP_RUN_ID"]
    receipt = Receipt(
        run_id=run_id,
        job=job,
        part=part,
        attempt=int(os.environ["SCANLOOP_ATTEMPT"]),
        actor=os.environ["SCANLOOP_ACTOR"],
        product_line=product_line or None,
        fence=None,
        arguments={},
        consumed=json.loads(os.environ["SCANLOOP_CONSUMED_RUNS"]),
        inputs=[],
        outputs=[],
        publication={},
        result=result,
        audit_head={},
        scanloop_version="0",
        finished_at="2026-01-01T00:00:00Z",
    )
    store = open_store(read_settings().store_url)
    store.put(receipt_key(run_id, job, part), encode(replace(receipt, **forged)))


def main(words: list[str]) -> int:
    """Do what the scenario says for this command line."""
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    job = ".".join(word for word in words if not word.startswith("--"))
    product_line = options.get("product-line", "")
    part = {"ingest.shard": options.get("shard", ""), "backfill.plan": product_line}.get(job, "")
    if calls := os.environ.get("SCANLOOP_CALLS"):
        with Path(calls).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"job": job, "words": words, "environment": dict(os.environ), "pid": os.getpid()}) + "\n")
    named = os.environ.get("SCANLOOP_SCENARIO")
    scenario = json.loads(Path(named).read_text(encoding="utf-8")) if named and Path(named).exists() else {}
    act = _act(scenario, job, product_line, part, int(os.environ.get("SCANLOOP_ATTEMPT", "1")))
    nap = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"] if act.get("stubborn") else ["sleep", "600"]
    for number in range(act.get("children", 0)):
        child = subprocess.Popen(nap, start_new_session=number == act["children"] - 1)
        print(f"child {child.pid}", flush=True)
    for line in act.get("say", []):
        print(line, flush=True)
    time.sleep(act.get("sleep_s", 0))
    if code := act.get("exit", 0):
        return int(code)
    result = RESULTS.get(job, {}) | act.get("result", {})
    receipt = act.get("receipt", {})
    if receipt is not False:
        _write_receipt(job, part, product_line, result, receipt)
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
