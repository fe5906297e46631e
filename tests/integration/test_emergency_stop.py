"""A pause takes effect in every process: nothing new is admitted or signed, all else goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator import InvalidRequest, Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both
from tests.integration.world import AGENT, World

pytestmark = on_both

SCOPES = pytest.mark.parametrize(
    ("scope", "code"),
    [
        ({}, "paused"),
        ({"agent": AGENT}, "agent_paused"),
        ({"pool": "readers"}, "pool_paused"),
        ({"provider": "paper-api"}, "provider_paused"),
    ],
    ids=["everything", "agent", "pool", "provider"],
)
Scope = dict[str, Any]


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world()
    pools = {"readers": {"agents": [AGENT]}, "others": {"agents": ["data-agent"]}}
    world.apply(Policy.from_dict({**world.policy.document(), "pools": pools}))
    return world


def pause(world: World, scope: Scope) -> None:
    """Pause in another process: one that only shares the database."""
    other = world.open()
    assert other.pause("something is wrong", by="olga", **scope)
    other.close()


def unpause(world: World, scope: Scope) -> None:
    assert not world.coordinator.unpause("it was me", by=AGENT, **scope)
    assert world.coordinator.unpause("looked at it", by="alice", **scope)


@SCOPES
def test_a_pause_denies_in_every_process_until_an_approver_unpauses(
    world: World, scope: Scope, code: str
) -> None:
    pause(world, scope)
    denied = world.buy()
    assert denied.reason is not None and denied.reason.code == code
    assert world.usage() == (ZERO, ZERO)
    unpause(world, scope)
    assert world.fund().status == "funded"


@SCOPES
def test_what_was_approved_before_a_pause_is_not_signed(
    world: World, scope: Scope, code: str
) -> None:
    asked = world.buy()
    pause(world, scope)
    world.round()
    world.round()
    assert (world.status(asked), world.in_flight()) == ("approved", [])
    unpause(world, scope)
    world.go()
    assert world.status(asked) == "funded"


@SCOPES
@pytest.mark.parametrize(
    "point", [KillPoint.BEFORE_ALLOCATE, KillPoint.STEPS_ALLOCATED, KillPoint.ATTEMPTS_SIGNED]
)
def test_a_pause_between_plan_and_stored_bytes_keeps_create_and_link_unsent(
    world: World, scope: Scope, code: str, point: KillPoint
) -> None:
    world.fund("1.00", agent="data-agent", provider="other-api")  # the allowance stands
    asked = world.buy()
    world.at(point, lambda: pause(world, scope))
    world.round()
    kinds = world.rows(
        "SELECT kind FROM steps JOIN attempts ON step_id = steps.id WHERE purchase_id = ?", asked.id
    )
    assert kinds == []
    for _ in range(3):
        world.chain.mine()
        world.round()
    # The nonces that were given out are used by nothing: others go on.
    assert world.status(asked) == "approved"
    assert world.chain.nonce(world.treasury) == len(world.rows("SELECT id FROM steps"))
    unpause(world, scope)
    world.go()
    assert world.status(asked) == "funded"
    world.check_books()


@SCOPES
def test_what_is_created_and_not_funded_is_cancelled_and_what_is_sent_is_followed(
    world: World, scope: Scope, code: str
) -> None:
    sent = world.buy_and_send("10.00")
    created = world.buy_and_send("11.00")
    link = world.hold_back(lambda s: s.kind is StepKind.LINK and s.call.purchase_id == created.id)
    world.chain.mine()
    pause(world, scope)
    world.round()
    world.send_bytes(link)
    world.go()
    # Its bytes were out already: they are followed to the end.
    assert world.status(sent) == world.status(created) == "funded"
    assert world.wiring.steps.in_flight() == []
    world.check_books()


def test_an_escrow_whose_link_was_displaced_is_cancelled_while_paused(world: World) -> None:
    asked = world.buy_and_send()
    (link,) = world.hold_back(lambda step: step.kind is StepKind.LINK)
    world.chain.mine()
    world.send_as_treasury(world.chain.stranger, "0x", nonce=hex(link.nonce), gas=hex(30_000))
    world.chain.mine()
    world.go()
    cancelled = world.get(asked)
    assert cancelled.reason is not None and cancelled.reason.code == "paused"
    assert world.chain.state(cancelled.escrow_id) is EscrowState.CANCELLED
    assert world.hold(cancelled) == ("voided", ZERO)
    world.check_books()


def test_settling_reclaiming_and_disputing_go_on_while_everything_is_paused(
    world: World,
) -> None:
    chain = world.chain
    settled, disputed, reclaimed = (world.fund(amount) for amount in ("5.00", "6.00", "7.00"))
    for purchase in (settled, disputed):
        chain.deliver(purchase.escrow_id)
    world.go()
    pause(world, {})
    assert world.coordinator.settle(settled.id, approver="alice").done
    assert world.coordinator.dispute(disputed.id, approver="alice", reason="empty").done
    world.go()
    assert (world.status(settled), world.status(disputed)) == ("settled", "disputed")
    assert reclaimed.deadline is not None
    world.pass_time_until(reclaimed.deadline)
    world.go()
    assert world.status(reclaimed) == "cancelled"
    world.check_books()


def test_a_paused_provider_is_paid_only_when_the_window_is_over(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settle="on_delivery")
    ordered, planned = world.fund("5.00"), world.fund("6.00")
    pause(world, {"provider": "paper-api"})
    for purchase in (ordered, planned):
        world.chain.deliver(purchase.escrow_id)
    world.round()
    refused = world.coordinator.settle(ordered.id, approver="alice")
    assert refused.reason is not None and refused.reason.code == "provider_paused"
    world.go()
    assert world.status(ordered) == world.status(planned) == "delivered"
    ends = world.get(ordered).window_ends
    assert ends is not None
    world.pass_time_until(ends + 1)
    world.go()
    assert world.status(ordered) == world.status(planned) == "settled"
    world.check_books()


@pytest.mark.parametrize("point", [KillPoint.BEFORE_ALLOCATE, KillPoint.ATTEMPTS_SIGNED])
def test_a_provider_paused_while_an_early_settlement_is_signed_is_not_paid(
    world: World, point: KillPoint
) -> None:
    purchase = world.to_settle()
    world.at(point, lambda: pause(world, {"provider": "paper-api"}))
    world.round()
    world.go()
    assert world.status(purchase) == "delivered"
    assert world.chain.state(purchase.escrow_id) is EscrowState.DELIVERED
    unpause(world, {"provider": "paper-api"})
    world.go()
    assert world.status(purchase) == "settled"
    world.check_books()


def test_a_paused_providers_settlement_goes_by_the_chains_time_and_holds_nobody_up(
    world: World,
) -> None:
    """The machine's clock is behind: by it the window is still open."""
    purchase = world.fund("5.00")
    world.chain.deliver(purchase.escrow_id)
    world.go()
    pause(world, {"provider": "paper-api"})
    ends = world.get(purchase).window_ends
    assert ends is not None and ends > world.clock()
    world.chain.pass_time(ends + 1 - world.chain.time)
    other = world.buy("6.00", agent="data-agent", provider="other-api")
    world.go()
    assert world.status(other) == "funded"
    assert world.status(purchase) == "settled"
    world.check_books()


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_provider_paused_after_the_plan_holds_no_other_purchase_up(
    world: World, first: bool
) -> None:
    world.fund("1.00", agent="data-agent", provider="other-api")  # the allowance stands
    stopped = world.buy("5.00") if first else None
    other = world.buy("6.00", agent="data-agent", provider="other-api")
    stopped = stopped or world.buy("5.00")
    world.at(KillPoint.BEFORE_ALLOCATE, lambda: pause(world, {"provider": "paper-api"}))
    world.round()
    if first:
        # Its escrow's id was predicted behind the one that is not created.
        assert world.in_flight() == []
        world.round()
    assert {step.call.purchase_id for step in world.in_flight()} == {other.id}
    world.chain.mine()
    world.round()
    assert (world.status(stopped), world.status(other)) == ("approved", "funded")
    steps = [(s.kind.value, s.status.value) for s in world.steps_of(other)]
    assert steps == [("create", "mined"), ("link", "mined")]
    world.check_books()


def test_a_dispute_after_the_plan_leaves_the_settlement_out_and_nothing_else(world: World) -> None:
    contested = world.to_settle()
    other = world.buy("6.00", agent="data-agent", provider="other-api")

    def contest() -> None:
        other_process = world.open()
        told = other_process.dispute(contested.id, approver="alice", reason="empty")
        assert told.done
        other_process.close()

    world.at(KillPoint.BEFORE_ALLOCATE, contest)
    world.round()
    assert {step.call.purchase_id for step in world.in_flight()} == {other.id}
    world.go()
    assert (world.status(contested), world.status(other)) == ("disputed", "funded")
    world.check_books()


def test_no_allowance_is_signed_for_what_was_paused_after_the_plan(world: World) -> None:
    asked = world.buy()
    world.at(KillPoint.BEFORE_ALLOCATE, lambda: pause(world, {}))
    world.round()
    assert world.rows("SELECT count(*) FROM steps") == [(0,)]
    unpause(world, {})
    world.go()
    assert world.status(asked) == "funded"


def test_a_drift_above_the_threshold_pauses_by_itself(world: World) -> None:
    world.fund()
    world.chain.set_balance(world.treasury, Usdc("970"))
    world.executor._drift.looked_at = None
    world.round()
    (paused,) = world.wiring.operations.pauses()
    assert "the journal differ by 5.00 USDC" in paused.reason
    (found,) = world.coordinator.reconcile().discrepancies
    world.wiring.operations.explain(
        found.id, by="alice", reason="seen by the bank", now=world.clock()
    )
    world.unpause()
    world.executor._drift.looked_at = None
    world.round()
    assert world.wiring.operations.pauses() == []


def test_a_drift_below_the_threshold_is_left_to_reconciling(world: World) -> None:
    world.fund()
    world.chain.set_balance(world.treasury, Usdc("975.50"))
    world.executor._drift.looked_at = None
    world.round()
    assert world.wiring.operations.pauses() == []
    assert world.discrepancies() == [("balance_differs", "0.50")]


@pytest.mark.parametrize(
    "scope", [{"pool": "nobody"}, {"agent": "nobody"}, {"provider": "nobody"}], ids=str
)
def test_what_the_policy_does_not_know_can_not_be_paused(world: World, scope: Scope) -> None:
    with pytest.raises(InvalidRequest, match=f"not an? {next(iter(scope))} of the policy"):
        world.coordinator.pause("a typo", by="olga", **scope)
    assert world.wiring.operations.pauses() == []
