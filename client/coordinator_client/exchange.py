"""Ask until there is an answer: retries with one key, as steps that a driver carries out.

Nothing here sends or sleeps. A flow yields ``Send`` and ``Pause``; ``transport`` does them, with
threads or with coroutines, so that both clients follow the same rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from json import loads
from typing import Any, Final, NoReturn, TypeVar

from coordinator_client.errors import (
    VERDICTS,
    ConfigurationError,
    CoordinatorError,
    OutcomeUnknown,
    ServiceUnavailable,
    TooManyRequests,
    of_problem,
)

log = logging.getLogger("coordinator_client")

#: Seconds in which an answer must begin, after those that the service was asked to wait.
ANSWER_SECONDS: Final = 10.0
#: The longest single wait that the service is asked for: proxies cut silent connections.
WAIT_SECONDS_MAX: Final = 30.0
_PAUSE_SECONDS_FIRST: Final = 0.1
_PAUSE_SECONDS_MAX: Final = 2.0
_AGAIN: Final = frozenset({408, 429, 502, 503, 504})
# Refused before anything was read.
_UNTOUCHED: Final = frozenset({408, 429})

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One request; ``changes`` tells that it has an effect, ``key`` makes that effect single.

    Without a key, a request whose second time would be refused is not ``repeatable``.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None
    key: str | None = None
    changes: bool = False
    repeatable: bool = True


@dataclass(frozen=True)
class Send:
    """Step: send the request, and wait so long for the answer; the result is a reply."""

    request: Request
    answer_seconds: float


@dataclass(frozen=True)
class Pause:
    """Step: let so much time pass."""

    seconds: float


@dataclass(frozen=True)
class Response:
    """A reply that came; ``retry_after`` is that header's text."""

    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True)
class Lost:
    """No reply; ``sent`` is False where nothing can have reached the service.

    ``hopeless`` is for what another try can't change, such as a certificate nobody trusts.
    """

    what: str
    sent: bool
    hopeless: bool = False


Reply = Response | Lost | None
Flow = Generator[Send | Pause, Reply, T]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Wait:
    """A wait at the service, until a time of the client's clock; no goal where there is but one."""

    until: str
    ends_at: float

    def seconds(self, now: float) -> float:
        """Return the seconds to ask for at once."""
        return min(WAIT_SECONDS_MAX, max(0.0, self.ends_at - now))


@dataclass(frozen=True)
class _Failure:
    error: CoordinatorError
    again: bool = False
    #: Whether the request may have been carried out all the same.
    unknown: bool = False
    after_seconds: float | None = None


@dataclass
class Exchange:
    """Makes the flows of single requests; ``clock`` gives seconds, ``spread`` a part of one."""

    clock: Clock
    spread: Callable[[], float]
    shown: str = "the service"

    def ask(
        self,
        request: Request,
        parse: Callable[[Any], T],
        *,
        seconds: float,
        wait: Wait | None = None,
    ) -> Flow[T]:
        """Send it until it is answered, for ``seconds``; the last try may end a little later.

        Raises what the service refuses; OutcomeUnknown when it may have been carried out.
        """
        ends_at = self.clock() + seconds
        unknown, tries = False, 0
        while True:
            asked, held_seconds = request, 0.0
            if wait is not None:
                held_seconds = wait.seconds(self.clock())
                asked = _with(request, wait.until, held_seconds)
            reply = yield Send(asked, held_seconds + ANSWER_SECONDS)
            failure = self._judge(request, reply)
            if failure is None:
                assert isinstance(reply, Response)
                try:
                    return parse(loads(reply.body))
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                    failure = self._foreign(request, reply.status)
            unknown = unknown or failure.unknown
            pause = self._pause(failure, tries)
            again = failure.again and (request.repeatable or not failure.unknown)
            if not again or self.clock() + pause >= ends_at:
                _raise(request, failure.error, unknown=unknown)
            tries += 1
            log.info("request_repeated path=%s try=%d: %s", request.path, tries, failure.error)
            yield Pause(pause)

    def _judge(self, request: Request, reply: Reply) -> _Failure | None:
        if isinstance(reply, Lost):
            said = f"{self.shown} did not answer: {reply.what}"
            if reply.hopeless:
                return _Failure(ConfigurationError(said), unknown=reply.sent)
            return _Failure(ServiceUnavailable(said), again=True, unknown=reply.sent)
        assert reply is not None
        status = reply.status
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            said = f"{self.shown} redirects ({status}): give the URL that it redirects to"
            return _Failure(ConfigurationError(said))
        problem = _problem(reply.body)
        if problem is None:
            return self._foreign(request, status)
        error = of_problem(status, problem)
        after = _seconds(reply.retry_after)
        if isinstance(error, TooManyRequests):
            error.retry_after_seconds = after
        return _Failure(error, status in _AGAIN, error.money_moved is None, after)

    def _foreign(self, request: Request, status: int) -> _Failure:
        """Judge an answer that something else gave, such as a proxy: its effect is not known."""
        said = f"{self.shown} answered {request.method} {request.path} with {status}, and not as"
        said += " the coordinator does"
        error: CoordinatorError = ServiceUnavailable(said)
        if status == 429:
            error = TooManyRequests(said)
        elif 400 <= status < 500 and status != 408:
            return _Failure(ConfigurationError(said))
        again = status in _AGAIN or status < 300
        return _Failure(error, again, unknown=status not in _UNTOUCHED)

    def _pause(self, failure: _Failure, tries: int) -> float:
        most = min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS_FIRST * 2.0 ** min(tries, 10))
        return max(failure.after_seconds or 0.0, most * (0.5 + self.spread() / 2))


def _with(request: Request, until: str, seconds: float) -> Request:
    if seconds < 0.001:
        return request
    goal = (("wait", until),) if until else ()
    return replace(request, params=(*request.params, *goal, ("timeout", f"{seconds:.3f}")))


def _raise(request: Request, error: CoordinatorError, *, unknown: bool) -> NoReturn:
    if not request.changes or not unknown or isinstance(error, VERDICTS):
        raise error
    again = "ask again: it may be repeated"
    if request.key is not None:
        again = f"ask again with the idempotency key {request.key!r}, which never pays twice"
    raise OutcomeUnknown(
        f"{request.method} {request.path} was sent, and no answer tells what became of it"
        f" ({error}); {again}",
        idempotency_key=request.key,
    ) from error


def _problem(body: bytes) -> Mapping[str, Any] | None:
    """Return the problem details of our own; None for whatever else a body holds."""
    try:
        found = loads(body)
    except ValueError:
        return None
    ours = isinstance(found, dict) and {"code", "detail"} <= found.keys()
    return found if ours else None


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which the service gives as a number."""
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
