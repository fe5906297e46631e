"""An agent has only so many requests before people at once, whoever asks at the same time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator import Coordinator, Purchase, Status
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, Clock, ask
from tests.integration.stores import on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]

_MOST = 5
_FEW: dict[str, Any] = {
    "agents": {"ada": {"daily_limit": "10000"}},
    "approvals": {"waiting_max": _MOST},
    "increases": {"maximum": "1000"},
}


def large(coordinator: Coordinator, agent: str = "ada") -> Purchase:
    """A request above the agent's threshold."""
    return ask(coordinator.agent(agent), amount="75.00")


def test_as_many_wait_as_the_policy_allows_and_others_are_denied(opener: Opener) -> None:
    coordinator = opener(_FEW)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: large(coordinator), range(20)))

    assert Counter(p.status for p in found) == {Status.AWAITING_APPROVAL: _MOST, Status.DENIED: 15}
    denied = next(p for p in found if p.denied)
    assert denied.reason is not None and denied.reason.code == "too_many_waiting"
    assert large(coordinator, "bert").needs_approval
    assert ask(coordinator.agent("ada"), amount="50.00").status is Status.APPROVED


def test_a_decision_by_people_and_the_end_of_its_time_make_room(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(_FEW)
    waiting = [large(coordinator) for _ in range(_MOST)]
    terms: Any = {"provider": "paper-api", "amount": "75.00", "purpose": "papers"}
    assert coordinator.agent("ada").check(**terms).reasons[0].code == "too_many_waiting"
    coordinator.approve(waiting[0].approval_id or "", approver="alice")
    coordinator.reject(waiting[1].approval_id or "", approver="alice", reason="no")
    coordinator.cancel(waiting[2].id, by="olga")

    assert [large(coordinator).needs_approval for _ in range(4)] == [True, True, True, False]
    clock.now += HOUR
    assert large(coordinator).needs_approval


def test_requests_for_more_count_as_well(opener: Opener) -> None:
    coordinator = opener(_FEW)
    agent = coordinator.agent("ada")
    for _ in range(_MOST - 1):
        assert large(coordinator).needs_approval

    first, second = (agent.request_increase("5.00", reason="more") for _ in range(2))

    assert first.waits
    assert second.reason is not None and second.reason.code == "too_many_waiting"
    assert large(coordinator).denied


def test_requests_for_more_whose_time_is_over_make_room(opener: Opener, clock: Clock) -> None:
    coordinator = opener(_FEW)
    agent = coordinator.agent("ada")
    for _ in range(_MOST):
        assert agent.request_increase("5.00", reason="more").waits
    clock.now += 10 * 24 * HOUR
    assert coordinator.increases() == []
    bought = large(coordinator)
    assert bought.needs_approval, bought.reason


def test_purchases_whose_time_is_over_make_room_for_requests_for_more(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(_FEW)
    for _ in range(_MOST):
        assert large(coordinator).needs_approval
    clock.now += 10 * 24 * HOUR
    asked = coordinator.agent("ada").request_increase("5.00", reason="more")
    assert asked.waits, asked.reason


def test_a_key_that_was_refused_for_want_of_room_may_be_asked_again(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(_FEW)
    agent = coordinator.agent("ada")
    waiting = [large(coordinator) for _ in range(_MOST)]
    first = agent.request_increase("5.00", reason="more", idempotency_key="k")
    again = agent.request_increase("5.00", reason="more", idempotency_key="k")
    assert first.reason is not None and first.reason.code == "too_many_waiting"
    assert again.reason == first.reason
    coordinator.reject(waiting[0].approval_id or "", approver="alice", reason="no")
    assert agent.request_increase("5.00", reason="more", idempotency_key="k").waits
