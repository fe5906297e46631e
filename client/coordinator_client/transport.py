"""Carry out flows over HTTP: with threads for ``Agent``, with coroutines for ``AsyncAgent``."""

from __future__ import annotations

import os
import threading
import time
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import httpx

from coordinator_client._version import __version__
from coordinator_client.errors import ConfigurationError, CoordinatorError
from coordinator_client.exchange import Exchange, Flow, Lost, Pause, Reply, Response, Send

_CONNECT_SECONDS: Final = 5.0
_KEY_PREFIX: Final = "uec_"
_UNSENDABLE: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, *_UNSENDABLE)

T = TypeVar("T")


class Target:
    """One service and the key for it; neither ``repr`` nor an error tells the key."""

    def __init__(self, url: str, key: str, *, allow_http: bool) -> None:
        parsed = _parsed(url, allow_http=allow_http)
        self.url = str(parsed).rstrip("/")
        self._near = _is_loopback(parsed.host)
        self._key = _checked_key(key)

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    def exchange(self) -> Exchange:
        """Make what decides on retries of requests to this service."""
        return Exchange(time.monotonic, _spread, self.url)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an HTTP client of this service; proxies only for what is not here."""
        return {
            "headers": {
                "Authorization": f"Bearer {self._key}",
                "Accept": "application/json",
                "User-Agent": f"usdc-escrow-client/{__version__}",
            },
            "follow_redirects": False,
            "trust_env": not self._near,
            "timeout": httpx.Timeout(_CONNECT_SECONDS),
            # Each wait holds a connection: more of them must not wait for one another.
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def request(self, step: Send) -> dict[str, Any]:
        """Return the request of a step as arguments of an HTTP client."""
        asked = step.request
        sent: dict[str, Any] = {
            "method": asked.method,
            "url": self.url + asked.path,
            "timeout": httpx.Timeout(_CONNECT_SECONDS, read=step.answer_seconds),
        }
        if asked.params:
            sent["params"] = list(asked.params)
        if asked.body is not None:
            sent["json"] = asked.body
        if asked.key is not None:
            sent["headers"] = {"Idempotency-Key": asked.key}
        return sent


class Threads:
    """Carries out flows in the calling thread; any number of threads may share it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._mutex = threading.Lock()
        self._client: httpx.Client | None = None
        self._process = 0
        self._closed = False

    def run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow; its result."""
        reply: Reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                reply = None
                continue
            try:
                reply = _response(self._http().request(**self._target.request(step)))
            except httpx.HTTPError as fault:
                reply = _lost(fault)

    def close(self) -> None:
        self._closed = True
        if self._client is not None and self._process == os.getpid():
            self._client.close()

    def _http(self) -> httpx.Client:
        if self._closed:
            raise _closed()
        with self._mutex:
            # Connections of a parent process are not for its forked child.
            if self._client is None or self._process != os.getpid():
                self._client = httpx.Client(**self._target.settings)
                self._process = os.getpid()
            return self._client


class Coroutines:
    """Carries out flows in the running event loop; one loop at a time."""

    def __init__(self, target: Target, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._target = target
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._loop: object = None
        self._closed = False

    async def run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow; its result."""
        import asyncio

        reply: Reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
                continue
            try:
                http = self._http(asyncio.get_running_loop())
                reply = _response(await http.request(**self._target.request(step)))
            except httpx.HTTPError as fault:
                reply = _lost(fault)

    async def close(self) -> None:
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    def _http(self, loop: object) -> httpx.AsyncClient:
        if self._closed:
            raise _closed()
        # Connections end with the loop that they were opened in.
        if self._client is None or self._loop is not loop:
            settings = self._target.settings
            if self._transport is not None:
                settings |= {"transport": self._transport, "trust_env": False}
            self._client, self._loop = httpx.AsyncClient(**settings), loop
        return self._client


def _spread() -> float:
    """Return a number in [0, 1), so that clients that were cut off together do not return so."""
    return os.urandom(1)[0] / 256


def _response(found: httpx.Response) -> Response:
    return Response(found.status_code, found.content, found.headers.get("Retry-After"))


def _lost(fault: httpx.HTTPError) -> Lost:
    what = f"{type(fault).__name__}: {fault}".removesuffix(": ")
    hopeless = "CERTIFICATE_VERIFY_FAILED" in what or isinstance(fault, _UNSENDABLE)
    return Lost(what, sent=not isinstance(fault, _UNSENT), hopeless=hopeless)


def _closed() -> CoordinatorError:
    error = CoordinatorError("this agent was closed")
    error.code = "closed"
    return error


def _parsed(url: object, *, allow_http: bool) -> httpx.URL:
    if not isinstance(url, str):
        raise ConfigurationError(f"the URL must be text, not {type(url).__name__}")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ConfigurationError("the URL can't be read") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError("the URL must begin with https:// and name a host")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ConfigurationError("the URL must hold neither a password, nor a ?query, nor a #part")
    if parsed.scheme == "http" and not allow_http and not _is_loopback(parsed.host):
        raise ConfigurationError(
            f"http://{parsed.host} would show the key to whoever listens: use https://, or"
            " allow_http=True on a network of your own"
        )
    return parsed


def is_loopback_url(url: str) -> bool:
    """Tell whether a URL leads to this machine alone."""
    return _is_loopback(httpx.URL(url).host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise ConfigurationError(f"the key must be text, not {type(key).__name__}")
    plain = key.isascii() and key.isprintable() and " " not in key
    if not key.startswith(_KEY_PREFIX) or not plain:
        raise ConfigurationError(
            f"the key must be an API key of the service: it begins with {_KEY_PREFIX}"
        )
    return key
