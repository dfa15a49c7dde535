"""What evaluation and promotion add to the experiment of a model. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scanloop.tracking.events import Event, curves, picture, single, table

Json = Mapping[str, Any]


def of_evaluation(task_id: str, results: Json, urls: Mapping[str, str]) -> Iterator[Event]:
    """Tables by category and by scanner, curves, and the pictures that were uploaded (name → URL)."""
    metric = f"evaluation {results['snapshot_id'][:12]}"
    numbers = {
        "test_ap": results["ap"]["ap"],
        "test_ap50": results["ap"]["ap50"],
        "test_pd": results["pd"]["rate"],
        "test_pfa": results["pfa"]["rate"],
    }
    for name, value in numbers.items():
        if value is not None:
            yield single(task_id, name, value)
    names = ("category", "boxes", "AP", "AP50", "Pd", "Pd lower", "Pfa", "Pfa upper")
    rows = [_row(name, part) for name, part in results["by_category"].items()]
    yield table(task_id, metric, "by category", names, rows)
    scanners = [
        [name, part["bags"], part["ap50"], part["pd"]["rate"], part["pd"]["lower"], part["pfa"]["rate"], part["pfa"]["upper"]]
        for name, part in results["by_scanner"].items()
    ]
    yield table(task_id, metric, "by scanner", ("scanner", "bags", "AP50", "Pd", "Pd lower", "Pfa", "Pfa upper"), scanners)
    curve = results["operating_curve"]
    if curve:
        line = {"model": ([point["pfa"] for point in curve], [point["pd"] for point in curve])}
        yield curves(task_id, metric, "operating curve", line, "Pfa", "Pd")
    precision = results["precision_recall"]
    if precision["precision"]:
        lines = {name: (precision["recall"], values) for name, values in precision["precision"].items()}
        yield curves(task_id, metric, "precision and recall", lines, "recall", "precision")
    for name, url in urls.items():
        yield picture(task_id, metric, name, url)


def of_decision(task_id: str, decision: Json, evidence: Json) -> Iterator[Event]:
    """What was decided about a candidate, and every finding that it rests on."""
    metric = f"decision {decision['decision_id'][:12]}"
    champion = decision["champion_id"]
    facts = [
        ("verdict", decision["verdict"]),
        ("compared with", champion[:12] if champion else "nobody"),
        ("snapshot", decision["snapshot_id"][:12]),
        ("approver", decision["approver"]),
        *(("reason", reason) for reason in decision["reasons"]),
    ]
    yield table(task_id, metric, "decision", ("", "value"), facts)
    findings = [list(finding.values()) for finding in evidence.get("findings", [])]
    if findings:
        yield table(task_id, metric, "findings", list(evidence["findings"][0]), findings)


def _row(name: str, part: Json) -> list[Any]:
    pfa = part.get("pfa") or {}
    return [
        name,
        part["boxes"],
        part.get("ap"),
        part.get("ap50"),
        part["pd"]["rate"],
        part["pd"]["lower"],
        pfa.get("rate"),
        pfa.get("upper"),
    ]
