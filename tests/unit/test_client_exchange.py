"""The thin client asks until it is answered, with one key, for a bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator_client.calls import Calls
from coordinator_client.errors import (
    ChainUnavailable,
    ConfigurationError,
    CoordinatorError,
    Denied,
    Forbidden,
    IdempotencyConflict,
    InvalidRequest,
    LedgerUnavailable,
    OutcomeUnknown,
    ServiceUnavailable,
    TooManyRequests,
    Unauthenticated,
    UnknownId,
)
from coordinator_client.exchange import Exchange, Flow, Lost, Pause, Response, Send

CUT = Lost("ReadError", sent=True)
SILENCE = Lost("ReadTimeout", sent=True)
REFUSED = Lost("ConnectError", sent=False)
BODY = {"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"}


class Script:
    """Answers the steps of a flow from a list; the last reply is given for ever."""

    def __init__(self, *replies: Response | Lost, answer_seconds: float = 0.0) -> None:
        self.now = 1000.0
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self._replies = list(replies)
        self._answer_seconds = answer_seconds
        self.calls = Calls(Exchange(lambda: self.now, lambda: 0.0), 30)

    def run(self, flow: Flow[Any]) -> Any:
        reply: Response | Lost | None = None
        for _ in range(10_000):
            try:
                step = flow.send(reply)
            except StopIteration as done:
                return done.value
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
                reply = None
                continue
            self.sent.append(step)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            self.now += step.answer_seconds if reply is SILENCE else self._answer_seconds
        raise AssertionError("it never ends")

    def purchase(self, **named: Any) -> Any:
        asked = {"idempotency_key": "k-1", "wait": True, "timeout_seconds": 60, **named}
        return self.run(self.calls.purchase(BODY, **asked))

    @property
    def keys(self) -> set[str | None]:
        return {step.request.key for step in self.sent}


def purchase(status: str = "funded") -> Response:
    told = {
        "purchase_id": "pur_1",
        "status": status,
        "provider": "0x1",
        "purpose": "Paper access",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "idempotency_key": "k-1",
    }
    sums = ("amount", "spent", "provider_received", "platform_fee", "penalty", "refunded")
    return Response(200, json.dumps(told | dict.fromkeys(sums, "0.00")).encode())


def problem(status: int, code: str, *, moved: bool | None = False, after: str = "") -> Response:
    told = {"code": code, "detail": f"{code} it is", "money_moved": moved}
    return Response(status, json.dumps(told).encode(), after or None)


@pytest.mark.parametrize(
    "fault",
    [
        CUT,
        SILENCE,
        REFUSED,
        problem(503, "ledger_unavailable"),
        problem(503, "ledger_unavailable", moved=None),
        problem(429, "too_many_requests", after="2"),
        problem(408, "too_slow"),
        Response(502, b"<html>upstream is gone</html>"),
        Response(504, b""),
        Response(200, b'{"purchase_id": "pur'),
        Response(200, b"<html>welcome</html>"),
        Response(200, b"null"),
    ],
    ids=str,
)
def test_a_purchase_is_asked_again_with_the_same_key(fault: Response | Lost) -> None:
    script = Script(fault, fault, purchase())
    assert script.purchase(idempotency_key=None, timeout_seconds=100).status == "funded"
    assert len(script.sent) == 3
    assert len(script.keys) == 1
    assert script.keys != {None}


def test_retry_after_is_obeyed() -> None:
    script = Script(problem(429, "too_many_requests", after="7"), purchase())
    script.purchase()
    assert script.pauses == [7]


def test_retry_after_of_nothing_is_no_hurry() -> None:
    script = Script(problem(429, "too_many_requests", after="0"))
    with pytest.raises(TooManyRequests):
        script.purchase()
    assert len(script.sent) < 100


def test_a_retry_after_beyond_the_timeout_is_told_at_once() -> None:
    script = Script(problem(429, "too_many_requests", after="3600"))
    with pytest.raises(TooManyRequests) as told:
        script.purchase()
    assert (len(script.sent), script.pauses) == (1, [])
    assert told.value.retry_after_seconds == 3600
    assert told.value.money_moved is False


@pytest.mark.parametrize("timeout_seconds", [0, 45, 300])
def test_silence_ends_soon_after_the_timeout_and_its_outcome_is_unknown(
    timeout_seconds: float,
) -> None:
    script = Script(SILENCE)
    with pytest.raises(OutcomeUnknown) as told:
        script.purchase(timeout_seconds=timeout_seconds)
    assert told.value.money_moved is None
    assert told.value.idempotency_key == "k-1"
    assert "k-1" in str(told.value)
    assert script.now - 1000 <= max(timeout_seconds, 30) + 40


def test_what_never_reached_the_service_moved_nothing() -> None:
    script = Script(REFUSED)
    with pytest.raises(ServiceUnavailable) as told:
        script.purchase()
    assert told.value.money_moved is False
    assert isinstance(told.value, LedgerUnavailable)


@pytest.mark.parametrize(
    "last",
    [
        REFUSED,
        problem(401, "unauthenticated"),
        problem(403, "forbidden"),
        problem(503, "ledger_unavailable"),
        problem(500, "internal", moved=None),
        Response(302, b""),
        Response(404, b"<html>no such page</html>"),
    ],
    ids=str,
)
def test_after_a_lost_answer_no_later_fault_says_that_nothing_moved(
    last: Response | Lost,
) -> None:
    script = Script(CUT, last)
    with pytest.raises(OutcomeUnknown):
        script.purchase()


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (problem(422, "invalid_provider"), InvalidRequest),
        (problem(409, "idempotency_conflict"), IdempotencyConflict),
    ],
)
def test_after_a_lost_answer_a_refusal_of_the_terms_is_told_as_it_is(
    last: Response, kind: type[CoordinatorError]
) -> None:
    with pytest.raises(kind):
        Script(CUT, last).purchase()


@pytest.mark.parametrize(
    ("reply", "kind", "code", "moved"),
    [
        (problem(400, "malformed"), InvalidRequest, "malformed", False),
        (problem(401, "unauthenticated"), Unauthenticated, "unauthenticated", False),
        (problem(403, "forbidden"), Forbidden, "forbidden", False),
        (problem(404, "not_found"), UnknownId, "not_found", False),
        (problem(409, "idempotency_conflict"), IdempotencyConflict, "idempotency_conflict", False),
        (problem(409, "daily_limit"), Denied, "daily_limit", False),
        (problem(413, "too_large"), InvalidRequest, "too_large", False),
        (problem(422, "invalid_amount"), InvalidRequest, "invalid_amount", False),
        (problem(500, "internal"), CoordinatorError, "internal", False),
        (problem(500, "internal", moved=None), OutcomeUnknown, "outcome_unknown", None),
        (problem(503, "chain_unavailable"), ChainUnavailable, "chain_unavailable", False),
        (problem(503, "ledger_tampered"), LedgerUnavailable, "ledger_tampered", False),
        (problem(503, "configuration"), ConfigurationError, "configuration", False),
        (problem(503, "closed", moved=None), OutcomeUnknown, "outcome_unknown", None),
        (Response(302, b""), ConfigurationError, "configuration", False),
        (Response(404, b"<html>"), ConfigurationError, "configuration", False),
        (Response(503, b"<html>"), OutcomeUnknown, "outcome_unknown", None),
        (
            Lost("not trusted", sent=False, hopeless=True),
            ConfigurationError,
            "configuration",
            False,
        ),
    ],
    ids=str,
)
def test_each_problem_has_its_exception(
    reply: Response | Lost, kind: type[CoordinatorError], code: str, moved: bool | None
) -> None:
    with pytest.raises(CoordinatorError) as told:
        Script(reply).purchase()
    assert (type(told.value), told.value.code, told.value.money_moved) == (kind, code, moved)


def test_a_wait_is_made_of_pieces_of_at_most_thirty_seconds() -> None:
    script = Script(purchase("approved"), answer_seconds=30)
    assert script.purchase(timeout_seconds=100).status == "approved"
    asked = [float(dict(step.request.params)["timeout"]) for step in script.sent]
    assert asked == [30, 30, 30, 10]
    assert [step.request.method for step in script.sent] == ["POST", "GET", "GET", "GET"]
    assert all(step.answer_seconds > s for step, s in zip(script.sent, asked, strict=True))


def test_a_service_that_answers_each_wait_at_once_is_asked_once_a_second() -> None:
    script = Script(purchase("approved"))
    assert script.purchase(timeout_seconds=10).status == "approved"
    assert len(script.sent) <= 11


@pytest.mark.parametrize("status", ["funded", "denied", "awaiting_approval", "settled"])
def test_a_wait_ends_where_nothing_more_is_to_come(status: str) -> None:
    script = Script(purchase(status))
    assert script.purchase().status == status
    assert len(script.sent) == 1


@pytest.mark.parametrize(
    "fault",
    [
        CUT,
        SILENCE,
        REFUSED,
        problem(401, "unauthenticated"),
        problem(500, "internal"),
        Response(200, b"?"),
    ],
    ids=str,
)
def test_a_purchase_that_is_known_is_returned_whatever_becomes_of_the_wait(
    fault: Response | Lost,
) -> None:
    assert Script(purchase("approved"), fault).purchase().status == "approved"


def test_waiting_for_a_purchase_never_raises_for_time() -> None:
    script = Script(purchase("funded"), REFUSED)
    found = script.run(script.calls.wait_for("pur_1", until="final", timeout_seconds=20))
    assert found.status == "funded"


def test_a_key_that_stops_counting_ends_a_wait_for_a_purchase() -> None:
    script = Script(purchase("funded"), problem(401, "unauthenticated"))
    with pytest.raises(Unauthenticated):
        script.run(script.calls.wait_for("pur_1", until="final", timeout_seconds=20))


def test_a_status_of_a_newer_service_is_kept_and_waited_on() -> None:
    found = Script(purchase("half_way"), answer_seconds=30).purchase()
    assert (found.status, found.status.value, str(found.status)) == ("half_way",) * 3
    assert not found.final
    assert not found.ok


def test_a_session_is_not_opened_twice_after_a_lost_answer() -> None:
    run = {"session": "s-1", "agent": "research-agent", "status": "open"}
    script = Script(CUT, Response(200, json.dumps(run).encode()))
    assert script.run(script.calls.open_run("session", "s-1", None)).id == "s-1"
    assert [step.request.method for step in script.sent] == ["POST", "GET"]


def test_a_session_that_never_arrived_is_opened_again() -> None:
    run = {"session": "s-1", "agent": "research-agent", "status": "open"}
    opened = Response(200, json.dumps(run).encode())
    script = Script(CUT, problem(404, "not_found"), opened)
    assert script.run(script.calls.open_run("session", "s-1", None)).status == "open"
    assert [step.request.method for step in script.sent] == ["POST", "GET", "POST"]


def test_lists_are_read_in_pages() -> None:
    one = json.loads(purchase().body)

    def pages() -> Iterator[Response]:
        for size, after in ((500, "pur_a"), (500, "pur_b"), (200, None)):
            yield Response(200, json.dumps({"items": [one] * size, "next": after}).encode())

    script = Script(*pages())
    found = script.run(script.calls.purchases(status="funded", since=7, limit=1200, after=None))
    assert len(found) == 1200
    asked = [dict(step.request.params) for step in script.sent]
    assert [a["limit"] for a in asked] == ["500", "500", "200"]
    assert [a.get("after") for a in asked] == [None, "pur_a", "pur_b"]
    assert all((a["status"], a["since"]) == ("funded", "7") for a in asked)
