"""ETH and USDC that do not suffice: refused by what was last read, stopped before a signature."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either
from tests.integration.world import AGENT, World

pytestmark = [on_either, on_both_payers]

LOW_WEI = 5 * 10**14


def set_gas(world: World, wei: int) -> None:
    world.chain.rpc.call("anvil_setBalance", world.signer, hex(wei))
    world.chain.mine()


def check_nothing_sent(world: World) -> None:
    assert world.rows("SELECT count(*) FROM steps") == [(0,)]
    assert world.chain.pool(world.signer) == []
    assert world.chain.nonce(world.signer) == 0


def test_a_request_is_refused_when_the_stored_gas_would_not_finish_it(world: World) -> None:
    set_gas(world, 1000)
    world.round()
    denied = world.buy()
    assert denied.denied and denied.reason is not None
    assert denied.reason.code == "insufficient_gas"
    assert world.rows("SELECT count(*) FROM holds") == [(0,)]
    set_gas(world, 10**17)
    world.round()
    assert world.buy().status == "approved"


def test_gas_gone_since_the_request_fails_it_before_anything_is_sent(world: World) -> None:
    world.round()
    asked = world.buy()
    assert asked.status == "approved"
    set_gas(world, 1000)
    world.round()
    failed = world.get(asked)
    assert failed.status == "failed"
    assert failed.reason is not None and failed.reason.code == "insufficient_gas"
    assert world.hold(failed) == ("voided", ZERO)
    world.check_nothing_spent()
    check_nothing_sent(world)
    world.check_books()


def test_gas_is_promised_once_to_purchases_that_are_asked_at_once(world: World) -> None:
    world.round()
    each = world.coordinator.gas()
    assert each.purchases_left is not None
    # What one purchase may cost at the fee ceiling, and not quite another.
    one = each.balance_wei // each.purchases_left
    asked = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    assert {p.status for p in asked} == {"approved"}
    set_gas(world, one + one // 2)
    world.go()
    statuses = [world.status(p) for p in asked]
    assert statuses == ["funded", "failed", "failed"]
    assert world.usage() == (Usdc("5"), ZERO)
    world.check_books()


def test_a_request_is_refused_when_the_stored_usdc_is_promised_already(world: World) -> None:
    world.round()
    # 400 are held for a purchase that waits for people.
    waiting = world.buy("400.00")
    assert waiting.needs_approval
    denied = world.buy("600.01", agent="data-agent")
    assert denied.denied and denied.reason is not None
    assert denied.reason.code == "insufficient_usdc"
    assert "600.00 USDC" in denied.reason.message
    assert world.buy("600.00", agent="data-agent").needs_approval


def test_usdc_gone_since_the_request_fails_it_before_anything_is_sent(world: World) -> None:
    world.round()
    asked = world.buy("25.00")
    world.chain.set_balance(world.treasury, Usdc("24.99"))
    world.round()
    failed = world.get(asked)
    assert failed.status == "failed"
    assert failed.reason is not None and failed.reason.code == "insufficient_usdc"
    assert "24.99 USDC" in failed.reason.message
    assert world.hold(failed) == ("voided", ZERO)
    world.check_nothing_spent()
    check_nothing_sent(world)


def test_usdc_on_its_way_is_not_promised_again(make_world: Callable[..., World]) -> None:
    world = make_world(usdc="60")
    # Never read: the stored balances refuse nothing yet, the executor does.
    asked = [world.buy("25.00", task=f"t{n}") for n in range(3)]
    assert {p.status for p in asked} == {"approved"}
    world.round()
    assert [world.status(p) for p in asked] == ["approved", "approved", "failed"]
    world.go()
    assert [world.status(p) for p in asked] == ["funded", "funded", "failed"]
    assert world.chain.balance(world.treasury) == Usdc("10")
    assert world.usage() == (Usdc("50"), ZERO)
    world.check_books()


def test_an_old_balance_refuses_nothing(world: World) -> None:
    set_gas(world, 1000)
    world.round()
    assert world.buy().denied
    world.pass_time(181)
    assert world.buy().status == "approved"


def test_low_gas_is_told_once_and_again_after_it_was_filled(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> int:
        return sum("gas_balance_low" in message for message in caplog.messages)

    set_gas(world, LOW_WEI)
    world.round()
    assert (told(), world.coordinator.gas().warning) == (0, None)
    for _ in range(2):
        set_gas(world, LOW_WEI - 1)
        world.round()
    warning = world.coordinator.gas().warning
    assert told() == 1
    assert warning is not None and "0.0005 ETH" in warning and world.signer in warning
    set_gas(world, LOW_WEI)
    world.round()
    assert (told(), world.coordinator.gas().warning) == (1, None)
    set_gas(world, LOW_WEI - 1)
    world.round()
    assert told() == 2


def test_gas_by_agent_and_step_is_what_the_receipts_say(world: World) -> None:
    chain = world.chain
    start_wei = chain.gas_balance_wei(world.signer)
    mine, theirs = world.fund("5.00"), world.fund("6.00", agent="data-agent")
    lost = world.buy_and_send("7.00", agent="data-agent")
    chain.token_admin("pause")
    world.go()
    assert world.status(lost) == world.unfunded
    chain.token_admin("unpause")
    chain.mine()
    chain.deliver(mine.escrow_id)
    world.go()
    world.coordinator.agent(AGENT).settle(mine.id)
    world.go()
    assert chain.state(mine.escrow_id) is EscrowState.SETTLED

    attempts = world.rows(
        "SELECT a.hash, s.kind, coalesce(p.agent, '') FROM attempts a"
        " JOIN steps s ON s.id = a.step_id"
        " LEFT JOIN steps m ON m.batch_id = s.id AND m.position = 1"
        " LEFT JOIN purchases p ON p.id = coalesce(m.purchase_id, s.purchase_id)"
    )
    by_agent: dict[str, int] = defaultdict(int)
    by_step: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for tx_hash, kind, agent in attempts:
        receipt = chain.receipt(tx_hash)
        gas = int(receipt["gasUsed"], 16)
        wei = gas * int(receipt["effectiveGasPrice"], 16)
        by_agent[agent] += wei
        count, gas_before, wei_before = by_step[kind]
        by_step[kind] = (count + 1, gas_before + gas, wei_before + wei)
    by_wallet = {"approve": 1, "create": 3, "link": 3, "cancel": 1, "settle": 1}
    expected = {"batch": 3, "settle": 1} if world.safe else by_wallet
    assert {kind: count for kind, (count, _, _) in by_step.items()} == expected
    report = world.coordinator.gas()
    assert dict(report.by_agent_wei) == dict(by_agent)
    assert dict(report.by_step) == dict(by_step)
    assert set(by_agent) == {AGENT, "data-agent"} | ({""} if world.safe is None else set())
    # To the wei: what is gone from the account is what was told.
    assert sum(by_agent.values()) == start_wei - chain.gas_balance_wei(world.signer)
    assert report.balance_wei == chain.gas_balance_wei(world.signer)
    assert world.get(theirs).gas_wei == sum(
        int(r["gasUsed"], 16) * int(r["effectiveGasPrice"], 16)
        for r in map(chain.receipt, {t.hash for t in world.get(theirs).transactions})
    )


def test_every_step_stays_well_under_its_gas_limit(world: World) -> None:
    chain = world.chain
    reclaimed, settled, contested = (world.fund("5.00") for _ in range(3))
    for purchase in (settled, contested):
        chain.deliver(purchase.escrow_id)
    world.go()
    world.coordinator.settle(settled.id, approver="alice")
    world.coordinator.dispute(contested.id, approver="alice", reason="a test")
    world.go()
    lost = world.buy_and_send("5.00")
    chain.token_admin("pause")
    world.go()
    assert world.status(lost) == world.unfunded
    chain.token_admin("unpause")
    chain.mine()
    assert reclaimed.deadline is not None
    world.pass_time_until(reclaimed.deadline)
    world.go()
    used = world.rows(
        "SELECT s.kind, max(1.0 * a.gas_used / s.gas_limit) FROM attempts a"
        " JOIN steps s ON s.id = a.step_id WHERE s.status = 'mined' GROUP BY s.kind"
    )
    funding = {"batch"} if world.safe else {"approve", "create", "link", "cancel"}
    assert {kind for kind, _ in used} == funding | {"settle", "reclaim", "dispute"}
    assert {kind: share for kind, share in used if share > 0.8} == {}
