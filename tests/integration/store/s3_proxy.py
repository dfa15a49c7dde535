"""A proxy before an S3-speaking server that answers wrongly, loses answers, or spoils what it passes on."""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Fault = Callable[[random.Random, str, str], str | None]
"""From a source of chance, a method and a path to what is to go wrong: error, reset, lost, cut, flipped; None for nothing."""


class Proxy:
    """What a proxy did."""

    def __init__(self, fault: Fault, seed: int) -> None:
        self.fault, self.chance = fault, random.Random(seed)
        self.injected: Counter[str] = Counter()
        """Faults that were injected, by name."""
        self.headers: list[dict[str, str]] = []
        """Headers of every request, names in lower case."""
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def proxy_before(endpoint: str, fault: Fault, *, seed: int = 1, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Serve what `endpoint` serves, with faults."""
    proxy, behind = Proxy(fault, seed), urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def _reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()

        def _any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with proxy.lock:
                proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
                chosen = proxy.fault(proxy.chance, self.command, self.path)
                if chosen:
                    proxy.injected[chosen] += 1
            if chosen == "error":
                self._say(500, {}, b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>")
                return
            if chosen == "reset":
                self._reset()
                return
            if chosen == "cut":
                content = content[: len(content) // 2]
            if chosen == "flipped":
                content = content[:-1] + bytes([content[-1] ^ 1])
            connection = http.client.HTTPConnection(behind)
            dropped = {"host", "content-length", "x-amz-checksum-crc32", "content-md5"}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection.request(self.command, self.path, body=content or None, headers={**headers, "Content-Length": str(len(content))})
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if chosen == "lost":
                self._reset()
            else:
                self._say(answer.status, dict(answer.getheaders()), body)

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.url = f"{'http' if tls is None else 'https'}://localhost:{server.server_port}"
    yield proxy
    server.shutdown()
    server.server_close()
    thread.join()
