"""People are told when an approval is about to expire, has expired, and was decided."""

from __future__ import annotations

from typing import Any

from coordinator import Coordinator
from coordinator.alerts.delivery import Delivery
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.times import rfc3339
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, NOON, Clock, ask
from tests.integration.ledger.receiver import delivered, receiving
from tests.integration.stores import on_both


def told(coordinator: Coordinator, kind: str) -> list[dict[str, Any]]:
    return [kept.as_dict() for kept in coordinator.wiring.notices.list(kind=kind)]


def fields_of(purchase: Purchase) -> dict[str, str]:
    return {
        "approval_id": purchase.approval_id or "",
        "purchase_id": purchase.id,
        "agent": "ada",
        "provider": "paper-api",
        "amount": "75.00",
        "expires_at": rfc3339(NOON + HOUR) or "",
    }


@on_both
def test_an_approval_in_the_last_quarter_of_its_time_is_told_once(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener()
    book = coordinator.wiring.approvals
    purchase = ask(coordinator.agent("ada"), "75.00")
    decided = ask(coordinator.agent("ada"), "76.00")
    assert coordinator.reject(decided.approval_id or "", approver="alice", reason="no").done
    clock.now = NOON + HOUR * 3 // 4 - 1
    book.tell_expiring(clock.now)
    assert told(coordinator, "approval_expires_soon") == []

    for _ in range(2):
        clock.now += 1
        book.tell_expiring(clock.now)

    (notice,) = told(coordinator, "approval_expires_soon")
    assert notice["fields"] == fields_of(purchase)
    assert "75.00 USDC" in notice["message"]


@on_both
def test_an_expired_approval_is_told_with_its_ids_and_amount(opener: Opener, clock: Clock) -> None:
    coordinator = opener()
    purchase = ask(coordinator.agent("ada"), "75.00")
    clock.now += HOUR

    for _ in range(2):
        coordinator.wiring.approvals.expire_due(clock.now)

    (notice,) = told(coordinator, "approval_expired")
    assert notice["fields"] == fields_of(purchase)
    coordinator.wiring.approvals.tell_expiring(clock.now)
    assert told(coordinator, "approval_expires_soon") == []


@on_both
def test_what_people_decided_is_told_when_the_last_one_needed_has(opener: Opener) -> None:
    coordinator = opener({"approvals": {"required": 2}})
    first, second = (ask(coordinator.agent("ada"), "75.00") for _ in range(2))
    assert coordinator.approve(first.approval_id or "", approver="alice").done
    assert told(coordinator, "approval_decided") == []

    assert coordinator.approve(first.approval_id or "", approver="bob").done
    assert coordinator.reject(second.approval_id or "", approver="carol", reason="no").done

    rejected, approved = told(coordinator, "approval_decided")
    assert approved["fields"] == fields_of(first) | {
        "decision": "approved",
        "approvers": "alice, bob",
    }
    assert rejected["fields"] == fields_of(second) | {"decision": "rejected", "approvers": "carol"}


def test_a_webhook_gets_the_fields_beside_the_message(opener: Opener, clock: Clock) -> None:
    coordinator = opener()
    purchase = ask(coordinator.agent("ada"), "75.00")
    assert coordinator.reject(purchase.approval_id or "", approver="alice", reason="no").done
    with receiving() as receiver:
        targets = [("json://127.0.0.1", receiver.url)]
        delivery = Delivery(coordinator.wiring.notices, lambda: targets, clock)
        assert delivered(delivery)
        delivery.stop()

    (said,) = [one for one in receiver.taken if "rejected by" in one["message"]]
    assert said["purchase_id"] == purchase.id
    assert said["amount"] == "75.00"
    # What the notice before or after it had is not in it.
    (waits,) = [one for one in receiver.taken if "approvals needed" in one["message"]]
    assert "decision" not in waits
