"""One logical request and its key: kept over retries, so that it never has two signatures."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator_client import terms
from coordinator_client.errors import InvalidRequest
from coordinator_client.x402.errors import PaymentDenied, PaymentFailed

#: Longer than an authorisation can be settled (ten minutes), with time for it to be seen.
_REMEMBERED_SECONDS: Final = 1200.0
_REMEMBERED_MAX: Final = 10_000
_NAMES: Final = ("purpose", "category", "task", "session")


@dataclass
class Call:
    """One logical request: its key, what it is for, and what was signed for it."""

    key: str
    about: Mapping[str, str] = field(default_factory=dict)
    #: The server's answer that asked for the payment, as it came.
    answer: Mapping[str, Any] | None = None
    #: What the treasury said last; None before anything was asked.
    authorised: Any = None
    #: Whether there may be a payment of this key whose outcome is not known.
    open: bool = False
    #: When its payment was first seen, by the clock of the memory that keeps it.
    signed_at: float | None = None

    @property
    def signed(self) -> bool:
        return self.authorised is not None and self.authorised.payment is not None

    @classmethod
    def of(cls, idempotency_key: str | None = None, **about: str | None) -> Call:
        """Return a call with the key, or with one that nobody else has."""
        key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
        unknown = about.keys() - set(_NAMES)
        if unknown:
            raise InvalidRequest(f"a payment has no {', '.join(sorted(unknown))}")
        given = {name: terms.text(name, text) for name, text in about.items() if text is not None}
        return cls(terms.idempotency_key(key), given)


#: The call that this task or thread is in.
current: Final[ContextVar[Call | None]] = ContextVar("coordinator_x402_call", default=None)
_wanted: Final[ContextVar[Call | None]] = ContextVar("coordinator_x402_wanted", default=None)


@contextmanager
def paying(
    *,
    idempotency_key: str | None = None,
    purpose: str | None = None,
    category: str | None = None,
    task: str | None = None,
    session: str | None = None,
) -> Iterator[str]:
    """Give the one payment made within its key and what it is for; the key.

    Every try within pays with this key, and a later process that is given it sends the same
    payment again.
    """
    call = Call.of(idempotency_key, purpose=purpose, category=category, task=task, session=session)
    token = _wanted.set(call)
    try:
        yield call.key
    finally:
        _wanted.reset(token)


def wanted() -> Call | None:
    """Return a call with the key and terms of the ``paying`` around it."""
    given = _wanted.get()
    return None if given is None else Call(given.key, given.about)


@contextmanager
def entered(call: Call) -> Iterator[None]:
    token = current.set(call)
    try:
        yield
    finally:
        current.reset(token)


class Memory:
    """Calls that ended with an unknown outcome, by their request.

    A program that just tries again, with no key of its own, asks for the same payment again: for
    as long as one that was signed can be settled, whenever that was, and at least as long after
    each try without a signature.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        # By request: of several of the same, each has a payment of its own.
        self._unknown: dict[str, deque[tuple[float, Call]]] = {}
        self._count = 0

    @contextmanager
    def call(self, method: str, url: str, body: bytes, given: Call | None) -> Iterator[Call]:
        """Enter the call of this request: the given one, the unfinished one, or a fresh one."""
        if given is not None:
            yield given
            return
        request = hashlib.sha256(repr((method, url, body)).encode()).hexdigest()
        call = self._take(request)
        try:
            yield call
        except (PaymentDenied, PaymentFailed):
            call.open = False
            raise
        finally:
            if call.open:
                self._keep(request, call)

    def _keep(self, request: str, call: Call) -> None:
        """Keep it from its signature on, and from this try on while there is none."""
        now = self._clock()
        if call.signed_at is None and call.signed:
            call.signed_at = now
        with self._mutex:
            kept = self._unknown.setdefault(request, deque())
            kept.append((now if call.signed_at is None else call.signed_at, call))
            self._count += 1

    def _take(self, request: str) -> Call:
        """Return an unfinished call, which nobody else gets meanwhile, or a fresh one."""
        oldest = self._clock() - _REMEMBERED_SECONDS
        with self._mutex:
            while self._unknown:
                first = next(iter(self._unknown))
                if self._unknown[first][0][0] > oldest and self._count < _REMEMBERED_MAX:
                    break
                self._pop(first)
            while request in self._unknown:
                since, found = self._pop(request)
                if since > oldest:
                    return Call(found.key, found.about, open=True, signed_at=found.signed_at)
        return Call.of()

    def _pop(self, request: str) -> tuple[float, Call]:
        kept = self._unknown[request]
        found = kept.popleft()
        self._count -= 1
        if not kept:
            del self._unknown[request]
        return found
