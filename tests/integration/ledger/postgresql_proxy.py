"""Something between the program and PostgreSQL that cuts the connection at a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

_NAME = ".s.PGSQL.5432"


class Cut(Enum):
    """When the next COMMIT meets its end."""

    NEVER = "never"
    BEFORE_IT_ARRIVES = "before it arrives"
    BEFORE_THE_ANSWER = "before the answer"


class Proxy:
    """Passes on what both say; ``cut`` says what happens to the next COMMIT.

    ``said`` is what clients have said, and may be cleared.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self.cut = Cut.NEVER
        self.said = bytearray()
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                self.said += data
                if b"COMMIT\0" in data and self.cut is not Cut.NEVER:
                    if self.cut is Cut.BEFORE_THE_ANSWER:
                        client.shutdown(socket.SHUT_WR)
                        server.sendall(data)
                    return _close(client, server)
                server.sendall(data)
        _close(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
        _close(client, server)


def messages(said: bytes) -> str:
    """The kinds of a client's messages, a letter each, after the connection was opened."""
    kinds, at = "", 0
    while at < len(said):
        kinds += chr(said[at])
        at += 1 + int.from_bytes(said[at + 1 : at + 5])
    return kinds


@contextmanager
def proxied(folder: Path, server: Path) -> Iterator[Proxy]:
    proxy = Proxy(folder, server)
    try:
        yield proxy
    finally:
        proxy.close()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
