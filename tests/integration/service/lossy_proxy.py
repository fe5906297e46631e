"""An HTTP proxy that loses answers after the service has acted, and counts what it passed on."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

#: Forward, read the answer, and close the connection without a word of it.
SWALLOW: Final = "swallow the answer"
#: Forward, and close in the middle of the answer.
HALF: Final = "cut the answer in half"
#: Forward, and answer as a gateway that lost its service.
BAD_GATEWAY: Final = "502 after forwarding"
#: Forward, and say that there were too many requests.
BUSY_AFTER: Final = "503 after forwarding"
#: Close without forwarding.
CUT: Final = "cut before forwarding"
#: Refuse without forwarding, with a second to wait.
TOO_MANY: Final = "429 before forwarding"
#: Answer with a redirect to ``LossyProxy.elsewhere``.
REDIRECT: Final = "redirect"
LOSSES: Final = (SWALLOW, HALF, BAD_GATEWAY, BUSY_AFTER, CUT, TOO_MANY)

_TOO_MANY: Final = b'{"code": "too_many_requests", "detail": "slower", "money_moved": false}'


class LossyProxy:
    """Answers at ``url`` for the service at ``upstream``; ``lose`` plans what goes wrong next."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.elsewhere = ""
        self.passed: list[tuple[str, str, str | None]] = []
        self.lost = 0
        self._plan: list[str] = []
        self._always: str | None = None
        self._mutex = threading.Lock()
        proxy = self

        class Handler(_Handler):
            plans = proxy

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """The client is gone, as it may."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def lose(self, loss: str, *, times: int | None) -> None:
        """Go wrong in this way for the next requests; with None, until it is told otherwise."""
        with self._mutex:
            self._plan = [] if times is None else [loss] * times
            self._always = loss if times is None else None

    def heal(self) -> None:
        self.lose("", times=0)

    @contextmanager
    def serving(self) -> Iterator[LossyProxy]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _next(self) -> str | None:
        with self._mutex:
            loss = self._plan.pop(0) if self._plan else self._always
            self.lost += loss is not None
            return loss


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    plans: LossyProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        loss = self.plans._next()
        if loss == CUT:
            self.close_connection = True
            return
        if loss == TOO_MANY:
            self._tell(429, _TOO_MANY, ("Retry-After", "1"))
            return
        if loss == REDIRECT:
            self._tell(307, b"", ("Location", self.plans.elsewhere + self.path))
            return
        status, answer = self._forward(body)
        if loss == SWALLOW:
            self.close_connection = True
        elif loss == HALF:
            self._tell(status, answer[: len(answer) // 2], length=len(answer))
            self.close_connection = True
        elif loss == BAD_GATEWAY:
            self._tell(502, b"<html>bad gateway</html>")
        elif loss == BUSY_AFTER:
            self._tell(503, b"upstream connect error or disconnect")
        else:
            self._tell(status, answer)

    do_GET = do_POST

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        self.plans.passed.append((self.command, self.path, self.headers.get("Idempotency-Key")))
        upstream = http.client.HTTPConnection(self.plans.upstream, timeout=90)
        upstream.request(self.command, self.path, body or None, kept)
        answer = upstream.getresponse()
        found = answer.status, answer.read()
        upstream.close()
        return found

    def _tell(
        self, status: int, body: bytes, *headers: tuple[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""
