"""A ClearML server, spoken to through the SDK's own session and request classes, with every wait bounded and every answer looked at.

The SDK's `Task` and `Logger` report through threads that swallow failures. Whoever must know what has arrived sends the requests itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from scanloop.errors import DataWrong, WorldUnavailable

CONNECT_S, ANSWER_S, UPLOAD_S = 3.0, 15.0, 60.0
"""Waits: for a connection, for an answer, for the answer to something large."""
BATCH = 500
"""Events in one request."""
REPORTS_VERSION = "2.23"
"""API version of `reports.*`, for which SDK 2.1 has no classes."""
CONFIGURATION = """\
api { http { wait_on_maintenance_forever: false } }
sdk {
  http { timeout { connection: 5, total: 30 }, download { max_retries: 2 } }
  development {
    report_use_subprocess: false
    store_uncommitted_code_diff: false
    suppress_update_message: true
    worker { log_stdout: false }
  }
}
"""
"""ClearML's own defaults retry a 503 for ever, fork a reporter, upload uncommitted changes of the source tree, and read ~/clearml.conf."""


class TrackingUnavailable(WorldUnavailable):
    """The ClearML server cannot be reached, does not answer in time, or says that it is broken."""


class TrackingRefused(DataWrong):
    """The ClearML server understood a request and refused it."""


def is_configured() -> bool:
    """Whether a ClearML server is named."""
    return bool(os.environ.get("CLEARML_API_HOST"))


def tag_of(subject_id: str) -> str:
    """The tag by which something of ours is found again on a server."""
    return f"scanloop:{subject_id}"


def project_name(product_line: str) -> str:
    """The ClearML project of a product line."""
    return f"scanloop/{product_line}"


def configure(folder: Path) -> None:
    """Give the SDK, before its first import, a configuration and a cache of its own in `folder`, unless the environment names some."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "clearml.conf"
    path.write_text(CONFIGURATION, encoding="utf-8")
    os.environ.setdefault("CLEARML_CONFIG_FILE", str(path))
    os.environ.setdefault("CLEARML_CACHE_DIR", str(folder / "cache"))


class Server:
    """A session with a ClearML server."""

    def __init__(self) -> None:
        """Log in. Raises TrackingUnavailable, or TrackingRefused if the credentials are not accepted."""
        from clearml.backend_api import Session
        from clearml.backend_api.session.session import LoginError

        # Class attributes, so that sessions which the SDK opens for itself have the same patience.
        Session._session_initial_timeout = (CONNECT_S, ANSWER_S)
        Session._session_timeout = (CONNECT_S, ANSWER_S)
        Session._write_session_timeout = (CONNECT_S, UPLOAD_S)
        try:
            self.session = Session(http_retries_config={"total": 1, "connect": 1, "read": 0, "status": 1, "backoff_factor": 0.2})
        except LoginError as error:
            raise (TrackingRefused if "401" in str(error) else TrackingUnavailable)(f"ClearML did not let us in: {_short(error)}") from None
        except (OSError, ValueError) as error:
            raise TrackingUnavailable(f"The ClearML server cannot be used now: {_short(error)}") from None

    def send(self, request: Any) -> dict[str, Any]:
        """Send one of the SDK's request objects, which checked its fields, and return the data of its answer.

        Raises:
            TrackingUnavailable: no answer, or none of a ClearML server that works.
            TrackingRefused: the server said no.
        """
        return self.post(request._service, request._action, request.to_dict(), version=request._version)

    def post(self, service: str, action: str, content: Mapping[str, Any], *, version: str = REPORTS_VERSION) -> dict[str, Any]:
        """Call an endpoint. Raises TrackingUnavailable, TrackingRefused."""
        name = f"{service}.{action}"
        try:
            answer = self.session.send_request(service, action, version=version, method="post", json=dict(content))
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors; ValueError: the session found no token
            raise TrackingUnavailable(f"ClearML did not answer {name}: {_short(error)}") from None
        return _data(name, answer)

    def add_events(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Add events. A scalar, plot or picture that is there with the same iteration, metric and variant is replaced."""
        from clearml.backend_api.services import events as service

        for first in range(0, len(events), BATCH):
            batch = [dict(event) for event in events[first : first + BATCH]]
            version = service.AddBatchRequest._version
            try:
                answers = self.session.send_request_batch("events", "add_batch", version=version, json=batch, method="post")
            except (OSError, ValueError) as error:
                raise TrackingUnavailable(f"ClearML did not take events: {_short(error)}") from None
            for answer in answers or []:
                data = _data("events.add_batch", answer)
                if data.get("errors"):
                    raise TrackingRefused(f"ClearML refused {data['errors']} of {len(batch)} events: {data.get('errors_info')}")

    def upload(self, path: Path, folder: str) -> str:
        """Put a file on the files server, which may be a bucket; returns its URL."""
        import requests

        name = f"{folder}/{path.name}"
        try:
            if not self.files_host.startswith(("http://", "https://")):
                from clearml.storage import StorageManager

                return str(StorageManager.upload_file(str(path), f"{self.files_host}/{name}", wait_for_upload=True, retries=1))
            # The SDK's own upload tries fifteen times with growing pauses; this is what it sends.
            with path.open("rb") as content:
                files = {name: (name, content, "application/octet-stream")}
                headers = self.session.add_auth_headers({})
                answer = requests.post(self.files_host, files=files, headers=headers, timeout=(CONNECT_S, UPLOAD_S))
        except (OSError, ValueError) as error:
            raise TrackingUnavailable(f"The files server did not take {path.name}: {_short(error)}") from None
        if answer.status_code != 200:
            raise TrackingUnavailable(f"The files server answered {answer.status_code} to {path.name}.")
        return f"{self.files_host}/{name}"

    @cached_property
    def files_host(self) -> str:
        """Address of the files server."""
        return str(self.session.get_files_server_host()).rstrip("/")

    @cached_property
    def web_host(self) -> str:
        """Address that people open; empty if it cannot be worked out from the API server's."""
        try:
            return str(self.session.get_app_server_host()).rstrip("/")
        except ValueError:
            return ""

    def page_of(self, project_id: str, task_id: str) -> str | None:
        """Address of an experiment's page."""
        return f"{self.web_host}/projects/{project_id}/experiments/{task_id}/output/log" if self.web_host else None

    def find_project(self, name: str) -> str | None:
        """Id of the project with exactly this name."""
        from clearml.backend_api.services import projects

        found = self.send(projects.GetAllRequest(name=f"^{re.escape(name)}$", only_fields=["id", "name"], search_hidden=True))["projects"]
        return next((str(project["id"]) for project in found if project["name"] == name), None)

    def ensure_project(self, name: str) -> str:
        """Id of the project with this name, made if there is none."""
        from clearml.backend_api.services import projects

        found = self.find_project(name)
        if found is not None:
            return found
        try:
            return str(self.send(projects.CreateRequest(name=name, description=""))["id"])
        except TrackingRefused:  # somebody else made it just now
            found = self.find_project(name)
            if found is None:
                raise
            return found

    def find_tasks(self, tag: str, fields: Iterable[str] = ("id", "status", "project")) -> list[dict[str, Any]]:
        """Every ClearML task with a tag, the oldest first."""
        from clearml.backend_api.services import tasks

        wanted = tasks.GetAllRequest(tags=[tag], only_fields=list(fields), order_by=["created"], search_hidden=True)
        return list(self.send(wanted)["tasks"])


def _data(name: str, answer: Any) -> dict[str, Any]:
    try:
        content = answer.json()
        meta = content["meta"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TrackingUnavailable(f"What answered {name} is no ClearML server (status {getattr(answer, 'status_code', 'none')}).") from None
    code = int(meta.get("result_code", answer.status_code))
    if code == 200:
        return dict(content.get("data") or {})
    message = f"ClearML answered {code} to {name}: {str(meta.get('result_msg', ''))[:300]}"
    raise (TrackingUnavailable if code >= 500 or code == 429 else TrackingRefused)(message)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
