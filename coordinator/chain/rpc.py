"""JSON-RPC over HTTP: reads are retried, sends never."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from coordinator.domain.errors import ChainUnavailable, ConfigurationError

_BATCH_MAX: Final = 100


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


Call = tuple[str, Sequence[Any]]


class Rpc:
    """One or more endpoints of one chain; a read that fails goes to the next of them."""

    def __init__(self, urls: Sequence[str], *, timeout_seconds: int = 20, tries: int = 4) -> None:
        self._urls = tuple(urls)
        self._timeout = timeout_seconds
        self._tries = tries
        self._ids = itertools.count(1)
        self._batch_max = _BATCH_MAX
        self._chain_id: int | None = None
        self._right_chain: set[str] = set()
        self._local = threading.local()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The endpoints' hosts: paths and queries often hold a secret."""
        return tuple(urlsplit(url).netloc.rpartition("@")[2] for url in self._urls)

    @property
    def loopback(self) -> bool:
        """Whether every endpoint is on this machine."""
        return all(
            urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") for url in self._urls
        )

    @property
    def urls(self) -> tuple[str, ...]:
        return self._urls

    def expect_chain(self, chain_id: int) -> None:
        """Use only endpoints of this chain: each is asked before its first answer counts."""
        self._chain_id = chain_id

    def call(self, method: str, *params: Any) -> Any:
        """The result of one read; RpcRefused or ChainUnavailable otherwise."""
        answer = self.batch([(method, params)])[0]
        if isinstance(answer, RpcRefusal):
            raise RpcRefused(answer)
        return answer

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Results in the order of ``calls``; each that the node refused is an RpcRefusal."""
        answers: list[Any] = []
        size = self._batch_max
        for start in range(0, len(calls), size):
            answers.extend(self._read(calls[start : start + size]))
        return answers

    def send(self, calls: Sequence[Call]) -> list[Any]:
        """One try in order, at the first endpoint that answers; ChainUnavailable proves nothing.

        The bytes are signed: an endpoint that has them already says so and does no harm.
        """
        answers: list[Any] = []
        size = self._batch_max
        for start in range(0, len(calls), size):
            answers.extend(self._post_anywhere(calls[start : start + size]))
        return answers

    def everywhere(self, call: Call) -> list[Any]:
        """One read of every endpoint: the answers of those that answer, at least one."""
        answers, fault = [], None
        for url in self._urls:
            try:
                answers.append(self._ask(url, [call])[0])
            except ChainUnavailable as found:
                fault = found
        if not answers:
            raise fault or ChainUnavailable("there is no endpoint")
        return answers

    def _post_anywhere(self, calls: Sequence[Call]) -> list[Any]:
        for url in self._urls[:-1]:
            try:
                return self._ask(url, calls)
            except ChainUnavailable:
                continue
        return self._ask(self._urls[-1], calls)

    def _read(self, calls: Sequence[Call]) -> list[Any]:
        turn = itertools.cycle(self._urls)
        retrying = Retrying(
            stop=stop_after_attempt(max(self._tries, len(self._urls))),
            wait=wait_exponential(multiplier=0.1, max=2),
            retry=retry_if_exception(_worth_another_try),
            reraise=True,
        )
        try:
            answers: list[Any] = retrying(lambda: self._ask(next(turn), calls))
        except BatchRefused:
            if len(calls) == 1:
                raise
            # Public endpoints take smaller batches; the size that they take is kept.
            self._batch_max = max(1, len(calls) // 2)
            answers = self.batch(calls)
        return answers

    def _ask(self, url: str, calls: Sequence[Call]) -> list[Any]:
        if self._chain_id is not None and url not in self._right_chain:
            where = urlsplit(url).netloc.rpartition("@")[2]
            answer = self._post(url, [("eth_chainId", [])])[0]
            if not isinstance(answer, str):
                raise ChainUnavailable(f"the endpoint {where} does not tell its chain")
            if answer.lower() != hex(self._chain_id):
                raise ConfigurationError(
                    f"the endpoint {where} of COORDINATOR_RPC_URL is not on chain {self._chain_id}"
                )
            self._right_chain.add(url)
        return self._post(url, calls)

    def _post(self, url: str, calls: Sequence[Call]) -> list[Any]:
        body: list[Any] = [
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
            for method, params in calls
        ]
        where = urlsplit(url).netloc.rpartition("@")[2]
        try:
            response = self._session().post(url, json=body, timeout=self._timeout)
            document = response.json()
        except (requests.RequestException, ValueError) as fault:
            kind = type(fault).__name__
            raise ChainUnavailable(f"the endpoint {where} did not answer ({kind})") from None
        if isinstance(document, dict) and len(body) == 1:
            document = [document]
        if not isinstance(document, list):
            said = document.get("error") if isinstance(document, dict) else document
            text = f"the endpoint {where} refused a batch: {str(said)[:200]}"
            overloaded = _overloaded(response.status_code, document) or _limits_rate(said)
            raise ChainUnavailable(text) if overloaded else BatchRefused(text)
        by_id = {item.get("id"): item for item in document if isinstance(item, dict)}
        return [self._result(where, by_id.get(item["id"])) for item in body]

    def _result(self, where: str, answer: Any) -> Any:
        if answer is None or ("result" not in answer and not answer.get("error")):
            raise ChainUnavailable(f"the endpoint {where} left out an answer")
        error = answer.get("error")
        if error is None:
            return answer["result"]
        code, message = int(error.get("code", 0)), str(error.get("message", ""))
        if _limits_rate(error):
            raise ChainUnavailable(f"the endpoint {where} limits our rate")
        return RpcRefusal(code, message, error.get("data"))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # A proxy of the environment has no business between us and a local chain.
            session.trust_env = not self.loopback
        return session


def _overloaded(status: int, document: Any) -> bool:
    """Whether any request would have been answered like this: the batch's size says nothing."""
    if status == 429 or document is None:
        return True
    # Some endpoints refuse a large batch with status 500, but always with a JSON-RPC error.
    said = document.get("error") if isinstance(document, dict) else None
    return status >= 500 and not isinstance(said, dict)


def _limits_rate(error: Any) -> bool:
    if not isinstance(error, dict):
        return False
    return error.get("code") in (429, -32005) or "rate limit" in str(error.get("message")).lower()


def _worth_another_try(fault: BaseException) -> bool:
    return isinstance(fault, ChainUnavailable) and not isinstance(fault, BatchRefused)
