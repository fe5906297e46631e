"""Streams of server-sent events: each follows the log from its position until it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator.api.coordinator import Coordinator
from coordinator.domain.access.keys import ApiKey
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.events.event import EventFilter
from coordinator.server.events.feed import Batch, EventFeed
from coordinator.server.problems import ProblemError

log = logging.getLogger(__name__)

T = TypeVar("T")

PER_KEY_MAX: Final = 8
HEARTBEAT_SECONDS: Final = 15.0
#: A client that takes nothing for so long is disconnected.
SEND_SECONDS: Final = 10.0
_AGAIN_MS: Final = 2_000
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Streams:
    """The streams of this process, and how many each key has."""

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        self.feed = EventFeed(lambda: coordinator.opened)
        self.coordinator = coordinator
        self.heartbeat_seconds = heartbeat_seconds
        self.send_seconds = send_seconds
        self.ended = False
        self._open: Counter[str] = Counter()

    def end(self) -> None:
        """End every stream at once, and every later one: the server stops."""
        self.ended = True
        self.feed.wake_all()

    @contextmanager
    def opened(self, key: ApiKey) -> Iterator[None]:
        """Count a stream of the key while it lasts; ProblemError 429 for one more than it may."""
        if self._open[key.id] >= PER_KEY_MAX:
            raise ProblemError(
                429,
                f"at most {PER_KEY_MAX} event streams at once for one key",
                headers={"Retry-After": "5"},
            )
        self._open[key.id] += 1
        try:
            yield
        finally:
            self._open[key.id] -= 1
            if not self._open[key.id]:
                del self._open[key.id]

    def ends_at(self, key: ApiKey) -> int | None:
        """Return the second at which the key counts no more, as far as the log tells."""
        ends = [one for one in (key.expires_at, self.feed.key_end(key.id)) if one is not None]
        return min(ends, default=None)


class EventStream(Response):
    """The response of one stream. ``still_valid`` asks once more whether the key counts."""

    media_type = "text/event-stream"

    def __init__(
        self,
        streams: Streams,
        key: ApiKey,
        wanted: EventFilter,
        after: int,
        still_valid: Callable[[], bool],
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._key = key
        self._wanted = wanted
        self._position = after
        self._still_valid = still_valid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # A loop that was closed has no streams any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(news.set)

        feed = self._streams.feed
        with self._streams.opened(self._key):
            await self._off_loop(lambda: feed.subscribe(wake))
            following = asyncio.ensure_future(self._follow(news, send))
            leaving = asyncio.ensure_future(_left(receive))
            try:
                await asyncio.wait((following, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                following.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                feed.unsubscribe(wake)
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def _follow(self, news: asyncio.Event, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await self._send(send, start)
            await self._write(send, f"retry: {_AGAIN_MS}\nid: {self._position}\n\n".encode())
            if await self._off_loop(self._still_valid):
                await self._tell_all(news, send)
            await self._send(send, {"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.warning("event_stream_too_slow key_id=%s", self._key.id)
        except CoordinatorError as fault:
            log.warning("event_stream_ended key_id=%s reason=%s", self._key.id, fault)
            await self._send(send, {"type": "http.response.body", "body": b""})

    async def _tell_all(self, news: asyncio.Event, send: Send) -> None:
        while not self._streams.ended and not await self._expired():
            news.clear()
            batch = await self._next()
            text = self._text(batch)
            self._position = batch.position
            if text:
                await self._write(send, text)
            if batch.more:
                continue
            try:
                await asyncio.wait_for(news.wait(), self._streams.heartbeat_seconds)
            except TimeoutError:
                await self._write(send, b": still here\n")

    async def _next(self) -> Batch:
        feed, after = self._streams.feed, self._position
        kept = feed.kept(after)
        return kept if kept is not None else await self._off_loop(lambda: feed.read(after))

    def _text(self, batch: Batch) -> bytes:
        wanted = [told for told in batch.events if self._wanted.wants(told.event)]
        return b"".join(
            b"id: %d\nevent: %s\ndata: %s\n\n" % (one.event.seq, one.event.type.encode(), one.json)
            for one in wanted
        )

    async def _expired(self) -> bool:
        ends = self._streams.ends_at(self._key)
        if ends is None:
            return False
        return ends <= await self._off_loop(self._streams.coordinator.opened.clock)

    async def _write(self, send: Send, text: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": text, "more_body": True})

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        await asyncio.wait_for(send(message), self._streams.send_seconds)

    async def _off_loop(self, call: Callable[[], T]) -> T:
        return await self._streams.coordinator.off_loop(call)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
