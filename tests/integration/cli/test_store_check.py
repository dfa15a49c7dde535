"""`scanloop store check` against a folder, an S3-speaking server, and one that ignores conditional writes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCANLOOP = str(Path(sys.executable).with_name("scanloop"))


def _check(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run([SCANLOOP, "store", "check", *arguments], env=environment | keys, capture_output=True, text=True, check=False)


class _Careless(BaseHTTPRequestHandler):
    """Speaks enough S3 to write, read and delete, and never looks at If-None-Match."""

    objects: dict[str, tuple[bytes, dict[str, str]]]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        metadata = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
        self.objects[self.path.partition("?")[0]] = body, metadata
        self._answer(200, b"", {"ETag": '"e"'})

    def do_GET(self) -> None:
        found = self.objects.get(self.path.partition("?")[0])
        if found is None:
            self._answer(404, b"", {})
            return
        self._answer(200, found[0], {**found[1], "ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.objects.pop(self.path.partition("?")[0], None)
        self._answer(204, b"", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def careless_url() -> Iterator[str]:
    handler = type("Handler", (_Careless,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"s3://bucket/x?endpoint_url=http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_and_an_s3_server_pass(environment: dict[str, str], s3_url: str) -> None:
    folder = _check(environment)
    assert (folder.returncode, json.loads(folder.stdout)["conditional_writes"]) == (0, True), folder.stderr
    server = _check(environment, "--url", s3_url)
    assert (server.returncode, json.loads(server.stdout)["conditional_writes"]) == (0, True), server.stderr


def test_a_server_that_ignores_conditional_writes_is_refused(environment: dict[str, str], careless_url: str) -> None:
    refused = _check(environment, "--url", careless_url)
    assert refused.returncode == 64, refused.stderr
    assert "ignores conditional writes: a second writer replaced an object. Use another store." in refused.stderr
    assert "Traceback" not in refused.stderr
