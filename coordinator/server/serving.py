"""Run the application with uvicorn until a signal ends it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import uvicorn
from fastapi import FastAPI

from coordinator.api.coordinator import Coordinator
from coordinator.domain.errors import ConfigurationError
from coordinator.monitoring.metrics import Metrics
from coordinator.server.app import make_app

# A connection more is answered with 503 at once.
CONNECTIONS_MAX: Final = 2_000
_WAITING_MAX: Final = 512
_IDLE_SECONDS: Final = 75
_END_SECONDS: Final = 10
_DEAF_MS: Final = 30_000


def serve(
    coordinator: Coordinator,
    *,
    host: str,
    port: int,
    listening: Callable[[str], object],
    watched: Callable[[Metrics], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Serve until SIGTERM or Ctrl-C; ``listening`` is told the URL once connections are taken.

    ``watched`` is open meanwhile, with the metrics of this process. ConfigurationError when the
    address can't be used.
    """
    app = make_app(coordinator)
    config = uvicorn.Config(
        app,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    with listen(host, port) as listener, watched(app.state.metrics):
        shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
        coordinator.wiring.deliverer.start()
        listening(f"http://{shown}:{listener.getsockname()[1]}")
        _Server(config, app).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to serve at; ConfigurationError when the address can't be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once only where the protocol is named; else an answer waits for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The connections of clients that take nothing end, though their buffers are full.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAF_MS)
        listener.bind((host, port))
        listener.listen(_WAITING_MAX)
    except OSError as fault:
        listener.close()
        raise ConfigurationError(f"can't listen at {host} port {port}: {fault.strerror}") from None
    return listener


class _Server(uvicorn.Server):
    """Ends event streams first when it stops: they would go on until they are cut."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.streams.end()
        await super().shutdown(sockets)
