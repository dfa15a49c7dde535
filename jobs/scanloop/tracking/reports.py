"""A report per product line on a ClearML server: its versions side by side.

`reports.*` has no classes in the SDK (2.1), so these requests are plain JSON, as schema/services/reports.conf of clearml-server describes them:
`create` takes name, project, tags and comment and puts the report into the project's `.reports`; the text is set by `update`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scanloop.steps import step
from scanloop.tracking.server import Server, project_name, tag_of

COMPARED = 5
"""Newest versions that the link to the comparison names."""
COLUMNS = ("version", "state", "trained", "snapshot", "recipe", "AP50", "Pd", "Pfa", "verdict")


def write_report(server: Server, product_line: str, text: str) -> tuple[str, str | None]:
    """Make or renew the report of a product line; returns its id and its page."""
    tag = tag_of(f"report:{product_line}")
    wanted = {"tags": [tag], "only_fields": ["id", "project", "status"], "order_by": ["created"], "search_hidden": True}
    found = [report for report in server.post("reports", "get_all_ex", wanted)["tasks"] if report.get("status") != "published"]
    if found:
        report_id, project = str(found[0]["id"]), found[0].get("project")
        project_id = str(project["id"] if isinstance(project, Mapping) else project)
    else:
        content = {"name": f"{product_line}: versions", "project": server.ensure_project(project_name(product_line)), "tags": [tag]}
        made = server.post("reports", "create", {**content, "comment": "Written by Scanloop; changes are overwritten."})
        report_id, project_id = str(made["id"]), str(made["project_id"])
        step("tracking.after_report_created")
    server.post("reports", "update", {"task": report_id, "report": text})
    step("tracking.after_report_written")
    return report_id, f"{server.web_host}/reports/{project_id}/{report_id}" if server.web_host else None


def report_text(product_line: str, versions: Sequence[Mapping[str, Any]], web_host: str) -> str:
    """The report as Markdown. Pure.

    Args:
        product_line: whose it is.
        versions: newest first; each with model_id, state, trained, snapshot_id, recipe, summary (of its newest evaluation, or None), verdict, url
            and task_id (of its experiment, or None).
        web_host: address of ClearML's pages, empty if unknown.
    """
    champion = next((version for version in versions if version["state"] == "champion"), None)
    lines = [f"# {product_line}", ""]
    lines += [f"Champion: **{champion['model_id'][:12]}**, trained {champion['trained']}." if champion else "No champion yet.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for version in versions:
        summary = version["summary"] or {}
        name = version["model_id"][:12]
        cells = [
            f"[{name}]({version['url']})" if version["url"] else name,
            version["state"],
            version["trained"],
            version["snapshot_id"][:12],
        ]
        cells += [version["recipe"], *(_number(summary.get(key)) for key in ("ap50", "pd", "pfa")), version["verdict"] or "–"]
        lines.append(f"| {' | '.join(cells)} |")
    compared = [version["task_id"] for version in versions[:COMPARED] if version["task_id"]]
    if web_host and len(compared) > 1:
        lines += ["", f"[Compare the newest versions]({web_host}/projects/*/compare-experiments;ids={','.join(compared)}/scalars/graph)"]
    return "\n".join([*lines, ""])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
