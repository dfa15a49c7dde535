"""One run as one experiment on a ClearML server: found or made, told, closed. Every act may be repeated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanloop.steps import step
from scanloop.tracking.events import Event, of_line
from scanloop.tracking.server import Server, TrackingRefused, tag_of

FRAMEWORK = "PyTorch"
RUNNING, CLOSED = "in_progress", ("completed", "published", "publishing")


@dataclass(frozen=True)
class Experiment:
    """An experiment as the server knows it."""

    task_id: str
    """Its id there."""
    project_id: str
    """Id of its project."""
    status: str
    """What the server says about it."""
    url: str | None
    """Its page."""


def find_experiment(server: Server, tracking_id: str) -> Experiment | None:
    """The experiment of a run, if the server has it: the oldest, should anybody have copied it."""
    found = server.find_tasks(tag_of(tracking_id))
    if not found:
        return None
    first = found[0]
    task_id, project_id = str(first["id"]), str(first.get("project") or "")
    return Experiment(task_id, project_id, str(first["status"]), server.page_of(project_id, task_id))


def open_experiment(server: Server, begin: Mapping[str, Any]) -> Experiment:
    """Find the experiment that a spool begins, or make it; it is running when this returns, unless it was published.

    Made with everything by which it is found again in one request, so that there is no moment at which it is there and cannot be found.
    """
    from clearml.backend_api.services import tasks

    known = find_experiment(server, begin["tracking_id"])
    if known is None:
        project_id = server.ensure_project(begin["project"])
        request = tasks.CreateRequest(
            name=begin["name"],
            type="training",
            project=project_id,
            tags=[*begin["tags"], tag_of(begin["tracking_id"])],
            comment=_comment(begin),
            hyperparams=_parameters(begin),
            configuration={"config": _configuration(begin["config"])},
            script=_script(begin.get("environment", {})),
            execution={"framework": FRAMEWORK, "artifacts": _artifacts(begin)},
        )
        task_id = str(server.send(request)["id"])
        step("tracking.after_experiment_created")
        known = Experiment(task_id, project_id, "created", server.page_of(project_id, task_id))
    elif known.status not in CLOSED:
        items = [item for section in _parameters(begin).values() for item in section.values()]
        server.send(tasks.EditHyperParamsRequest(task=known.task_id, hyperparams=items, force=True))
    if known.status not in (RUNNING, *CLOSED):
        server.send(tasks.StartedRequest(task=known.task_id, force=True))
    return known


def tell(server: Server, task_id: str, lines: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Tell an experiment the lines of a spool; pictures are read from `folder`."""
    found = list(lines)
    urls = {
        line["path"]: server.upload(folder / line["path"], f"scanloop/{task_id}")
        for line in found
        if line["kind"] == "picture" and (folder / line["path"]).exists()
    }
    told = [line for line in found if line["kind"] != "picture" or line["path"] in urls]
    server.add_events([event for line in told for event in of_line(task_id, line, urls)])


def close_experiment(server: Server, task_id: str, end: str, reason: str = "") -> None:
    """Close an experiment as `completed`, `stopped` (aborted) or `failed`. One that is closed so already stays as it is."""
    from clearml.backend_api.services import tasks

    kinds = {"completed": tasks.CompletedRequest, "stopped": tasks.StoppedRequest, "failed": tasks.FailedRequest}
    current = str(server.send(tasks.GetByIdRequest(task=task_id))["task"]["status"])
    if current == end or current in ("published", "publishing"):
        return
    server.send(kinds[end](task=task_id, force=True, status_reason=reason, status_message=reason))


def set_properties(server: Server, task_id: str, values: Mapping[str, Any]) -> None:
    """Set values that people see beside an experiment."""
    from clearml.backend_api.services import tasks

    items = [_parameter("properties", name, value) for name, value in values.items()]
    try:
        server.send(tasks.EditHyperParamsRequest(task=task_id, hyperparams=items, force=True))
    except TrackingRefused:
        # A published experiment is closed for changes; what is said about it is in the tables too.
        if str(server.send(tasks.GetByIdRequest(task=task_id))["task"]["status"]) not in ("published", "publishing"):
            raise


def send(server: Server, events: Sequence[Event]) -> None:
    """Add events to what an experiment shows."""
    if events:
        server.add_events(events)


def _parameter(section: str, name: str, value: Any) -> dict[str, str]:
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    return {"section": section, "name": name, "value": shown, "type": type(value).__name__}


def _parameters(begin: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """Sections of the experiment: what decided it, where it comes from, what it ran in, and what is said about it."""
    environment = {name: value for name, value in begin.get("environment", {}).items() if name != "packages"}
    sections = {"options": begin["options"], "links": begin["links"], "environment": environment}
    sections["properties"] = {"tracking_id": begin["tracking_id"], **begin.get("properties", {})}
    return {
        section: {name: _parameter(section, name, value) for name, value in values.items() if value is not None}
        for section, values in sections.items()
        if values
    }


def _configuration(config: Any) -> dict[str, str]:
    return {"name": "config", "type": "json", "value": json.dumps(config, indent=1, sort_keys=True, default=str)}


def _script(environment: Mapping[str, Any]) -> dict[str, Any]:
    script = {"binary": f"python{environment.get('python', '')}", "entry_point": "scanloop model train", "working_dir": "."}
    script |= {"repository": environment.get("git_repository", ""), "version_num": environment.get("git_commit", "")}
    return {**script, "requirements": {"pip": environment.get("packages", "")}}


def _artifacts(begin: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Files of the store that belong to the experiment, by their address."""
    return [{"key": name, "type": "link", "mode": "input", "uri": uri} for name, uri in begin.get("uris", {}).items()]


def _comment(begin: Mapping[str, Any]) -> str:
    links = {**begin["links"], **begin.get("uris", {})}
    return "\n".join(f"{name}: {value}" for name, value in links.items() if value)
