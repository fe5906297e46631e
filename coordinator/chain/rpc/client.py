"""JSON-RPC over HTTP, at one or more endpoints of one chain."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
)

from coordinator.chain.rpc.endpoints import Endpoint, Endpoints
from coordinator.chain.rpc.redaction import Redaction
from coordinator.domain.errors import ChainUnavailable, ConfigurationError
from coordinator.domain.ports import Ticks

# Half of a lease: who waits for an endpoint that hangs can still renew it in time.
_TIMEOUT_SECONDS: Final = 5
# Answers about us or about the address, whatever was asked: none of them heals in a second.
_NOT_FOR_US: Final = (401, 402, 403, 404)
_TOO_MANY: Final = 429
# Both may come with the time from which on the endpoint takes requests again.
_NOT_NOW: Final = (_TOO_MANY, 503)
# Nobody keeps out who pays for longer, and what is in flight has to be looked after.
_RETRY_SECONDS_MAX: Final = 300
# The longest wait between two tries of one read.
_WAIT_SECONDS_MAX: Final = 2
_EXPONENTIAL: Final = wait_exponential(multiplier=0.1, max=_WAIT_SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class RpcRefusal:
    """A JSON-RPC error object: the node answered, and said no."""

    code: int
    message: str
    data: Any = None


class RpcRefused(ChainUnavailable):
    """A single read was refused by the node; another may answer it, and nothing was sent."""

    code = "chain_refused"

    def __init__(self, refusal: RpcRefusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class BatchRefused(ChainUnavailable):
    """An endpoint took none of a batch: it may take a smaller one."""


class EndpointOut(ChainUnavailable):
    """An endpoint hangs or does not let us in: others are asked for a while."""


class RateLimited(ChainUnavailable):
    """An endpoint takes no request before a time that it told."""

    def __init__(self, host: str, seconds: float) -> None:
        super().__init__(
            f"the endpoint {host} takes no requests now: asked again in {seconds:.0f} s"
        )
        self.seconds = seconds


Call = tuple[str, Sequence[Any]]


class Rpc:
    """Reads are retried and go to the next endpoint; all answers of a batch are one endpoint's."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_seconds: int = _TIMEOUT_SECONDS,
        tries: int = 4,
        sleep: Callable[[float], None] = time.sleep,
        ticks: Ticks = time.monotonic,
    ) -> None:
        self._endpoints = Endpoints(urls, ticks)
        self._heard = Redaction(urls)
        self._timeout = timeout_seconds
        self._tries = tries
        self._sleep = sleep
        self._ids = itertools.count(1)
        self._chain_id: int | None = None
        self._local = threading.local()
        self._counting = threading.Lock()
        self._sent: Counter[str] = Counter()

    @property
    def calls_sent(self) -> Mapping[str, int]:
        """The number of calls sent so far by method, each of a batch and each retry counted."""
        with self._counting:
            return dict(self._sent)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The endpoints' hosts: paths and queries often hold a secret."""
        return tuple(endpoint.host for endpoint in self._endpoints.all)

    @property
    def current_host(self) -> str:
        """The host that this thread asked last."""
        return str(getattr(self._local, "host", self.hosts[0]))

    @property
    def loopback(self) -> bool:
        """Whether every endpoint is on this machine."""
        return all(urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") for url in self.urls)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(endpoint.url for endpoint in self._endpoints.all)

    def expect_chain(self, chain_id: int) -> None:
        """Use only endpoints of this chain: each is asked before its first answer counts.

        ConfigurationError from then on where every endpoint is of another chain and always was.
        """
        self._chain_id = chain_id

    def call(self, method: str, *params: Any) -> Any:
        """The result of one read; RpcRefused or ChainUnavailable otherwise."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, RpcRefusal):
            raise RpcRefused(answer)
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the order of ``calls``, all of one endpoint; refused ones are RpcRefusals."""
        turn = itertools.cycle(self._endpoints.in_order())
        answered: dict[Endpoint, list[Any]] = {}

        def ask() -> list[Any]:
            endpoint = self._next(turn)
            return self._collect(endpoint, calls, answered.setdefault(endpoint, []))

        try:
            answers: list[Any] = self._retrying(self._worth_another_try)(ask)
        except ChainUnavailable as fault:
            raise self._as_settings_fault(fault) from None
        return answers

    def send(self, calls: Sequence[Call]) -> list[Any]:
        """One try in order, at the first endpoint that answers; ChainUnavailable proves nothing.

        The bytes are signed: an endpoint that has them already says so and does no harm.
        """
        fault = ChainUnavailable("there is no endpoint")
        for endpoint in self._endpoints.in_order():
            try:
                return self._collect(endpoint, calls, [])
            except ChainUnavailable as found:
                fault = found
        raise self._as_settings_fault(fault)

    def everywhere(self, calls: Sequence[Call], *, all_of_them: bool = False) -> list[list[Any]]:
        """One try at every endpoint: the answers of each that answers, at least one's.

        Those that rest are asked only while no other has answered. With ``all_of_them``
        ChainUnavailable unless every one answers that is on this chain.
        """
        told: list[list[Any]] = []
        fault = ChainUnavailable("there is no endpoint")
        for endpoint in self._endpoints.in_order():
            if endpoint.rests and told and not all_of_them:
                break
            try:
                told.append(self._collect(endpoint, calls, []))
            except ChainUnavailable as found:
                fault = found
                if all_of_them and not endpoint.wrong_chain:
                    raise self._as_settings_fault(fault) from found
        if not told:
            raise self._as_settings_fault(fault)
        return told

    def wait(self, seconds: float) -> None:
        """Let time pass between two looks at the same thing."""
        self._sleep(seconds)

    def use_next(self) -> None:
        """Begin reads at another endpoint from now on, if there is one that does not rest."""
        for endpoint in self._endpoints.others()[:1]:
            self._endpoints.use(endpoint)

    def use_where(self, call: Call, fits: Callable[[Any], bool]) -> bool:
        """Begin reads from now on at another endpoint whose answer fits; whether there is one."""
        for endpoint in self._endpoints.others():
            try:
                found = fits(self._collect(endpoint, [call], [])[0])
            except ChainUnavailable:
                continue
            if found:
                self._endpoints.use(endpoint)
                return True
        return False

    def survey(self, calls: Sequence[Call]) -> list[tuple[str, list[Any] | ChainUnavailable]]:
        """(host, answers or fault) of every endpoint, whichever chain it is on."""
        found: list[tuple[str, list[Any] | ChainUnavailable]] = []
        for endpoint in self._endpoints.all:
            ask = partial(self._post, endpoint.url)
            try:
                answers = [self._retrying(_passes)(ask, [call])[0] for call in calls]
                found.append((endpoint.host, answers))
            except ChainUnavailable as fault:
                found.append((endpoint.host, fault))
        return found

    def _retrying(self, worth: Callable[[BaseException], bool]) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(max(self._tries, len(self.urls))),
            wait=_wait_before_another,
            retry=retry_if_exception(worth),
            reraise=True,
            sleep=self._sleep,
        )

    def _next(self, turn: Iterator[Endpoint]) -> Endpoint:
        """The next one that does not rest, or the next if all do."""
        awake = (e for e in itertools.islice(turn, len(self.urls)) if not e.rests)
        return next(awake, None) or next(turn)

    def _worth_another_try(self, fault: BaseException) -> bool:
        if isinstance(fault, RateLimited) and fault.seconds <= _WAIT_SECONDS_MAX:
            return True
        all_rest = all(endpoint.rests for endpoint in self._endpoints.all)
        return isinstance(fault, ChainUnavailable) and not all_rest

    def _as_settings_fault(self, fault: ChainUnavailable) -> ChainUnavailable | ConfigurationError:
        if all(e.wrong_chain and not e.was_right for e in self._endpoints.all):
            where = ", ".join(self.hosts)
            return ConfigurationError(
                f"the endpoint {where} of COORDINATOR_RPC_URL is not on chain {self._chain_id}"
            )
        return fault

    def _collect(self, endpoint: Endpoint, calls: Sequence[Call], got: list[Any]) -> list[Any]:
        """``got`` and the endpoint's answers to the rest of ``calls``, in batches that it takes."""
        while len(got) < len(calls):
            part = calls[len(got) : len(got) + endpoint.batch_max]
            try:
                got += self._ask(endpoint, part)
            except BatchRefused:
                endpoint.takes_less_than(len(part))
                if len(part) == 1:
                    raise
            except RateLimited as fault:
                endpoint.close_for(fault.seconds)
                raise
            except ChainUnavailable as fault:
                endpoint.failed(lasting=isinstance(fault, EndpointOut))
                raise
            else:
                endpoint.answered()
        return got

    def _ask(self, endpoint: Endpoint, calls: Sequence[Call]) -> list[Any]:
        self._local.host = endpoint.host
        if endpoint.closed_seconds > 0:
            raise RateLimited(endpoint.host, endpoint.closed_seconds)
        if self._chain_id is not None and not endpoint.right_chain:
            said = self._post(endpoint.url, [("eth_chainId", [])])[0]
            if not isinstance(said, str):
                raise ChainUnavailable(f"the endpoint {endpoint.host} does not tell its chain")
            if not endpoint.tells_chain(said, self._chain_id):
                raise ChainUnavailable(
                    f"the endpoint {endpoint.host} is not on chain {self._chain_id}"
                )
        return self._post(endpoint.url, calls)

    def _post(self, url: str, calls: Sequence[Call]) -> list[Any]:
        body: list[Any] = [
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
            for method, params in calls
        ]
        where = urlsplit(url).netloc.rpartition("@")[2]
        with self._counting:
            self._sent.update(method for method, _ in calls)
        try:
            response = self._session().post(url, json=body, timeout=self._timeout)
            wait = response.headers.get("Retry-After")
            if response.status_code in _NOT_NOW and (seconds := retry_seconds(wait)) is not None:
                raise RateLimited(where, seconds)
            if response.status_code in _NOT_FOR_US:
                raise EndpointOut(f"the endpoint {where} answered {response.status_code}")
            document = response.json()
        except requests.Timeout:
            raise EndpointOut(f"the endpoint {where} did not answer in time") from None
        except (requests.RequestException, ValueError, RecursionError) as fault:
            kind = type(fault).__name__
            raise ChainUnavailable(f"the endpoint {where} did not answer ({kind})") from None
        if isinstance(document, dict) and len(body) == 1:
            document = [document]
        if isinstance(document, dict):
            said = document.get("error")
            text = f"the endpoint {where} refused a batch: {self._heard(said or document)}"
            overloaded = _overloaded(response.status_code, said) or _limits_rate(said)
            raise ChainUnavailable(text) if overloaded else BatchRefused(text)
        if not isinstance(document, list):
            raise ChainUnavailable(f"the endpoint {where} answered {self._heard(document)[:60]!r}")
        by_id = {
            item["id"]: item
            for item in document
            if isinstance(item, dict) and isinstance(item.get("id"), int)
        }
        return [self._result(where, by_id.get(item["id"])) for item in body]

    def _result(self, where: str, answer: dict[str, Any] | None) -> Any:
        error = answer.get("error") if answer is not None else None
        if answer is None or ("result" not in answer and not error):
            raise ChainUnavailable(f"the endpoint {where} left out an answer")
        if error is None:
            return answer["result"]
        if not isinstance(error, dict):
            raise ChainUnavailable(
                f"the endpoint {where} answered the error {self._heard(error)[:100]!r}"
            )
        if _limits_rate(error):
            raise ChainUnavailable(f"the endpoint {where} limits our rate")
        code = error.get("code")
        return RpcRefusal(
            code if isinstance(code, int) else 0,
            self._heard(error.get("message", "")),
            error.get("data"),
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # A proxy of the environment has no business between us and a local chain.
            session.trust_env = not self.loopback
        return session


def _wait_before_another(state: RetryCallState) -> float:
    """Wait as long as the endpoint said, or a little longer from try to try."""
    fault = state.outcome.exception() if state.outcome else None
    if isinstance(fault, RateLimited) and fault.seconds <= _WAIT_SECONDS_MAX:
        return fault.seconds
    return _EXPONENTIAL(state)


def _passes(fault: BaseException) -> bool:
    """Whether the same endpoint may answer a moment later."""
    return isinstance(fault, ChainUnavailable) and not isinstance(fault, EndpointOut)


def retry_seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header, from 0 to 300; None without one that can be read.

    RFC 9110, 10.2.3: seconds, or a date.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _RETRY_SECONDS_MAX) if math.isfinite(seconds) else None


def _overloaded(status: int, said: Any) -> bool:
    """Whether any request would have been answered like this: the batch's size says nothing."""
    # Some endpoints refuse a large batch with status 500, but always with a JSON-RPC error.
    return status == _TOO_MANY or (status >= 500 and not isinstance(said, dict))


def _limits_rate(error: Any) -> bool:
    if not isinstance(error, dict):
        return False
    return error.get("code") in (429, -32005) or "rate limit" in str(error.get("message")).lower()
