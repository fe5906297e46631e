"""A TCP gate before an endpoint, which a test shuts, cuts, or lets nothing through."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Gate:
    """Passes connections on to ``upstream``; ``opened`` counts them."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._to = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.opened = threading.Semaphore(0)
        self.silent = False
        self.shut = False
        self._mutex = threading.Lock()
        self._open: list[socket.socket] = []

    def cut(self) -> None:
        """End every connection."""
        with self._mutex:
            ended, self._open = self._open, []
        for one in ended:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @contextmanager
    def serving(self) -> Iterator[Gate]:
        threading.Thread(target=self._serve, daemon=True).start()
        try:
            yield self
        finally:
            self.shut = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self.cut()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                self.opened.release()
                if self.shut:
                    here.close()
                    continue
                there = socket.create_connection(self._to)
                with self._mutex:
                    self._open += [here, there]
                for one, other, back in ((here, there, False), (there, here, True)):
                    threading.Thread(
                        target=self._pump, args=(one, other, back), daemon=True
                    ).start()

    def _pump(self, one: socket.socket, other: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if not (back and self.silent):
                    other.sendall(data)
            other.shutdown(socket.SHUT_RDWR)
