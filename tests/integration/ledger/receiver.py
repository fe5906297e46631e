"""A web server that takes notices, refuses them, or never answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from coordinator.alerts.delivery import ANSWER_SECONDS, Delivery

TOKEN = "T0KENxyz"


class Receiver:
    """``status`` is its answer; with ``hanging`` it takes a request and answers after ``release``.

    ``asked`` are released by every request that came in.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._port = server.server_address[1]
        self.taken: list[dict[str, Any]] = []
        self.status = 200
        self.hanging = False
        self.released = threading.Event()
        self.asked = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"json://user:{TOKEN}@127.0.0.1:{self._port}/{TOKEN}?+x={TOKEN}"

    def answer(self, said: dict[str, Any]) -> int:
        self.asked.release()
        if self.hanging:
            self.released.wait(60)
        if self.status == 200:
            self.taken.append(said)
        return self.status

    def messages(self) -> list[str]:
        return [said["message"] for said in self.taken]


def delivered(delivery: Delivery) -> bool:
    """Whether every answer came to what was handed out now."""
    delivery.hand_out()
    return delivery.wait(ANSWER_SECONDS)


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answer(json.loads(body))
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield receiver
        receiver.released.set()
        server.shutdown()
        thread.join()
