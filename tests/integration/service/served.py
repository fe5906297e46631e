"""An application of this process, served over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from tests.integration.service.processes import client


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """A client of the application while it is served."""
    config = uvicorn.Config(app, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with client(f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()
