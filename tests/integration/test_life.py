"""The life of a purchase on a real chain, and what the books say after each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.world import AGENT, World

pytestmark = [on_either, on_both_payers]

HOUR = 3600
DAY = 24 * HOUR
OPENED = [("opening", "0.00"), ("deposit", "1000.00")]


def test_create_and_link_are_mined_in_one_block(world: World) -> None:
    purchase = world.fund("25.00")
    created, linked = purchase.transactions
    assert (created.step, linked.step) == ("create", "link")
    assert created.block == linked.block == int(world.chain.receipt(linked.hash)["blockNumber"], 16)
    assert world.chain.state(purchase.escrow_id) is EscrowState.FUNDED
    assert world.chain.remaining(purchase.escrow_key) == Usdc("25")
    assert world.chain.balance(world.treasury) == Usdc("975")
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("25"), ZERO)
    assert world.moves() == [*OPENED, ("fund", "25.00")]
    world.check_books()


def test_twenty_purchases_at_once_are_funded_in_one_block(world: World) -> None:
    with ThreadPoolExecutor(20) as threads:
        asked = list(threads.map(lambda n: world.buy("5.00", task=f"t{n}"), range(20)))
    world.round()
    world.chain.mine()
    world.round()
    purchases = [world.get(p) for p in asked]
    assert [p.status for p in purchases] == ["funded"] * 20
    assert {t.block for p in purchases for t in p.transactions} == {world.chain.height}
    assert len({p.escrow_id for p in purchases}) == 20
    assert world.chain.balance(world.treasury) == Usdc("900")
    assert world.chain.balance(world.chain.deployment.vault) == Usdc("100")
    world.check_books()


def test_a_delivered_purchase_is_settled_after_the_window_that_the_provider_stored(
    world: World,
) -> None:
    chain, purchase = world.chain, world.fund("25.00")
    chain.start(purchase.escrow_id)
    world.go()
    assert world.status(purchase) == "started"
    chain.deliver(purchase.escrow_id, window_seconds=2 * HOUR)
    world.go()
    delivered = world.get(purchase)
    assert delivered.status == "delivered"
    # The policy gave 48 hours at creation; the provider's word replaced it.
    assert delivered.window_ends == chain.window_ends(purchase.escrow_id) <= chain.time + 2 * HOUR
    world.pass_time_until(delivered.window_ends)
    world.go()
    assert world.status(purchase) == "delivered"
    world.pass_time(1)
    world.go()
    settled = world.get(purchase)
    assert settled.status == "settled"
    assert chain.state(purchase.escrow_id) is EscrowState.SETTLED
    assert (settled.provider_received, settled.platform_fee) == (Usdc("24.75"), Usdc("0.25"))
    assert chain.balance(chain.provider) == Usdc("24.75")
    assert chain.balance(chain.fee_recipient) + chain.balance(chain.archive) == Usdc("0.25")
    assert world.hold(purchase) == ("posted", Usdc("25"))
    assert world.usage() == world.usage("agent", AGENT) == (ZERO, Usdc("25"))
    assert world.moves(purchase) == [
        ("fund", "25.00"),
        ("payout", "24.75"),
        ("fee", "0.00025"),
        ("fee", "0.24975"),
    ]
    world.check_books()


def test_without_a_window_of_its_own_a_delivery_stays_open_for_two_days(world: World) -> None:
    purchase = world.fund()
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.get(purchase).window_ends == world.chain.time + 2 * DAY
    world.pass_time(2 * DAY - 60)
    world.go()
    assert world.status(purchase) == "delivered"
    world.pass_time(61)
    world.go()
    assert world.status(purchase) == "settled"


def test_on_delivery_is_settled_at_once_up_to_the_threshold_only(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settle="on_delivery")
    small, large = world.buy("50.00"), world.buy("50.01")
    assert (small.status, large.status) == ("approved", "awaiting_approval")
    assert large.approval_id is not None
    assert world.coordinator.approve(large.approval_id, approver="alice").done
    world.go()
    for purchase in (small, large):
        world.chain.deliver(world.get(purchase).escrow_id, window_seconds=HOUR)
    world.go()
    assert (world.status(small), world.status(large)) == ("settled", "delivered")
    world.pass_time(HOUR + 1)
    world.go()
    assert world.status(large) == "settled"
    assert world.usage() == (ZERO, Usdc("100.01"))
    world.check_books()


def test_manual_is_settled_only_when_somebody_says_so(make_world: Callable[..., World]) -> None:
    world = make_world(settle="manual")
    by_agent, by_approver = world.buy("50.00"), world.buy("60.00")
    assert by_approver.approval_id is not None
    world.coordinator.approve(by_approver.approval_id, approver="bob")
    world.go()
    for purchase in (by_agent, by_approver):
        world.chain.deliver(world.get(purchase).escrow_id, window_seconds=HOUR)
    world.pass_time(DAY)
    world.go()
    assert (world.status(by_agent), world.status(by_approver)) == ("delivered", "delivered")
    agent = world.coordinator.agent(AGENT)
    refused = agent.settle(by_approver.id)
    assert not refused.done and refused.reason and refused.reason.code == "approval_required"
    assert agent.settle(by_agent.id).done
    world.go()
    assert (world.status(by_agent), world.status(by_approver)) == ("settled", "delivered")
    assert world.coordinator.settle(by_approver.id, approver="alice").done
    world.go()
    assert world.status(by_approver) == "settled"
    world.check_books()


@pytest.mark.parametrize("started", [False, True])
def test_a_provider_that_cancels_gives_everything_back(world: World, started: bool) -> None:
    chain, purchase = world.chain, world.fund("25.00")
    if started:
        chain.start(purchase.escrow_id)
        world.go()
    chain.move(chain.provider, purchase.escrow_id, EscrowState.CANCELLED)
    world.go()
    cancelled = world.get(purchase)
    assert (cancelled.status, cancelled.refunded, cancelled.spent) == (
        "cancelled",
        Usdc("25"),
        ZERO,
    )
    assert chain.balance(world.treasury) == Usdc("1000")
    assert world.hold(purchase) == ("voided", ZERO)
    world.check_nothing_spent()
    assert world.moves(purchase) == [("fund", "25.00"), ("refund", "25.00")]
    world.check_books()


def test_a_funded_escrow_is_reclaimed_at_its_deadline_and_the_penalty_is_spent(
    world: World,
) -> None:
    chain, purchase = world.chain, world.fund("25.00")
    assert purchase.deadline is not None
    world.pass_time_until(purchase.deadline - 1)
    world.go()
    assert world.status(purchase) == "funded"
    world.pass_time_until(purchase.deadline)
    world.go()
    reclaimed = world.get(purchase)
    assert reclaimed.status == "cancelled"
    assert chain.state(purchase.escrow_id) is EscrowState.CANCELLED
    assert reclaimed.transactions[-1].step == "reclaim"
    # 5 % of 25, of which the kernel's least fee is taken.
    assert reclaimed.refunded == Usdc("23.75")
    assert (reclaimed.penalty, reclaimed.platform_fee) == (Usdc("1.20"), Usdc("0.05"))
    assert reclaimed.spent == Usdc("1.25")
    assert chain.balance(world.treasury) == Usdc("998.75")
    assert chain.balance(chain.provider) == Usdc("1.20")
    assert world.hold(purchase) == ("posted", Usdc("1.25"))
    assert world.usage() == world.usage("agent", AGENT) == (ZERO, Usdc("1.25"))
    assert world.moves(purchase) == [
        ("fund", "25.00"),
        ("refund", "23.75"),
        ("penalty", "1.20"),
        ("fee", "0.00005"),
        ("fee", "0.04995"),
    ]
    world.check_books()


def test_the_smallest_purchase_can_be_reclaimed(world: World) -> None:
    purchase = world.fund("1.00")
    assert purchase.deadline is not None
    world.pass_time_until(purchase.deadline)
    world.go()
    assert world.status(purchase) == "cancelled"
    # The whole penalty is the fee: the provider gets nothing.
    assert world.get(purchase).spent == Usdc("0.05")
    assert world.chain.balance(world.chain.provider) == ZERO
    world.check_books()


@on_wallet
def test_a_provider_that_quotes_before_the_link_is_funded_all_the_same(world: World) -> None:
    purchase = world.buy_and_send()
    link = world.hold_back(lambda step: step.kind is StepKind.LINK)
    world.chain.mine()
    world.round()
    created = world.get(purchase)
    assert (created.status, created.rail_state) == ("created", "created")
    world.chain.move(world.chain.provider, created.escrow_id, EscrowState.QUOTED)
    world.round()
    assert world.get(purchase).rail_state == "quoted"
    world.send_bytes(link)
    world.go()
    assert world.status(purchase) == "funded"
    assert world.chain.state(created.escrow_id) is EscrowState.FUNDED
    world.check_books()


def test_a_provider_silent_past_the_deadline_is_reported_as_stranded(world: World) -> None:
    chain, purchase = world.chain, world.fund()
    chain.start(purchase.escrow_id)
    world.go()
    assert purchase.deadline is not None
    world.pass_time_until(purchase.deadline + 1)
    world.go()
    stuck = world.get(purchase)
    assert stuck.status == "started"
    assert stuck.stranded is not None and "only the provider can free it" in stuck.stranded.message
    world.round()
    told = world.rows("SELECT count(*) FROM audit WHERE event = 'purchase_stranded'")
    assert told == [(1,)], "told once, however often it is looked at"
    (reported,) = world.coordinator.report().as_dict()["stranded"]
    assert (reported["purchase_id"], reported["amount"]) == (purchase.id, "25.00")
    assert world.usage() == (Usdc("25"), ZERO)
    world.check_books()
    chain.move(chain.provider, purchase.escrow_id, EscrowState.CANCELLED)
    world.go()
    freed = world.get(purchase)
    assert (freed.status, freed.stranded) == ("cancelled", None)
    assert world.coordinator.report().as_dict()["stranded"] == []
    world.check_nothing_spent()
    world.check_books()


@on_wallet
def test_the_allowance_is_bounded_and_topped_up_in_the_same_lane(
    make_world: Callable[..., World],
) -> None:
    world = make_world(allowance_limit="60")
    first = world.buy("25.00")
    world.round()
    more = [world.buy("25.00") for _ in range(2)]
    world.round()
    kinds = [step.kind.value for step in world.in_flight()]
    # 60 - 25 leaves too little for 50: a second approval stands before their links.
    assert kinds == ["approve", "create", "link", "approve", "create", "link", "create", "link"]
    world.go()
    assert [world.status(p) for p in (first, *more)] == ["funded"] * 3
    assert world.approvals_sent() == ["60.00", "60.00"]
    assert world.chain.allowance(world.treasury) == Usdc("10")
    blocks = {t.block for p in (first, *more) for t in world.get(p).transactions}
    assert len(blocks) == 1
    world.check_books()


@on_wallet
def test_the_allowance_exceeds_its_limit_only_by_what_is_bought(
    make_world: Callable[..., World],
) -> None:
    world = make_world(allowance_limit="10")
    asked = [world.buy("25.00") for _ in range(3)]
    world.go()
    assert [world.status(p) for p in asked] == ["funded"] * 3
    assert world.approvals_sent() == ["75.00"]
    assert world.chain.allowance(world.treasury) == ZERO
    world.check_books()


@on_wallet
def test_an_allowance_that_suffices_is_left_alone(make_world: Callable[..., World]) -> None:
    world = make_world(allowance_limit="100")
    for _ in range(4):
        world.fund("25.00")
    assert world.approvals_sent() == ["100.00"]
    assert world.chain.allowance(world.treasury) == ZERO
    world.check_books()
