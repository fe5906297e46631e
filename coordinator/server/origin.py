"""Answer only at the origin that the settings pin: no other name leads to this service."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.domain.access.urls import LOOPBACK
from coordinator.server.problems import problem

# Asked by whoever runs the process, from the same machine or container.
_HEALTH: Final = frozenset({"/healthz", "/readyz"})
_USUAL_PORT: Final = {"http": "80", "https": "443"}


class PublicOrigin:
    """Refuses requests whose Host is not that of ``public_url``; every Host is good without one.

    Loopback names are good for health checks.
    """

    def __init__(self, app: ASGIApp, public_url: str | None) -> None:
        self._app = app
        self._good: frozenset[str] = frozenset()
        if public_url is not None:
            parts = urlsplit(public_url)
            host = parts.netloc.lower()
            usual = f"{host}:{_USUAL_PORT[parts.scheme]}" if parts.port is None else host
            self._good = frozenset({host, usual})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._good:
            await self._app(scope, receive, send)
            return
        hosts = [
            value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"
        ]
        if len(hosts) != 1:
            refusal = problem(400, "malformed", "name one Host")
        elif hosts[0] not in self._good and not _is_health(scope, hosts[0]):
            refusal = problem(421, "misdirected_request", "this service has another public URL")
        else:
            await self._app(scope, receive, send)
            return
        await refusal(scope, receive, send)


def _is_health(scope: Scope, host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return scope["path"] in _HEALTH and name.strip("[]") in LOOPBACK
