"""What people and other processes do in the worst moment never moves USDC twice or unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import Step, StepKind
from coordinator.domain.errors import LeaseLost
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import ZERO
from tests.integration.bad_endpoint import BadEndpoint, while_planning
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either

HOUR = 3600
OUT_OF_TIME = Reason(ReasonCode.EXPIRED, "no escrow could be created in time")


class Killed(BaseException):
    """The end of a process, as far as a test goes without one."""


def is_link(step: Step) -> bool:
    return step.kind is StepKind.LINK


def check_next_is_funded(world: World) -> None:
    purchase = world.fund("10.00")
    assert world.chain.state(purchase.escrow_id) is EscrowState.FUNDED
    world.check_books()


def miss_the_link(world: World, purchase: Purchase) -> None:
    """The purchase's escrow is created; its link's nonce is taken by something else."""
    world.round()
    (link,) = world.hold_back(is_link)
    world.chain.mine()
    chain = world.chain
    world.send_as_treasury(chain.stranger, "0x", nonce=hex(link.nonce), gas=hex(30_000))
    chain.mine()
    assert chain.state(world.steps_of(purchase)[0].call.escrow_id) is (EscrowState.CREATED)


# Between a plan and its nonces.


def test_a_purchase_cancelled_after_it_was_planned_is_never_signed(world: World) -> None:
    purchase = world.buy("25.00")
    answers: list[Answer] = []
    world.at(
        KillPoint.BEFORE_ALLOCATE,
        lambda: answers.append(world.coordinator.cancel(purchase.id, by=AGENT)),
    )
    world.round()
    assert [answer.done for answer in answers] == [True]
    assert (world.in_flight(), world.chain.pool(world.treasury)) == ([], [])
    world.chain.mine()
    world.go()
    assert world.status(purchase) == "cancelled"
    assert world.hold(purchase) == ("voided", ZERO)
    assert world.chain.remaining(purchase.escrow_key) == ZERO
    world.check_nothing_spent()
    check_next_is_funded(world)


@pytest.mark.parametrize("scope", [{}, {"agent": AGENT}, {"provider": "paper-api"}])
def test_a_purchase_paused_after_it_was_planned_waits_unsigned(
    world: World, scope: dict[str, str]
) -> None:
    purchase = world.buy("25.00")
    world.at(KillPoint.BEFORE_ALLOCATE, lambda: world.coordinator.pause("why", by="alice", **scope))
    world.round()
    world.chain.mine()
    world.round()
    assert (world.status(purchase), world.in_flight()) == ("approved", [])
    assert world.hold(purchase) == ("held", ZERO)
    assert world.chain.remaining(purchase.escrow_key) == ZERO
    assert world.coordinator.unpause("seen", by="alice", **scope)
    world.go()
    assert world.status(purchase) == "funded"
    world.check_books()


def test_a_cancel_accepted_before_the_next_link_is_never_followed_by_funding(world: World) -> None:
    purchase = world.buy("25.00")
    miss_the_link(world, purchase)
    answers: list[Answer] = []
    world.at(
        KillPoint.BEFORE_ALLOCATE,
        lambda: answers.append(world.coordinator.cancel(purchase.id, by=AGENT)),
    )
    world.go()
    assert [answer.done for answer in answers] == [True]
    cancelled = world.get(purchase)
    assert cancelled.status == "cancelled"
    assert world.chain.state(cancelled.escrow_id) is EscrowState.CANCELLED
    assert world.chain.remaining(cancelled.escrow_key) == ZERO
    assert world.hold(cancelled) == ("voided", ZERO)
    world.check_nothing_spent()
    world.unpause()
    check_next_is_funded(world)


def test_a_dispute_accepted_after_the_settle_was_planned_comes_before_it(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settle="on_delivery")
    purchase = world.fund("25.00")
    world.chain.deliver(purchase.escrow_id)
    answers: list[Answer] = []
    world.at(
        KillPoint.BEFORE_ALLOCATE,
        lambda: answers.append(
            world.coordinator.dispute(purchase.id, approver="alice", reason="it is empty")
        ),
    )
    world.round()
    assert [answer.done for answer in answers] == [True]
    assert world.in_flight() == []
    world.go()
    assert world.status(purchase) == "disputed"
    assert world.chain.remaining(purchase.escrow_key) == Usdc("25")
    world.check_books()


# Failing.


def test_an_executor_that_lost_its_lease_fails_no_purchase_of_its_successor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    successor = world.open().wiring.executor
    delivered = world.to_settle()
    purchase = world.buy("25.00")

    def a_long_wait_for_an_answer() -> None:
        world.edit("UPDATE leases SET expires_at_ms = 0")
        assert successor.run_once()
        world.pass_time(HOUR + 1)

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, while_planning(a_long_wait_for_an_answer))
    with pytest.raises(LeaseLost):
        world.round()
    endpoint.heal()
    assert world.status(purchase) == "approved"
    assert world.hold(purchase) == ("held", ZERO)
    for _ in range(2):
        assert successor.run_once()
        world.chain.mine()
    assert world.status(purchase) == "funded"
    assert world.chain.remaining(purchase.escrow_key) == Usdc("25")
    assert world.status(delivered) == "settled"
    assert world.usage() == (Usdc("25"), Usdc("5"))


def test_no_lease_but_the_present_one_can_fail_a_purchase(world: World) -> None:
    purchase, leases = world.buy("25.00"), world.wiring.leases
    stale = leases.acquire("first", seconds=10)
    assert stale is not None
    leases.release(stale)
    present = leases.acquire("second", seconds=10)
    assert present is not None
    fail = world.wiring.purchases.fail
    terms: dict[str, Any] = {"signer": world.treasury, "used": 0, "now": world.clock()}
    with pytest.raises(LeaseLost):
        fail(stale, purchase.id, Status.FAILED, OUT_OF_TIME, **terms)
    assert (world.status(purchase), world.hold(purchase)) == ("approved", ("held", ZERO))
    assert fail(present, purchase.id, Status.FAILED, OUT_OF_TIME, **terms)
    assert (world.status(purchase), world.hold(purchase)) == ("failed", ("voided", ZERO))


def test_a_purchase_with_steps_in_flight_does_not_fail(world: World) -> None:
    purchase = world.buy_and_send("25.00")
    world.executor.stop()
    lease = world.wiring.leases.acquire("another", seconds=10)
    assert lease is not None
    failed = world.wiring.purchases.fail(
        lease,
        purchase.id,
        Status.FAILED,
        OUT_OF_TIME,
        signer=world.treasury,
        used=0,
        now=world.clock(),
    )
    assert (failed, world.status(purchase)) == (False, "approved")
    assert world.hold(purchase) == ("held", ZERO)
    world.wiring.leases.release(lease)
    world.go()
    assert world.status(purchase) == "funded"
    world.check_books()


def test_a_cancel_that_comes_before_the_executors_fail_does_not_stop_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = world.to_settle()
    purchase = world.buy("25.00")
    world.chain.set_balance(world.treasury, Usdc("1"))
    answers: list[Answer] = []
    BadEndpoint(
        world.wiring.rpc,
        monkeypatch,
        while_planning(
            lambda: answers.append(world.coordinator.cancel(purchase.id, by=AGENT)),
        ),
    )
    world.round()
    assert [answer.done for answer in answers] == [True]
    assert world.status(purchase) == "cancelled"
    assert world.hold(purchase) == ("voided", ZERO)
    world.chain.set_balance(world.treasury, Usdc("995"))
    world.go()
    assert world.status(delivered) == "settled"
    check_next_is_funded(world)


# Approvals.


def test_an_approval_is_refused_once_the_providers_name_has_another_address(world: World) -> None:
    purchase = world.buy("60.00")
    assert purchase.needs_approval and purchase.approval_id is not None
    world.apply(world.make_policy(settle="after_window", provider=world.chain.payee))
    answer = world.coordinator.approve(purchase.approval_id, approver="alice")
    assert not answer.done and answer.reason is not None
    assert answer.reason.code == "provider_not_allowed"
    world.go()
    assert world.chain.kernel("requesterNonces", world.treasury) == 0
    assert world.status(purchase) == "awaiting_approval"
    world.check_books()


# Withdrawals.


def order(world: World) -> str:
    """The id of a withdrawal of 10 USDC that waits in the pool."""
    treasury, payee = world.wiring.treasury, world.chain.payee
    made = treasury.withdraw(to=payee, amount="10", approver="alice", reason="a test")
    world.round()
    return str(made.id)


def orders(world: World) -> list[tuple[str, str | None]]:
    return [(order.status, order.message) for order in world.wiring.operations.orders()]


def test_a_withdrawal_is_done_as_soon_as_its_receipt_is_stored(world: World) -> None:
    order(world)
    world.chain.mine()

    def die() -> None:
        raise Killed

    world.at(KillPoint.RECEIPTS_STORED, die)
    with pytest.raises(Killed):
        world.round()
    assert orders(world) == [("done", None)]
    world.restart()
    world.go()
    assert orders(world) == [("done", None)]
    assert world.chain.balance(world.chain.payee) == Usdc("10")
    world.check_books()


def test_a_withdrawal_whose_nonce_another_transaction_took_is_failed(world: World) -> None:
    order(world)
    (step,) = world.hold_back(lambda step: step.kind is StepKind.WITHDRAW)
    chain = world.chain
    world.send_as_treasury(chain.stranger, "0x", nonce=hex(step.nonce), gas=hex(30_000))
    chain.mine()
    world.go()
    assert orders(world) == [("failed", "another transaction took its nonce")]
    assert chain.balance(chain.payee) == ZERO
    world.check_books()


# A database that was restored.


@pytest.mark.parametrize("stored", ["awaiting_approval", "cancelled"])
def test_a_restored_database_follows_the_chain_holds_again_and_pauses(
    world: World, stored: str
) -> None:
    purchase = world.buy("60.00")
    backup = world.store.copy(world.database, "backup")
    assert purchase.approval_id is not None
    world.coordinator.approve(purchase.approval_id, approver="alice")
    world.go()
    assert world.status(purchase) == "funded"
    world.database = backup
    world.change_host()
    world.restart(world.database)
    if stored == "cancelled":
        assert world.coordinator.cancel(purchase.id, by=AGENT).done
        assert world.hold(purchase) == ("voided", ZERO)
    assert world.status(purchase) == stored
    world.go()
    assert world.status(purchase) == "funded"
    assert world.hold(purchase) == ("held", ZERO)
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("60"), ZERO)
    (pause,) = world.wiring.operations.pauses()
    assert (str(pause), pause.by) == ("organisation", "executor")
    assert purchase.id in pause.reason
    assert world.buy("1.00").status == "denied"
    world.chain.deliver(world.get(purchase).escrow_id)
    world.go()
    assert world.status(purchase) == "delivered"
    assert world.coordinator.unpause("seen", by="alice")
    check_next_is_funded(world)
