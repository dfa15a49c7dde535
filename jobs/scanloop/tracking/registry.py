"""Models on a ClearML server: registered with framework, labels, tags and lineage, published when they become champion, found by query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanloop.steps import step
from scanloop.tracking.experiments import FRAMEWORK
from scanloop.tracking.server import Server, project_name, tag_of

STATES = ("candidate", "champion", "retired", "rejected")
CHAMPION = "champion"


@dataclass(frozen=True)
class Registration:
    """What a server is told about a model."""

    model_id: str
    """SHA-256 of the weights."""
    name: str
    """How people see it."""
    product_line: str
    """Whose it is."""
    state: str
    """One of STATES."""
    uri: str
    """Where the weights are."""
    labels: dict[str, int]
    """Category → the class number that the detector gives it."""
    tags: tuple[str, ...]
    """Product line, recipe."""
    task_id: str
    """The experiment that it came from."""
    parent: str | None
    """The server's id of the model that the training started from."""
    lineage: dict[str, str]
    """Ids and addresses of what it was made from."""


def find_model(server: Server, model_id: str) -> dict[str, Any] | None:
    """The registered model, if the server has it."""
    from clearml.backend_api.services import models

    fields = ["id", "ready", "tags", "parent", "task"]
    found = server.send(models.GetAllRequest(tags=[tag_of(model_id)], only_fields=fields, order_by=["created"]))["models"]
    return dict(found[0]) if found else None


def register(server: Server, about: Registration) -> str:
    """Register a model, or bring its registration level; returns the server's id. Published if it is, or was, champion."""
    from clearml.backend_api.services import models, tasks

    tags = [*about.tags, about.state, tag_of(about.model_id)]
    known = find_model(server, about.model_id)
    if known is None:
        request = models.CreateRequest(
            uri=about.uri,
            name=about.name,
            project=server.ensure_project(project_name(about.product_line)),
            task=about.task_id,
            framework=FRAMEWORK,
            labels=about.labels,
            tags=tags,
            comment="\n".join(f"{name}: {value}" for name, value in about.lineage.items()),
            metadata=[{"key": name, "type": "str", "value": value} for name, value in about.lineage.items()],
            ready=False,
            **({"parent": about.parent} if about.parent else {}),
        )
        known = {"id": server.send(request)["id"], "ready": False, "tags": tags}
        step("tracking.after_model_created")
    elif set(known.get("tags") or ()) != set(tags):
        # Tags that people added stay; only the state is ours to change.
        kept = [tag for tag in known.get("tags") or () if tag not in STATES]
        server.send(models.EditRequest(model=known["id"], tags=[*kept, *(tag for tag in tags if tag not in kept)]))
    server_id = str(known["id"])
    name = f"Output Model - {about.model_id[:12]}"
    server.send(tasks.AddOrUpdateModelRequest(task=about.task_id, name=name, model=server_id, type="output"))
    if about.parent:
        server.send(tasks.AddOrUpdateModelRequest(task=about.task_id, name="Parent", model=about.parent, type="input"))
    step("tracking.after_model_linked")
    if about.state in (CHAMPION, "retired") and not known.get("ready"):
        server.send(models.SetReadyRequest(model=server_id, publish_task=False))
    step("tracking.after_model_published")
    return server_id


def find_champions(server: Server, product_line: str) -> list[str]:
    """Our ids of the published models that a server says are champion of a product line."""
    from clearml.backend_api.services import models

    project = server.find_project(project_name(product_line))
    if project is None:
        return []
    request = models.GetAllRequest(project=[project], tags=[CHAMPION], ready=True, only_fields=["id", "tags"])
    return sorted(_our_id(found) for found in server.send(request)["models"])


def _our_id(found: Mapping[str, Any]) -> str:
    prefix = tag_of("")
    return next((tag.removeprefix(prefix) for tag in found.get("tags") or () if tag.startswith(prefix)), f"unknown:{found['id']}")
