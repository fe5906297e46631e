"""Who may approve a purchase, how many have to, and by what it is judged then."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Coordinator, Status
from coordinator.domain.purchase.purchase import Purchase
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    USDC,
    Clock,
    ask,
    assert_books_agree,
    contents,
    counter,
    rows,
)
from tests.integration.stores import on_both

pytestmark = on_both
AGENTS_APPROVE = {
    "alice": {},
    "ada": {"agent": True, "up_to": "100"},
    "bert": {"agent": True, "up_to": "100"},
}


def approvals(**terms: Any) -> dict[str, Any]:
    return {"approvals": {"expires_after": "5d", **terms}}


def approve(coordinator: Coordinator, purchase: Purchase, approver: str) -> str | None:
    """The code with which it is refused, or the status that it has afterwards."""
    answer = coordinator.approve(purchase.approval_id or "", approver=approver)
    assert answer.done or answer.reason is not None
    return answer.reason.code.value if answer.reason else answer.purchase.status.value


def test_an_agent_that_may_approve_decides_others_purchases_and_never_its_own(
    opener: Opener, database: str
) -> None:
    coordinator = opener(approvals(approvers=AGENTS_APPROVE))
    own, others = (ask(coordinator.agent(name), "75.00") for name in ("ada", "bert"))
    before = contents(database)

    assert approve(coordinator, own, "ada") == "not_an_approver"
    refused = coordinator.reject(own.approval_id or "", approver="ada", reason="no need")

    assert not refused.done
    assert refused.reason and refused.reason.code == "not_an_approver"
    assert contents(database) == before
    assert approve(coordinator, others, "ada") == "approved"
    assert approve(coordinator, own, "bert") == "approved"
    assert_books_agree(database)


@pytest.mark.parametrize("decide", ["approve", "reject"])
def test_an_approver_decides_up_to_its_amount_and_not_above(
    opener: Opener, database: str, decide: str
) -> None:
    coordinator = opener(approvals(approvers=AGENTS_APPROVE))
    most, above = (ask(coordinator.agent("bert"), amount) for amount in ("100.00", "100.000001"))
    before = contents(database)

    def decided(purchase: Purchase, approver: str) -> bool:
        if decide == "approve":
            return coordinator.approve(purchase.approval_id or "", approver=approver).done
        return coordinator.reject(purchase.approval_id or "", approver=approver, reason="no").done

    assert not decided(above, "ada")
    assert contents(database) == before
    assert decided(most, "ada")
    assert decided(above, "alice")


def test_the_yes_of_somebody_who_is_no_approver_any_more_does_not_count(
    opener: Opener, database: str
) -> None:
    two = opener(approvals(required=2))
    purchase = ask(two.agent("ada"), "75.00")
    assert approve(two, purchase, "alice") == "awaiting_approval"

    without_alice = opener(approvals(required=2, approvers=["bob", "carol"]))

    assert approve(without_alice, purchase, "bob") == "awaiting_approval"
    assert rows(database, "SELECT count(*) FROM approval_decisions") == [(2,)]
    assert approve(without_alice, purchase, "carol") == "approved"


@pytest.mark.parametrize(
    ("asked_under", "in_force", "needed"),
    [
        ({"required": 1}, {"required": 2}, 2),
        ({"required": 3}, {"required": 1}, 3),
        ({"required": 1}, {"tiers": [{"above": "74.99", "required": 3}]}, 3),
        ({"required": 1}, {"tiers": [{"above": "75", "required": 3}]}, 1),
    ],
    ids=["raised", "lowered", "a tier above it", "a tier at it"],
)
def test_it_takes_as_many_as_were_told_or_as_the_policy_in_force_requires_if_more(
    opener: Opener,
    database: str,
    asked_under: dict[str, Any],
    in_force: dict[str, Any],
    needed: int,
) -> None:
    purchase = ask(opener(approvals(**asked_under)).agent("ada"), "75.00")
    coordinator = opener(approvals(**in_force))

    told = [approve(coordinator, purchase, name) for name in ("alice", "bob", "carol")[:needed]]

    assert told == ["awaiting_approval"] * (needed - 1) + ["approved"]
    assert counter(database, "organisation", "", "total") == (75 * USDC, 0)


ROLLING = {"agents": {"ada": {"rolling_24h_limit": "100"}}}


@pytest.mark.parametrize("later", [0, HOUR, 23 * HOUR], ids="{}s later".format)
def test_its_own_hold_in_a_rolling_window_does_not_refuse_it(
    opener: Opener, database: str, clock: Clock, later: int
) -> None:
    coordinator = opener({**ROLLING, **approvals()})
    purchase = ask(coordinator.agent("ada"), "75.00")
    clock.now += later

    assert approve(coordinator, purchase, "alice") == "approved"

    assert counter(database, "agent", "ada", "rolling_24h", NOON + later) == (75 * USDC, 0)
    assert_books_agree(database)


def test_what_others_hold_in_a_rolling_window_counts_when_its_own_hold_has_left_it(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener({**ROLLING, **approvals()})
    purchase = ask(coordinator.agent("ada"), "75.00")
    clock.now += 2 * DAY
    assert ask(coordinator.agent("ada"), "25.000001").status is Status.APPROVED
    before = contents(database)

    assert approve(coordinator, purchase, "alice") == "rolling_limit"

    assert contents(database) == before
    clock.now += 2 * DAY
    assert approve(coordinator, purchase, "alice") == "approved"
    assert_books_agree(database)
