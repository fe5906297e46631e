"""A client of event streams, and a server of one coordinator in this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from coordinator import Coordinator
from coordinator.server.app import make_app


class Stream:
    """One open stream: its status, and what was told on it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.position: str | None = None
        self.comments: list[str] = []

    def events(self) -> Iterator[dict[str, Any]]:
        """Each event's data; it ends with the stream."""
        name, data = "", ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line)
            elif field == "id":
                self.position = value
            elif field == "event":
                name = value
            elif field == "data":
                data = value
            elif not line and data:
                found = json.loads(data)
                assert (found["type"], str(found["id"])) == (name, self.position)
                yield found
                name, data = "", ""

    def until(self, type_: str) -> list[dict[str, Any]]:
        """The events to the first of a type."""
        found = []
        for event in self.events():
            found.append(event)
            if event["type"] == type_:
                return found
        raise AssertionError(f"the stream ended without {type_}: {found}")

    def opened(self) -> Stream:
        """Read until the server has told where it begins."""
        for line in self._lines:
            if line.startswith("id: "):
                self.position = line.removeprefix("id: ")
            if not line:
                return self
        raise AssertionError("the stream ended")


@contextmanager
def streaming(
    url: str, token: str, *, last_event_id: str | None = None, **query: Any
) -> Iterator[Stream]:
    """An open stream of one key; it is closed with the block."""
    headers = {"Authorization": f"Bearer {token}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    with (
        httpx.Client(trust_env=False, timeout=30) as http,
        http.stream("GET", f"{url}/v1/events", headers=headers, params=query) as response,
    ):
        if response.status_code != 200:
            response.read()
            raise AssertionError(response.text)
        yield Stream(response).opened()


class Served:
    """The application of one coordinator on a port of its own, and how to end it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.app = make_app(coordinator)
        config = uvicorn.Config(self.app, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self.app.state.streams.end()
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._listener.close()
        assert not self._thread.is_alive()


@contextmanager
def served(coordinator: Coordinator) -> Iterator[Served]:
    """Serve within the block."""
    made = Served(coordinator)
    try:
        yield made
    finally:
        made.stop()
