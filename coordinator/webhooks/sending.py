"""Send one signed request to exactly the address that was checked.

The name is resolved once a delivery. What it resolves to is checked, and the connection goes to
that address; the name is only shown to the server, as SNI and Host. Nothing is followed, the time
and the size of the answer are bounded, and proxies of the environment do not count.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.domain.access.destinations import (
    Destination,
    Networks,
    RefusedError,
    check_addresses,
    destination,
)
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.events.event import PublicEvent

SECONDS_MAX: Final = 15.0
_CONNECT_SECONDS: Final = 5.0
_ADDRESSES_MAX: Final = 4
_ANSWER_BYTES_MAX: Final = 16 * 1024
_INTERIM_MAX: Final = 5
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r)")
_GONE: Final = 410

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one try: ``fault`` is None when it was taken; ``gone``: never again."""

    fault: str | None = None
    gone: bool = False


class _AnswerError(Exception):
    """An answer that is none."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name by the system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def payload(event: PublicEvent) -> bytes:
    """Return the body of an event in the form that Standard Webhooks recommends."""
    told = event.as_dict()
    return canonical_json({"type": event.type, "timestamp": told["at"], "data": told})


def signed_headers(event: PublicEvent, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of Standard Webhooks: the event's own id, and a signature a secret."""
    from datetime import UTC, datetime

    from standardwebhooks import Webhook

    at = int(time.time())
    when = datetime.fromtimestamp(at, UTC)
    signatures = [Webhook(secret).sign(event.key, when, body.decode()) for secret in secrets]
    return {
        "webhook-id": event.key,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }


class Sender:
    """Sends events. ``find`` is asked once a delivery; ``allowed`` are networks besides public."""

    def __init__(
        self, allowed: Networks, *, find: Resolve = resolve, seconds_max: float = SECONDS_MAX
    ) -> None:
        self._allowed = allowed
        self._find = find
        self._seconds_max = seconds_max
        self._tls = ssl.create_default_context()

    async def send(self, url: str, event: PublicEvent, secrets: Sequence[str]) -> Outcome:
        """Try once; every fault is an outcome."""
        body = payload(event)
        headers = signed_headers(event, body, secrets)
        try:
            to = destination(url, self._allowed)
            async with asyncio.timeout(self._seconds_max):
                status = await self._exchange(to, headers, body)
        except TimeoutError:
            return Outcome(f"no answer within {self._seconds_max:g} s")
        except (RefusedError, InvalidRequest) as refused:
            return Outcome(f"refused: {refused}")
        except ssl.SSLError as fault:
            return Outcome(f"TLS: {fault.reason or type(fault).__name__}")
        except socket.gaierror:
            return Outcome("its name is not known")
        except OSError as fault:
            return Outcome(f"no connection: {fault.strerror or type(fault).__name__}")
        except _AnswerError as fault:
            return Outcome(str(fault))
        return _outcome(status)

    async def _exchange(self, to: Destination, headers: dict[str, str], body: bytes) -> int:
        addresses = check_addresses(to, await self._find(to.host, to.port), self._allowed)
        reader, writer = await self._connect(to, addresses[:_ADDRESSES_MAX])
        try:
            writer.write(_head(to, headers, body) + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()

    async def _connect(
        self, to: Destination, addresses: Sequence[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that takes a connection; TLS is for the name."""
        fault: OSError = OSError("it has no address")
        for address in addresses:
            opening = asyncio.open_connection(
                address,
                to.port,
                ssl=self._tls if to.secure else None,
                server_hostname=to.host if to.secure else None,
                limit=_ANSWER_BYTES_MAX,
            )
            try:
                return await asyncio.wait_for(opening, _CONNECT_SECONDS)
            except OSError as refused:
                fault = refused
        raise fault


def _head(to: Destination, headers: dict[str, str], body: bytes) -> bytes:
    lines = {
        "Host": to.host_header,
        "User-Agent": "usdc-escrow-coordinator",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    told = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {to.target} HTTP/1.1\r\n{told}\r\n".encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    """Read no further than the head of the answer."""
    for _ in range(_INTERIM_MAX):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            raise _AnswerError("it closed the connection without an answer") from None
        except asyncio.LimitOverrunError:
            raise _AnswerError(f"its answer's head exceeds {_ANSWER_BYTES_MAX} bytes") from None
        found = _STATUS.match(head)
        if found is None:
            raise _AnswerError("its answer is not HTTP")
        if int(found[1]) >= 200:
            return int(found[1])
    raise _AnswerError("it never answers for good")


def _outcome(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome()
    if status == _GONE:
        return Outcome("answered 410: it is gone", gone=True)
    if 300 <= status < 400:
        return Outcome(f"answered {status}: redirects are not followed")
    return Outcome(f"answered {status}")
