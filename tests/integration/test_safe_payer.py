"""The payer `safe` on a real chain: purchases through a role, each batch whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account

from coordinator.chain.safe.limits import X402Limits
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import ZERO, Usdc
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World
from tests.integration.x402.filling import Filled

pytestmark = on_either


def test_a_purchase_is_funded_through_the_role_and_reconciled(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    chain, nonce = world.chain, world.chain.nonce(world.signer)
    purchase = world.fund("25.00")
    assert chain.nonce(world.signer) == nonce + 1
    created, linked = purchase.transactions
    assert (created.step, linked.step) == ("create", "link")
    assert created.hash == linked.hash
    assert chain.state(purchase.escrow_id) is EscrowState.FUNDED
    assert chain.balance(world.treasury) == Usdc("975")
    assert chain.allowance(world.treasury) == ZERO
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("25"), ZERO)
    world.check_books()


def test_purchases_that_wait_share_a_transaction(make_safe_world: Callable[..., World]) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(30)]
    world.round()
    assert [step.kind for step in world.in_flight()] == [StepKind.BATCH, StepKind.BATCH]
    world.chain.mine()
    world.round()
    purchases = [world.get(one) for one in asked]
    assert {p.status for p in purchases} == {"funded"}
    assert {t.block for p in purchases for t in p.transactions} == {world.chain.height}
    assert world.chain.balance(world.treasury) == Usdc("850")
    world.check_books()


def test_what_the_chain_s_limit_does_not_leave_fails_before_anything_is_sent(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world({"purchase_max": Usdc("100"), "daily": Usdc("720")})
    asked = [world.buy("40.00", agent=agent) for agent in (AGENT, "data-agent") for _ in range(4)]
    world.go()
    ends = [world.get(one) for one in asked]
    assert [p.status for p in ends] == ["funded"] * 6 + ["failed"] * 2
    reason = ends[-1].reason
    assert reason is not None and reason.code == "chain_limit"
    assert reason.message.startswith("the limit on the chain leaves 0.00 USDC, and more comes back")
    assert world.hold(ends[-1]) == ("voided", ZERO)
    nonce = world.chain.nonce(world.signer)
    world.pass_time(3601)
    world.go()
    assert world.chain.nonce(world.signer) == nonce
    assert world.fund("10.00").status == "funded"
    world.check_books()


def test_a_purchase_above_all_that_goes_at_once_is_for_the_owners(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world({"purchase_max": Usdc("1"), "daily": Usdc("72")})
    asked = world.buy("25.00")
    world.go()
    reason = world.get(asked).reason
    assert reason is not None and reason.code == "chain_limit"
    assert "more than 24.00 go at once: its owners have to sign it" in reason.message


def test_the_worker_s_key_withdraws_nothing(make_safe_world: Callable[..., World]) -> None:
    world = make_safe_world()
    with pytest.raises(InvalidRequest, match="its owners alone withdraw"):
        world.coordinator.withdraw(
            to=world.chain.payee, amount="1", approver="alice", reason="a test"
        )
    assert world.rows("SELECT 1 FROM orders") == []


def test_the_wallet_for_http_requests_is_filled_through_the_role(
    make_safe_world: Callable[..., World],
) -> None:
    def make(**parameters: Any) -> World:
        wallet = Account.from_key(parameters["more_secrets"]["X402_KEY"]).address
        limits = X402Limits(wallet=wallet, daily=Usdc("30"))
        return make_safe_world({"x402": limits}, **parameters)

    filled = Filled(make)
    filled.fill()
    filled.world.go()
    assert (filled.balance(), filled.amounts()) == (Usdc("10"), ["8.00"])
    # Of 30 a day half goes at once.
    filled.fill(top_up_below="15", top_up_to="20")
    filled.world.go()
    assert sorted(order.status for order in filled.orders()) == ["done", "failed"]
    assert filled.balance() == Usdc("10")
    filled.world.check_books()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"per_purchase_limit": "24.99"}, "the chain takes at most 24.99 USDC a purchase"),
        ({"providers": ["other-api"]}, "paper-api has no place on the chain"),
        ({"deadline_before": "2020-01-01"}, "its deadline is beyond what the chain takes"),
    ],
    ids=["amount", "provider", "deadline"],
)
def test_what_the_role_refuses_by_the_policy_s_table_is_not_sent(
    make_safe_world: Callable[..., World], changed: dict[str, Any], why: str
) -> None:
    world = make_safe_world()
    assert world.safe is not None
    table = {
        "owners": list(world.safe.limits.owners),
        "threshold": 2,
        "daily_limit": "3000",
        "per_purchase_limit": "1000",
        "deadline_before": "2040-01-01",
    }
    world.apply(Policy.from_dict(world.policy.document() | {"treasury": table | changed}))
    nonce, asked = world.chain.nonce(world.signer), world.buy("25.00")
    world.go()
    purchase = world.get(asked)
    assert purchase.status == "failed"
    assert purchase.reason is not None and purchase.reason.code == "chain_limit"
    assert purchase.reason.message.startswith(why)
    assert world.chain.nonce(world.signer) == nonce


def test_agents_share_what_their_batch_costs(make_safe_world: Callable[..., World]) -> None:
    world = make_safe_world()
    start_wei = world.chain.gas_balance_wei(world.signer)
    agents = [AGENT, "data-agent", AGENT]
    asked = [world.buy("5.00", agent=agent, task=f"t{n}") for n, agent in enumerate(agents)]
    world.go()
    purchases = [world.get(p) for p in asked]
    assert {t.hash for p in purchases for t in p.transactions} == {
        purchases[0].transactions[0].hash
    }
    paid = start_wei - world.chain.gas_balance_wei(world.signer)
    mine, theirs, _ = (p.gas_wei for p in purchases)
    assert sum(p.gas_wei for p in purchases) == paid
    assert abs(mine - theirs) <= 1
    by_agent = world.coordinator.gas().by_agent_wei
    assert by_agent == {AGENT: paid - theirs, "data-agent": theirs}
    report = world.coordinator.gas()
    assert (report.address, report.balance_wei) == (world.signer, start_wei - paid)
