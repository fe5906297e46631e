"""New heads by ``eth_subscribe``, over WebSocket: a hint that something came, never evidence."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from coordinator.chain.rpc.redaction import Redaction
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import HeadTold, Ticks

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

log = logging.getLogger(__name__)

_OPEN_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
# No chain that is followed takes so long for a block.
SILENT_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
_AGAIN_SECONDS_MAX: Final = 60.0
# Kept open so long after it was wanted last: who buys once buys again.
_LINGER_SECONDS: Final = 60.0
# A header has some 2 kB.
_BYTES_MAX: Final = 64 * 1024
_SUBSCRIBE: Final = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
)


class HeadSubscription:
    """Announces new heads of the first of ``urls`` that does, while it is wanted.

    A connection that is refused, closed or silent is told to ``ended``, and the next URL is tried a
    second later, then after twice as long each time, at most a minute. A thread of its own does all
    of this: nobody waits for it. It is on no chain in particular: whoever is told finds out.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        silent_seconds: float = SILENT_SECONDS,
        again_seconds: float = _AGAIN_SECONDS,
        ticks: Ticks = time.monotonic,
    ) -> None:
        self._urls = tuple(urls)
        self._heard = Redaction(urls)
        self._silent_seconds = silent_seconds
        self._again_seconds = again_seconds
        self._ticks = ticks
        self._told: HeadTold = lambda number, block_hash: None
        self._ended: Callable[[], None] = lambda: None
        self._mutex = threading.Lock()
        self._changed = threading.Event()
        self._wanted_until = float("-inf")
        self._closed = False
        self._connection: ClientConnection | None = None
        self._thread: threading.Thread | None = None
        self._warned = False

    def tell(self, told: HeadTold, ended: Callable[[], None]) -> None:
        """Call ``told`` with each head, in a thread of its own, and ``ended`` when none come."""
        self._told, self._ended = told, ended

    def want(self, wanted: bool) -> None:
        """Subscribe from now on, or until a minute from now."""
        with self._mutex:
            if self._closed:
                return
            if wanted:
                self._wanted_until = float("inf")
            elif self._wanted_until == float("inf"):
                self._wanted_until = self._ticks() + _LINGER_SECONDS
            if wanted and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="coordinator-heads", daemon=True
                )
                self._thread.start()
        if wanted:
            self._changed.set()

    def stop(self) -> None:
        """End the connection and tell nobody any more."""
        with self._mutex:
            self._closed, self._wanted_until = True, float("-inf")
            connection, thread = self._connection, self._thread
        self._changed.set()
        if connection is not None:
            connection.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_OPEN_SECONDS + _CLOSE_SECONDS)

    @property
    def _is_wanted(self) -> bool:
        return self._ticks() < self._wanted_until

    def _run(self) -> None:
        pause = self._again_seconds
        for url in itertools.cycle(self._urls):
            while not self._is_wanted:
                if self._closed:
                    return
                self._changed.wait()
                self._changed.clear()
            if self._follow(url):
                pause = self._again_seconds
            if self._is_wanted:
                # Whoever wants it once more need not wait for less.
                self._sleep(pause)
                pause = min(pause * 2, _AGAIN_SECONDS_MAX)

    def _sleep(self, seconds: float) -> None:
        until = self._ticks() + seconds
        while not self._closed and (left := until - self._ticks()) > 0:
            self._changed.wait(left)
            self._changed.clear()

    def _follow(self, url: str) -> bool:
        """Announce heads until something ends it; whether any came."""
        host, came = urlsplit(url).netloc.rpartition("@")[2], False
        try:
            with connected(url) as connection:
                with self._mutex:
                    self._connection = connection
                subscription = subscribe(connection)
                while self._is_wanted:
                    message = connection.recv(self._silent_seconds)
                    if (head := head_of(message, subscription)) is not None:
                        if not came:
                            log.info("heads_announced endpoint=%s", host)
                        came, self._warned = True, False
                        self._told(*head)
        except Exception as fault:
            # Whatever it is: heads are asked for as if there had been no subscription.
            if not self._warned and not self._closed:
                self._warned = True
                log.warning("heads_not_announced endpoint=%s reason=%s", host, self._why(fault))
        finally:
            with self._mutex:
                self._connection = None
            self._ended()
        return came

    def _why(self, fault: Exception) -> str:
        return self._heard(fault_text(fault, self._silent_seconds))


def connected(url: str) -> ClientConnection:
    """Connect to a WebSocket endpoint."""
    from websockets.sync.client import connect

    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return connect(
        url,
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        max_size=_BYTES_MAX,
        compression=None,
        # A proxy of the environment has no business between us and a local chain.
        proxy=None if loopback else True,
    )


def subscribe(connection: ClientConnection) -> str:
    """Subscribe to new heads; ChainUnavailable where the endpoint refuses."""
    connection.send(_SUBSCRIBE)
    answer = _object(connection.recv(_OPEN_SECONDS))
    found = answer.get("result")
    if answer.get("id") != 1 or not isinstance(found, str):
        raise ChainUnavailable(f"it refused: {answer.get('error')}")
    return found


def head_of(message: str | bytes, subscription: str) -> tuple[int, str] | None:
    """Return number and hash of an announced head; None for anything else."""
    params = _object(message).get("params")
    if not isinstance(params, dict) or params.get("subscription") != subscription:
        return None
    head = params.get("result")
    if not isinstance(head, dict):
        return None
    number, block_hash = head.get("number"), head.get("hash")
    if not isinstance(number, str) or not isinstance(block_hash, str):
        return None
    try:
        return int(number, 16), block_hash
    except ValueError:
        return None


def fault_text(fault: Exception, silent_seconds: float = _OPEN_SECONDS) -> str:
    """Say what ended a subscription, as people may read it."""
    if isinstance(fault, TimeoutError):
        return f"silent for {silent_seconds:g} s"
    return str(fault) or type(fault).__name__


def _object(message: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
