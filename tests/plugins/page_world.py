"""A catalog as it is in the middle of the loop: one product line released, one held up, one new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

NASTY = "<script>alert(1)</script>"


def _definition(key: str, title: str) -> dict[str, Any]:
    return {
        "product_line": key,
        "title": title,
        "taxonomy": "t-1",
        "categories": ["handgun", "knife"],
        "selection": {"budget_scans": 40, "exploration_share": 0.1, "near_duplicate_bits": 4, "seed": 5},
    }


def fill(engine: sa.Engine) -> None:
    """Fill an empty, migrated catalog."""
    from scanloop.catalog import tables as t
    from scanloop.product_lines import ProductLine

    run = {"run_id": "r"}
    with engine.begin() as connection:

        def insert(table: sa.Table, *rows: dict[str, Any]) -> None:
            for row in rows:
                connection.execute(sa.insert(table).values(**run, **row))

        for key, title in (
            ("cabin_baggage", "Cabin baggage at the checkpoint"),
            ("hold_baggage", f"Hold baggage {NASTY}"),
            ("parcels", "Parcels"),
        ):
            line = ProductLine.model_validate(_definition(key, title))
            insert(
                t.product_lines,
                {"product_line": key, "version": line.version, "definition": line.model_dump(mode="json"), "is_active": True},
            )
        insert(t.sites, {"site_id": "ams", "name": "Amsterdam"})
        insert(t.scanners, {"scanner_id": "acme-x1-7", "site_id": "ams", "manufacturer": "Acme", "model": "X1", "serial": "7"})
        insert(t.bags, {"bag_id": "ams/i/1", "site_id": "ams"})
        scans = [f"{number:064x}" for number in range(30)]
        for number, scan in enumerate(scans):
            state = "received" if number > 27 else "quarantined" if number > 25 else "validated"
            insert(
                t.scans,
                {
                    "scan_id": scan,
                    "site_id": "ams",
                    "scanner_id": "acme-x1-7",
                    "bag_id": "ams/i/1",
                    "view_name": "top",
                    "modality": "DX",
                    "source_format": "dicos",
                    "raw_key": "k",
                    "planes_key": "k",
                    "phash": "0" * 16,
                    "state": state,
                },
            )
            insert(
                t.deliveries,
                {
                    "delivery_id": f"d{number}",
                    "landing_key": f"l{number}",
                    "size_bytes": 9,
                    "content_sha256": scan,
                    "outcome": "duplicate" if number % 7 == 0 else "scan",
                },
            )
        for number, reason in enumerate(("truncated", "truncated", "not_an_image")):
            insert(
                t.quarantine,
                {
                    "quarantine_id": f"q{number}",
                    "raw_key": "k",
                    "reason_code": reason,
                    "reason": reason,
                    "landing_key": "l",
                    "stage": "intake",
                    "state": "held",
                },
            )
        for key in ("cabin_baggage", "hold_baggage"):
            insert(t.selections, {"selection_id": f"s-{key}", "product_line": key, "seed": 1, "budget": 20})
            for rank, scan in enumerate(scans[:20]):
                insert(
                    t.selection_items,
                    {"selection_id": f"s-{key}", "scan_id": scan, "rank": rank, "is_chosen": True, "score": 0.5, "reason": "uncertain"},
                )
            states = ("accepted", "accepted", "open", "submitted", "returned")
            for rank, scan in enumerate(scans[:18]):
                task = f"t-{key}-{rank}"
                insert(
                    t.labelling_tasks,
                    {
                        "task_id": task,
                        "product_line": key,
                        "scan_id": scan,
                        "bag_id": "ams/i/1",
                        "schema_version": "1",
                        "round": 1,
                        "selection_id": f"s-{key}",
                        "external_id": task,
                        "assignees": 2,
                        "state": states[rank % 5],
                    },
                )
                if states[rank % 5] == "accepted":
                    note = {"annotation_id": f"n-{task}", "scan_id": scan, "product_line": key, "task_id": task, "author": "review"}
                    insert(t.annotations, {**note, "author_kind": "consensus", "tool": "review", "taxonomy_version": "t-1"})
                    insert(
                        t.reviews,
                        {
                            "review_id": f"v-{task}",
                            "task_id": task,
                            "product_line": key,
                            "scan_id": scan,
                            "verdict": "accepted",
                            "reason": "agreed",
                            "agreement": 1.0,
                            "annotation_id": f"n-{task}",
                        },
                    )
            snapshot, models = f"{key}-snapshot", [f"{key}-model-{number}".encode().hex().ljust(64, "0")[:64] for number in (1, 2)]
            insert(
                t.snapshots,
                {
                    "snapshot_id": snapshot,
                    "product_line": key,
                    "definition_version": "v",
                    "root_key": "k",
                    "state": "ready",
                    "sequence": 1,
                    "counts": {"accepted": 8},
                },
            )
            for number, model in enumerate(models):
                insert(
                    t.models,
                    {
                        "model_id": model,
                        "product_line": key,
                        "snapshot_id": snapshot,
                        "recipe": "rtmdet_tiny",
                        "config_key": "k",
                        "weights_key": "k",
                        "state": ("champion", "candidate")[number],
                    },
                )
                summary = {"ap": 0.4, "ap50": 0.71 + number / 100, "pd": 0.93, "pd_lower": 0.85, "pfa": 0.08, "pfa_upper": 0.15}
                insert(
                    t.evaluations,
                    {
                        "evaluation_id": f"e-{key}-{number}",
                        "model_id": model,
                        "snapshot_id": snapshot,
                        "product_line": key,
                        "results_key": "k",
                        "outcomes_key": "k",
                        "report_key": "k",
                        "summary": summary,
                    },
                )
            verdict = "promote" if key == "cabin_baggage" else "insufficient_evidence"
            insert(
                t.decisions,
                {
                    "decision_id": f"d-{key}",
                    "product_line": key,
                    "candidate_id": models[0],
                    "snapshot_id": snapshot,
                    "verdict": verdict,
                    "needs_approval": False,
                    "reasons": ["Pd 0.93 is at least 0.85 with 95 % confidence", f"19 clean bags {NASTY}"],
                    "evidence_key": "k",
                    "evidence_sha256": "0",
                },
            )
            insert(t.champions, {"product_line": key, "model_id": models[0], "decision_id": f"d-{key}", "sequence": 1})
            insert(t.champion_history, {"product_line": key, "model_id": models[0], "decision_id": f"d-{key}", "sequence": 1})
            late = datetime.now(UTC) - timedelta(hours=2)
            insert(
                t.releases,
                {
                    "release_id": f"r-{key}",
                    "product_line": key,
                    "version": 1,
                    "model_id": models[0],
                    "bundle_key": "k",
                    "bundle_sha256": "0",
                    "channel": "stable",
                    "state": "released" if key == "cabin_baggage" else "requested",
                    "created_at": late,
                },
            )
        insert(
            t.devices,
            {
                "device_id": "edge-1",
                "site_id": "ams",
                "product_lines": ["cabin_baggage"],
                "channel": "stable",
                "public_key": "k",
                "state": "enrolled",
            },
        )
