"""The server itself: HTTP, credentials, the files server, and the faults."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt

from clearml_server.schemas import Invalid, check
from clearml_server.state import Refused, State

KEY, SECRET = "access", "secret"
VERSION = "2.23"
FAULTS = ("hang", "500", "503", "dead")


class ClearMLServer:
    """One ClearML server: API and files on one port. What it refused and could not understand is kept for tests to look at."""

    def __init__(self) -> None:
        self.state = State()
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.invalid: list[str] = []
        self.refused: list[str] = []
        self._came = threading.Condition()
        self.fault: str | None = None
        self._dies_in: int | None = None
        self._hold = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._http.server = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and let go of whoever hangs."""
        self._hold.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Forget everything."""
        self.recover()
        self.state = State()
        for kept in (self.files, self.requests, self.invalid, self.refused):
            kept.clear()

    def recover(self) -> None:
        """End every fault."""
        self.fault, self._dies_in = None, None
        self._hold.set()
        self._hold = threading.Event()

    def die_in(self, requests: int) -> None:
        """Carry out so many more requests; the last one's answer is lost, and after it nobody is answered."""
        self._dies_in = requests

    def environment(self) -> dict[str, str]:
        """The variables that name this server."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": "http://web.test",
            "CLEARML_FILES_HOST": self.url,
            "CLEARML_API_ACCESS_KEY": KEY,
            "CLEARML_API_SECRET_KEY": SECRET,
        }

    def count_down(self) -> bool:
        """Whether the answer to the present request is lost."""
        if self._dies_in is None:
            return False
        self._dies_in -= 1
        if self._dies_in <= 0:
            self.fault, self._dies_in = "dead", None
            return True
        return False

    def note(self, name: str) -> None:
        """Note that a request was answered."""
        with self._came:
            self.requests.append(name)
            self._came.notify_all()

    def wait_for(self, name: str, timeout_s: float = 60) -> None:
        """Return once this request was answered."""
        with self._came:
            assert self._came.wait_for(lambda: name in self.requests, timeout_s), f"{name} never came"

    def wait(self) -> None:
        """Do not answer until somebody lets go."""
        self._hold.wait()

    # ---- what tests ask

    def tasks(self, type_: str = "training") -> list[dict[str, Any]]:
        """Tasks of one type, in the order in which they were made."""
        return [task for task in self.state.tasks.values() if task["type"] == type_]

    def scalars(self, task_id: str, metric: str) -> dict[int, float]:
        """Iteration → value."""
        found = [event for event in self.state.events.values() if event["task"] == task_id and event.get("metric") == metric]
        return {event["iter"]: event["value"] for event in found if event["type"] == "training_stats_scalar"}


@contextmanager
def serving() -> Iterator[ClearMLServer]:
    """A server while the block lasts."""
    server = ClearMLServer()
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: the kernel would hold back a second one for 40 ms

    @property
    def clearml(self) -> ClearMLServer:
        return self.server.server  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        clearml = self.clearml
        if clearml.fault == "hang":
            clearml.wait()
        if clearml.fault == "dead":
            self.close_connection = True
            return
        if clearml.fault in ("500", "503"):
            self._answer(int(clearml.fault), _meta("server", int(clearml.fault), "General data error"))
            return
        path = unquote(urlsplit(self.path).path)
        called = re.fullmatch(r"(?:/v(\d+)\.(\d+))?/([a-z]+)\.([a-z_]+)", path)
        try:
            code, content = self._file(path, body) if called is None else self._call(called, body)
        except ConnectionError:
            return
        if clearml.count_down():
            self.close_connection = True
            return
        if called is not None:
            clearml.note(f"{called[3]}.{called[4]}")
        self._answer(code, content)

    def _call(self, called: re.Match[str], body: bytes) -> tuple[int, Any]:
        clearml = self.clearml
        service, action = called[3], called[4]
        name = f"{service}.{action}"
        if not self._is_allowed(name):
            return 401, _meta(name, 401, "Unauthorized (invalid credentials)")
        if name == "auth.login":
            token = jwt.encode({"api_version": VERSION, "server_version": "2.0.0", "env": "prod"}, "a" * 32, algorithm="HS256")
            return 200, _meta(name, 200, "OK", {"token": token})
        lines = "json-lines" in (self.headers.get("Content-Type") or "")
        content = [json.loads(line) for line in body.splitlines()] if lines else json.loads(body or b"{}")
        if isinstance(content, dict):
            content.pop("method", None)  # the SDK's request objects carry their HTTP verb along
        version = (int(called[1] or 2), int(called[2] or 9))
        try:
            check(version, service, action, content)
            data = clearml.state.do(service, action, content)
        except Invalid as error:
            clearml.invalid.append(f"{name}: {error}")
            return 400, _meta(name, 400, f"Validation error: {error}")
        except Refused as error:
            clearml.refused.append(f"{name}: {error}")
            return 400, _meta(name, 400, str(error))
        except NotImplementedError as error:
            clearml.invalid.append(f"not played: {error}")
            return 400, _meta(name, 400, f"Unable to find endpoint {error}")
        return 200, _meta(name, 200, "OK", data)

    def _is_allowed(self, name: str) -> bool:
        given = self.headers.get("Authorization") or ""
        if name == "auth.login":
            return given == f"Basic {base64.b64encode(f'{KEY}:{SECRET}'.encode()).decode()}" or given.startswith("Bearer ")
        return given.startswith("Bearer ")

    def _file(self, path: str, body: bytes) -> tuple[int, Any]:
        """The files server: a POST with a file under its whole path, a GET of it."""
        clearml = self.clearml
        if self.command != "POST":
            content = clearml.files.get(path.lstrip("/"))
            return (404, b"") if content is None else (200, content)
        message = BytesParser().parsebytes(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
        for part in message.get_payload():
            name = part.get_filename()
            clearml.files[name.lstrip("/")] = part.get_payload(decode=True)
            clearml.note("files.put")
        return 200, {}

    def _answer(self, code: int, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True


def _meta(name: str, code: int, message: str, data: Any = None) -> dict[str, Any]:
    endpoint = {"name": name, "requested_version": VERSION, "actual_version": VERSION}
    meta = {"id": "0" * 32, "trx": "0" * 32, "endpoint": endpoint, "result_code": code, "result_subcode": 0, "result_msg": message}
    return {"meta": {**meta, "error_stack": "", "error_data": {}}, "data": data or {}}
