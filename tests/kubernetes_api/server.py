"""The cluster over HTTP, as far as the clients of this project speak to it; anything else is answered 404 and would fail a test."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .cluster import NAMESPACE, Cluster, Fault, Refused, now

PATH = re.compile(rf"/(?:api/v1|apis/batch/v1)/namespaces/{NAMESPACE}/(pods|jobs|services|events)(?:/([a-z0-9-]+))?(/log)?")
LISTS = {"pods": ("v1", "PodList"), "jobs": ("batch/v1", "JobList"), "services": ("v1", "ServiceList"), "events": ("v1", "EventList")}
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
KINDS = {"pods": ("v1", "Pod"), "jobs": ("batch/v1", "Job"), "services": ("v1", "Service")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *arguments: Any) -> None:
        """Silent."""

    def handle_one_request(self) -> None:
        """A client that was killed in the middle is no error of the server's."""
        with suppress(ConnectionError):
            super().handle_one_request()
            return
        self.close_connection = True

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        url = urlsplit(self.path)
        self.cluster.requests.append((method, url.path))
        self.cluster.caller.port = self.client_address[1]
        self.cluster.caller.content_type = self.headers.get("Content-Type", "")
        fault = self._fault(method, url.path)
        if fault is not None and fault.status == 0:
            self.close_connection = True
            self.connection.close()
            return
        try:
            if self.cluster.token and self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if fault is not None and fault.status > 0:
                raise Refused(fault.status, "Fault", fault.message)
            status, answer = self._answer(method, url.path, {name: values[0] for name, values in parse_qs(url.query).items()}, body)
        except Refused as error:
            status, answer = (
                error.status,
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "reason": error.reason,
                    "message": error.message,
                    "code": error.status,
                },
            )
        if fault is not None and fault.status == -1:
            self.close_connection = True
            self.connection.close()
            return
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (fault.headers if fault is not None else {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _fault(self, method: str, path: str) -> Fault | None:
        with self.cluster.lock:
            for fault in self.cluster.faults:
                if fault.method == method and fault.path in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        found = PATH.fullmatch(path)
        if found is None:
            raise Refused(404, "NotFound", f"this cluster has no {path}")
        kind, name, is_log = found[1], found[2], bool(found[3])
        if is_log:
            return 200, self._log(name, query)
        match method, name:
            case "POST", None:
                return 201, self.cluster.create(kind, body)
            case "GET", None:
                items = self._events(query) if kind == "events" else self.cluster.listed(kind, query.get("labelSelector", ""))
                version, list_kind = LISTS[kind]
                return 200, {"apiVersion": version, "kind": list_kind, "metadata": {"resourceVersion": "1"}, "items": items}
            case "GET", _:
                return 200, self.cluster.read(kind, name)
            case "PATCH", _:
                if self.cluster.caller.content_type not in PATCHES:
                    raise Refused(415, "UnsupportedMediaType", f"expected one of {PATCHES}, found {self.cluster.caller.content_type}")
                return 200, self.cluster.patch(kind, name, body)
            case "DELETE", _:
                return 200, self.cluster.delete(kind, name, (body.get("preconditions") or {}).get("uid"))
        raise Refused(405, "MethodNotAllowed", method)

    def _events(self, query: dict[str, str]) -> list[dict[str, Any]]:
        field, _, uid = query.get("fieldSelector", "").partition("=")
        if field != "involvedObject.uid":
            raise Refused(400, "BadRequest", f"this cluster does not select by {field!r}")
        return [event for event in self.cluster.events if event["involvedObject"]["uid"] == uid]

    def _log(self, name: str, query: dict[str, str]) -> bytes:
        pod = self.cluster.read("pods", name)
        state = ((pod["status"].get("containerStatuses") or [{}])[0]).get("state") or {"waiting": {}}
        if "waiting" in state:
            raise Refused(400, "BadRequest", f'container "job" in pod "{name}" is waiting to start')
        lines = list(self.cluster.logs.get(pod["metadata"]["uid"], ()))
        if "sinceSeconds" in query:
            since = now(self.cluster.node_clock_ahead_s - int(query["sinceSeconds"]))
            lines = [line for line in lines if line[0] >= since]
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        text = "".join(
            f"{stamp} {line}\n" if query.get("timestamps", "").lower() == "true" else f"{line}\n" for stamp, line in lines
        ).encode()
        return text[: int(query.get("limitBytes", len(text)))]


@contextmanager
def serve(cluster: Cluster) -> Iterator[str]:
    """Serve `cluster` on a free port. Yields its address."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def kubeconfig(address: str) -> dict[str, Any]:
    """A kubeconfig that leads to `address`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
    }
