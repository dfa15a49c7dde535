"""What the server keeps, and what it does at each endpoint. Rules as in clearml-server (apiserver/bll and apiserver/services)."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
HIDDEN = "hidden"
LOCKED = ("published", "publishing")
MOVES = {
    "created": {"queued", "in_progress"},
    "queued": {"created", "in_progress", "stopped"},
    "in_progress": {"stopped", "failed", "created", "completed"},
    "stopped": {"closed", "created", "failed", "queued", "in_progress", "published", "publishing", "completed"},
    "closed": {"created", "failed", "published", "publishing", "stopped"},
    "failed": {"created", "stopped", "published", "in_progress"},
    "completed": {"published", "in_progress", "created"},
    "publishing": {"published"},
    "published": set(),
}
"""Which status may follow which; `force` allows any."""


class Refused(Exception):
    """Answered with status 400."""


class State:
    """Tasks, events, models, projects and reports of one server."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tasks: dict[str, Json] = {}
        self.models: dict[str, Json] = {}
        self.projects: dict[str, Json] = {}
        self.events: dict[tuple[Any, ...], Json] = {}
        self.logs: list[Json] = []
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> str:
        """A clock that never stands still."""
        self._clock += timedelta(seconds=1)
        return self._clock.isoformat()

    def do(self, service: str, action: str, content: Any) -> Json:
        """Carry out a request. Raises Refused."""
        with self.lock:
            act: Callable[[Any], Json] | None = getattr(self, f"{service}_{action}", None)
            if act is None:
                raise NotImplementedError(f"{service}.{action}")
            return act(content)

    # ---- queries

    def _query(self, rows: Iterable[Json], asked: Json) -> list[Json]:
        found = [row for row in rows if all(_matches(row, name, wanted) for name, wanted in asked.items())]
        for order in reversed(asked.get("order_by") or []):
            found.sort(key=lambda row: str(row.get(order.lstrip("-")) or ""), reverse=order.startswith("-"))
        size, page = asked.get("page_size"), asked.get("page") or 0
        return found[page * size : (page + 1) * size] if size else found

    def _seen(self, rows: Iterable[Json], asked: Json) -> list[Json]:
        """Leave out what is hidden, unless it is asked for."""
        if asked.get("search_hidden") or asked.get("id") or asked.get("project"):
            return list(rows)
        return [row for row in rows if HIDDEN not in row.get("system_tags", [])]

    # ---- projects

    def projects_create(self, asked: Json) -> Json:
        if any(project["name"] == asked["name"] for project in self.projects.values()):
            raise Refused(f"Value combination already exists (unique field already contains this value): name={asked['name']}")
        parent, _, _ = asked["name"].rpartition("/")
        if parent and not any(project["name"] == parent for project in self.projects.values()):
            self.projects_create({"name": parent})
        project = {"system_tags": [], "tags": [], "description": "", **asked, "id": uuid.uuid4().hex, "created": self.now()}
        self.projects[project["id"]] = project
        return {"id": project["id"]}

    def projects_get_all(self, asked: Json) -> Json:
        return {"projects": self._query(self._seen(self.projects.values(), asked), asked)}

    def projects_get_by_id(self, asked: Json) -> Json:
        return {"project": self._project(asked["project"])}

    def projects_update(self, asked: Json) -> Json:
        self._project(asked["project"]).update({name: value for name, value in asked.items() if name != "project"})
        return {"updated": 1, "fields": {}}

    def _project(self, project_id: str) -> Json:
        if project_id not in self.projects:
            raise Refused(f"Invalid project id: id={project_id}")
        return self.projects[project_id]

    # ---- tasks

    def tasks_create(self, asked: Json) -> Json:
        if asked.get("project"):
            self._project(asked["project"])
        task: Json = {"tags": [], "system_tags": [], "hyperparams": {}, "configuration": {}, "execution": {}, "models": {}, "runtime": {}}
        task |= {"script": {}, "comment": "", "parent": None, "container": {}, "last_metrics": {}, "user": "test", "company": "test"}
        task |= {**asked, "id": uuid.uuid4().hex, "status": "created", "created": self.now(), "last_iteration": 0}
        task["execution"].setdefault("artifacts", [])
        task["output"] = {"destination": asked.get("output_dest") or ""}
        self.tasks[task["id"]] = task
        return {"id": task["id"]}

    def _task(self, task_id: str) -> Json:
        if task_id not in self.tasks:
            raise Refused(f"Invalid task id: id={task_id}, company=test")
        return self.tasks[task_id]

    def _editable(self, asked: Json, *statuses: str) -> Json:
        task = self._task(asked["task"])
        if task["status"] in LOCKED or (not asked.get("force") and task["status"] not in (statuses or ("created",))):
            raise Refused(f"Invalid task status: expected={statuses or 'created'}, status={task['status']}")
        return task

    def tasks_get_by_id(self, asked: Json) -> Json:
        return {"task": self._task(asked["task"])}

    def tasks_get_all(self, asked: Json) -> Json:
        return {"tasks": self._query(self._seen(self.tasks.values(), asked), asked)}

    def tasks_edit(self, asked: Json) -> Json:
        task = self._editable(asked)
        for name, value in asked.items():
            if name not in ("task", "force"):
                task[name] = {**task.get(name, {}), **value} if name in ("execution", "runtime") and value else value
        return {"updated": 1, "fields": {}}

    def tasks_update(self, asked: Json) -> Json:
        task = self._task(asked["task"])
        task.update({name: value for name, value in asked.items() if name != "task"})
        return {"updated": 1, "fields": {}}

    def tasks_edit_hyper_params(self, asked: Json) -> Json:
        task = self._editable(asked, "created", "in_progress")
        for item in asked["hyperparams"]:
            task["hyperparams"].setdefault(item.get("section", "Args"), {})[item["name"]] = item
        return {"updated": 1}

    def tasks_edit_configuration(self, asked: Json) -> Json:
        task = self._editable(asked, "created", "in_progress")
        task["configuration"] |= {item["name"]: item for item in asked["configuration"]}
        return {"updated": 1}

    def tasks_set_requirements(self, asked: Json) -> Json:
        self._task(asked["task"])["script"]["requirements"] = asked["requirements"]
        return {"updated": 1, "fields": {}}

    def tasks_add_or_update_artifacts(self, asked: Json) -> Json:
        task = self._editable(asked, "created", "in_progress")
        kept = [item for item in task["execution"]["artifacts"] if item["key"] not in {new["key"] for new in asked["artifacts"]}]
        task["execution"]["artifacts"] = [*kept, *asked["artifacts"]]
        return {"updated": 1}

    def tasks_add_or_update_model(self, asked: Json) -> Json:
        self._model(asked["model"])
        task = self._task(asked["task"])
        items = task["models"].setdefault(asked["type"], [])
        items[:] = [item for item in items if item["name"] != asked["name"]]
        items.append({"name": asked["name"], "model": asked["model"]})
        return {"updated": 1}

    def tasks_ping(self, asked: Json) -> Json:
        self._task(asked["task"])
        return {}

    def tasks_get_types(self, asked: Json) -> Json:
        return {"types": sorted({task["type"] for task in self.tasks.values()})}

    def tasks_delete(self, asked: Json) -> Json:
        task = self._task(asked["task"])
        if not asked.get("force") and task["status"] != "created":
            raise Refused("Task cannot be deleted: due to status, use force=True")
        del self.tasks[asked["task"]]
        self.events = {key: event for key, event in self.events.items() if event["task"] != asked["task"]}
        return {"deleted": True, "deleted_models": 0, "updated_children": 0, "updated_models": 0, "urls": {}}

    def _move(self, asked: Json, status: str) -> Json:
        task = self._task(asked["task"])
        if not asked.get("force") and status not in MOVES[task["status"]]:
            raise Refused(f"Invalid task status: Invalid status change: current_status={task['status']}, new_status={status}")
        if task["status"] in LOCKED and status not in LOCKED:
            raise Refused(f"Invalid task status: current_status={task['status']}, new_status={status}")
        task |= {"status": status, "status_reason": asked.get("status_reason", ""), "status_message": asked.get("status_message", "")}
        return {"updated": 1, "fields": {"status": status}, "started": 1}

    def tasks_started(self, asked: Json) -> Json:
        return self._move(asked, "in_progress")

    def tasks_completed(self, asked: Json) -> Json:
        return self._move(asked, "completed")

    def tasks_stopped(self, asked: Json) -> Json:
        return self._move(asked, "stopped")

    def tasks_failed(self, asked: Json) -> Json:
        return self._move(asked, "failed")

    def tasks_publish(self, asked: Json) -> Json:
        if self._task(asked["task"])["status"] == "created":
            raise Refused("Invalid task status: a draft cannot be published")
        return self._move(asked, "published")

    # ---- events

    def events_add_batch(self, batch: list[Json]) -> Json:
        added, errors = 0, {}
        for event in batch:
            task = self.tasks.get(event["task"])
            if task is None or task["status"] in LOCKED:
                errors["Invalid task id"] = errors.get("Invalid task id", 0) + 1
                continue
            added += 1
            if event["type"] == "log":
                self.logs.append(event)
                continue
            key = tuple(event.get(name) for name in ("type", "task", "iter", "metric", "variant", "key"))
            self.events[key] = event
            task["last_iteration"] = max(task["last_iteration"], event.get("iter") or 0)
        if not added:
            raise Refused(f"Events not added: {errors}")
        return {"added": added, "errors": sum(errors.values()), "errors_info": errors}

    def events_scalar_metrics_iter_histogram(self, asked: Json) -> Json:
        found: Json = {}
        for event in sorted(self.events.values(), key=lambda event: event.get("iter") or 0):
            if event["task"] == asked["task"] and event["type"] == "training_stats_scalar" and event["metric"] != "Summary":
                line = found.setdefault(event["metric"], {}).setdefault(event["variant"], {"name": event["variant"], "x": [], "y": []})
                line["x"].append(event["iter"])
                line["y"].append(event["value"])
        return found

    # ---- models

    def _model(self, model_id: str) -> Json:
        if model_id not in self.models:
            raise Refused(f"Invalid model id: id={model_id}")
        return self.models[model_id]

    def models_create(self, asked: Json) -> Json:
        if asked.get("project"):
            self._project(asked["project"])
        if asked.get("task"):
            self._task(asked["task"])
        if asked.get("parent"):
            self._model(asked["parent"])
        if not all(isinstance(value, int) for value in asked.get("labels", {}).values()):
            raise Refused("Validation error: labels values must be integers")
        metadata = {item["key"]: item for item in asked.get("metadata", [])}
        if len(metadata) < len(asked.get("metadata", [])):
            raise Refused("Validation error: metadata keys should be unique")
        model = {
            "tags": [],
            "system_tags": [],
            "ready": False,
            **asked,
            "metadata": metadata,
            "id": uuid.uuid4().hex,
            "created": self.now(),
        }
        self.models[model["id"]] = model
        return {"id": model["id"], "created": True}

    def models_edit(self, asked: Json) -> Json:
        self._model(asked["model"]).update({name: value for name, value in asked.items() if name != "model"})
        return {"updated": 1, "fields": {}}

    def models_get_all(self, asked: Json) -> Json:
        return {"models": self._query(self.models.values(), asked)}

    def models_get_by_id(self, asked: Json) -> Json:
        return {"model": self._model(asked["model"])}

    def models_set_ready(self, asked: Json) -> Json:
        model = self._model(asked["model"])
        if model["ready"]:
            raise Refused("Model is ready: is already published")
        if asked.get("publish_task") and self._task(model["task"])["status"] in ("created", "in_progress"):
            raise Refused("Cannot publish task: the task that made the model is not done")
        model["ready"] = True
        return {"updated": 1, "published_task": {}}

    # ---- reports

    def reports_create(self, asked: Json) -> Json:
        parent = self._project(asked["project"])["name"] if asked.get("project") else ""
        name = f"{parent}/.reports".lstrip("/")
        found = next((project["id"] for project in self.projects.values() if project["name"] == name), None)
        project = found or self.projects_create({"name": name, "system_tags": ["reports", HIDDEN]})["id"]
        known = {name: asked[name] for name in ("name", "tags", "comment") if name in asked}  # the text is not taken here
        report = self.tasks_create({"type": "report", "project": project, "system_tags": ["reports", HIDDEN], **known})
        return {"id": report["id"], "project_id": project}

    def _report(self, asked: Json) -> Json:
        task = self._task(asked["task"])
        if task["type"] != "report":
            raise Refused(f"Operation supported on reports only: id={asked['task']}")
        return task

    def reports_update(self, asked: Json) -> Json:
        report = self._report(asked)
        if report["status"] != "created":
            raise Refused(f"Invalid task status: expected=created, status={report['status']}")
        report |= {name: value for name, value in asked.items() if name != "task"}
        return {"updated": 1, "fields": {}}

    def reports_publish(self, asked: Json) -> Json:
        self._report(asked)
        return self._move({"task": asked["task"], "force": True}, "published")

    def reports_get_all_ex(self, asked: Json) -> Json:
        reports = [task for task in self.tasks.values() if task["type"] == "report"]
        return {"tasks": [{**report, "project": {"id": report["project"]}} for report in self._query(reports, asked)]}

    # ---- the rest

    def users_get_vaults(self, asked: Json) -> Json:
        return {"vaults": []}

    def outline(self) -> str:
        """Everything, without ids and times of this server: equal for equal contents."""
        names = {
            task["id"]: next((tag for tag in task["tags"] if tag.startswith("scanloop:")), task["name"]) for task in self.tasks.values()
        }
        names |= {model["id"]: model["name"] for model in self.models.values()}
        names |= {project["id"]: project["name"] for project in self.projects.values()}
        left_out = {"created", "id", "status_message", "last_metrics", "runtime", "timestamp"}
        rows = [
            [kind, {name: value for name, value in row.items() if name not in left_out}]
            for kind, table in (("task", self.tasks), ("model", self.models), ("project", self.projects), ("event", self.events))
            for row in table.values()
            if not (kind == "event" and self.tasks[row["task"]]["type"] == "data_processing")
        ]
        for kind, row in rows:
            if kind == "task" and row["type"] == "data_processing":  # its inner format is the SDK's
                for name in ("execution", "configuration", "hyperparams", "script", "container", "last_iteration"):
                    row.pop(name, None)
        texts = [json.dumps(row, sort_keys=True) for row in rows]
        for known, name in names.items():
            texts = [text.replace(known, f"<{name}>") for text in texts]
        return "\n".join(sorted(texts))


def _matches(row: Json, name: str, wanted: Any) -> bool:
    if name in (
        "only_fields",
        "order_by",
        "page",
        "page_size",
        "search_hidden",
        "size",
        "scroll_id",
        "refresh_scroll",
        "allow_public",
        "shallow_search",
    ):
        return True
    if wanted is None or name.startswith("_") or name == "search_text":
        return True
    value = row.get(name)
    if name == "name":
        return re.search(wanted, value) is not None
    if name in ("tags", "system_tags"):
        return _tagged(value or [], wanted)
    if isinstance(wanted, list):
        return not wanted or value in wanted
    return value == wanted


def _tagged(tags: list[str], wanted: list[str]) -> bool:
    """A list of tags means any of them; `__$all` and `__$not` say otherwise for what follows; `-tag` excludes."""
    mode, any_of = "any", []
    for tag in wanted:
        if tag.startswith("__$"):
            mode = tag[3:]
        elif tag.startswith("-") or mode == "not":
            if tag.lstrip("-") in tags:
                return False
            mode = "any" if mode == "not" else mode
        elif mode in ("all", "and"):
            if tag not in tags:
                return False
        else:
            any_of.append(tag)
    return not any_of or bool(set(any_of) & set(tags))
