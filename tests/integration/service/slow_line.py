"""A line to PostgreSQL on which every message takes some time: the database is another machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy.engine import URL, make_url

_CHUNK: Final = 65_536


def _address(url: URL) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    host = str(url.query.get("host") or url.host or "")
    port = url.port or int(str(url.query.get("port") or 5432))
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


class _Line:
    def __init__(self, database_url: str, seconds: float) -> None:
        self._family, self._to = _address(make_url(database_url))
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(self._family)
            far.connect(self._to)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                time.sleep(self._seconds)
                sink.sendall(data)
        for one in (source, sink):
            # The other thread reads one of them.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def slow_line(database_url: str, *, seconds: float) -> Iterator[str]:
    """The URL of the same database, from which each message comes ``seconds`` later."""
    line = _Line(database_url, seconds)
    thread = threading.Thread(target=line.accept, daemon=True)
    thread.start()
    try:
        url = make_url(database_url).set(host="127.0.0.1", port=line.port, query={})
        yield url.render_as_string(hide_password=False)
    finally:
        line.close()
        thread.join()
