"""A proxy in front of an S3 server that spoils one request, of those that a client sends, in a chosen way."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_PIECE_BYTES, SLOW_PAUSE_S = 64, 0.02


class Fault(StrEnum):
    """What happens to a request."""

    DROP_BEFORE = "drop-before"
    """The connection is closed, and the server never hears of it."""
    DROP_AFTER = "drop-after"
    """The server serves it, and the connection is closed instead of a reply."""
    ERROR_500 = "500"
    """InternalError, and the server never hears of it."""
    SLOW_DOWN = "503"
    """SlowDown, and the server never hears of it."""
    SLOW_BYTES = "slow-bytes"
    """The reply comes in small pieces."""
    TRUNCATED = "truncated"
    """The connection is closed in the middle of the reply's body, or of its headers where it has none."""


ANSWERS = {Fault.ERROR_500: (500, "InternalError"), Fault.SLOW_DOWN: (503, "SlowDown")}


@dataclass
class FaultProxy:
    """What a running proxy does and has seen; `endpoint` is where it listens.

    `faulty`: whether the request of that index, counted from 0, is spoiled by `fault`.
    """

    endpoint: str
    fault: Fault | None = None
    faulty: Callable[[int], bool] = field(default=lambda index: False)
    requests: list[str] = field(default_factory=list)
    """Method and path of each request, in order."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, fault: Fault | None, faulty: Callable[[int], bool]) -> None:
        """Begins to count anew, with another fault."""
        with self.lock:
            self.fault, self.faulty = fault, faulty
            self.requests.clear()

    def next_fault(self, request: str) -> Fault | None:
        """What happens to the request that has just come."""
        with self.lock:
            self.requests.append(request)
            return self.fault if self.faulty(len(self.requests) - 1) else None


@contextmanager
def fault_proxy(server: str) -> Iterator[FaultProxy]:
    """A proxy on loopback in front of `server`, for as long as the block runs."""
    upstream = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.next_fault(f"{self.command} {self.path}")
            if fault is Fault.DROP_BEFORE:
                self.hang_up()
            elif fault in ANSWERS:
                status, code = ANSWERS[fault]
                text = f"<Error><Code>{code}</Code><Message>spoiled</Message></Error>".encode()
                self.answer(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else text)
            else:
                self.pass_on(body, fault)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve  # noqa: N815  # names of the library

        def pass_on(self, body: bytes, fault: Fault | None) -> None:
            connection = http.client.HTTPConnection(upstream, timeout=30)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():  # Host as it was signed
                    if name.lower() not in ("connection", "expect"):
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                reply = connection.getresponse()
                data = reply.read()
            finally:
                connection.close()
            if fault is Fault.DROP_AFTER:
                self.hang_up()
                return
            headers = [one for one in reply.getheaders() if one[0].lower() not in ("transfer-encoding", "connection")]
            self.answer(reply.status, headers, data, fault)

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None = None) -> None:
            named = {name.lower() for name, _ in headers}
            lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
            lines += [f"{name}: {value}" for name, value in headers]
            if "content-length" not in named and status != 204:
                lines.append(f"Content-Length: {len(data)}")
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            if fault is Fault.TRUNCATED:
                whole = head + data
                self.wfile.write(whole[: len(head) + len(data) // 2] if data else head[: len(head) // 2])
                self.hang_up()
                return
            if fault is Fault.SLOW_BYTES:
                whole = head + data
                for start in range(0, len(whole), SLOW_PIECE_BYTES):
                    self.wfile.write(whole[start : start + SLOW_PIECE_BYTES])
                    self.wfile.flush()
                    time.sleep(SLOW_PAUSE_S if start < 10 * SLOW_PIECE_BYTES else 0)
                return
            self.wfile.write(head + data)
            self.wfile.flush()

        def hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Listener(("127.0.0.1", 0), Handler) as listener:
        proxy = FaultProxy(f"http://127.0.0.1:{listener.server_address[1]}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown()
            thread.join()
