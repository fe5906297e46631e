"""One agent leaves the others their turn: what it has at once and what is read is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import event

from coordinator.server.turns import THREADS, Turns
from tests.integration.service.simulated import SimulatedService, simulated_service

_MOST = 3


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def test_long_polls_of_one_key_are_limited_and_others_wait_on(service: SimulatedService) -> None:
    c = service.coordinator
    c.acts = c.wiring.acts = False
    service.app.state.turns = Turns(at_once=_MOST)
    mine, theirs = service.buy("5.00", wait=False), service.buy(agent="data-agent", wait=False)
    greedy, other = service.client("agent"), service.client("other")
    told: list[httpx.Response] = []

    def poll(client: httpx.Client, purchase_id: str) -> None:
        path = f"/v1/purchases/{purchase_id}?wait=final&timeout=60"
        told.append(client.get(path))

    polls = [threading.Thread(target=poll, args=(greedy, mine.id)) for _ in range(_MOST)]
    polls.append(threading.Thread(target=poll, args=(other, theirs.id)))
    for one in polls:
        one.start()
    with c.wiring.changes.watching() as changed:
        while len(c._watcher) < len(polls):
            changed.wait(0.05)
    poll(greedy, mine.id)
    assert [(one.status_code, one.json()["code"]) for one in told] == [(429, "too_many_requests")]
    assert told[0].headers["Retry-After"]
    for purchase in (mine, theirs):
        c.cancel(purchase.id, by="olga")
    for one in polls:
        one.join(60)
    assert [one.status_code for one in told[1:]] == [200] * len(polls)
    assert greedy.get(f"/v1/purchases/{mine.id}?wait=final").status_code == 200


@pytest.fixture
def statements(service: SimulatedService) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        found.append(statement)

    engine = service.coordinator.wiring.database.engine
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def test_a_page_of_the_audit_log_reads_a_page(
    service: SimulatedService, statements: list[str]
) -> None:
    assert service.client("auditor").get("/v1/audit?limit=1").status_code == 200
    (asked,) = [one for one in statements if "audit" in one and "ORDER BY audit.seq" in one]
    assert "LIMIT" in asked.upper(), asked


def test_requests_for_more_are_listed_by_a_few_statements(
    service: SimulatedService, statements: list[str]
) -> None:
    other = service.coordinator.agent("data-agent")
    for number in range(100):
        assert not other.request_increase("9999", reason=f"more {number}").waits
    statements.clear()
    listed = service.client("agent").get("/v1/increases?waiting=false")
    assert listed.json() == {"items": []}  # none of them is its own
    assert len(statements) < 20, f"{len(statements)} statements"


def test_one_agents_writes_leave_threads_to_those_who_read() -> None:
    with simulated_service() as service:
        service.app.state.turns = Turns(at_once=2 * THREADS)
        database = service.coordinator.wiring.database
        greedy = {"Authorization": f"Bearer {service.tokens['agent']}"}
        began = threading.Semaphore(0)

        def hold(number: int) -> None:
            began.release()
            headers = {**greedy, "Idempotency-Key": f"k{number}"}
            httpx.post(
                f"{service.url}/v1/holds",
                json={"amount": "1"},
                headers=headers,
                timeout=60,
                trust_env=False,
            )

        asking = [threading.Thread(target=hold, args=(n,)) for n in range(THREADS)]
        with database.write():
            for one in asking:
                one.start()
            for _ in asking:
                began.acquire()
            operator = {"Authorization": f"Bearer {service.tokens['operator']}"}
            seen = []
            for _ in range(5):  # the first ones may come before the threads are taken
                try:
                    answered = httpx.get(
                        f"{service.url}/v1/me", headers=operator, timeout=2, trust_env=False
                    )
                    seen.append(answered.status_code)
                except httpx.ReadTimeout:
                    seen.append(0)
        for one in asking:
            one.join()
        assert seen == [200] * 5, f"an operator who only reads got no answer: {seen}"
