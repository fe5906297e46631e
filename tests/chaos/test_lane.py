"""The nonce lane: dropped transactions, fee spikes, holes, strangers, a restored database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from coordinator import Usdc
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Step, StepKind
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.proofs.verification import verify
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import check_lane, fundings, lane
from tests.chaos.fault_proxy import FaultProxy
from tests.integration.local_chain import LocalChain
from tests.integration.stores import Store, on_both, on_wallet, with_safe_in_campaigns
from tests.integration.world import World

pytestmark = [on_both, with_safe_in_campaigns]


@pytest.fixture(autouse=True)
def _base_fee_as_before(chain: LocalChain) -> Iterator[None]:
    """Taking the chain back does not take its next base fee back."""
    yield
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(1_000_000))


class Killed(BaseException):
    """The process ends here."""


def die() -> None:
    raise Killed


def check_funded_once(world: World, *asked: Purchase) -> None:
    for purchase in asked:
        assert world.status(purchase) == "funded", world.get(purchase).reason
        assert fundings(world, purchase) == 1
    check_lane(world)
    world.check_books()


def attempts(world: World) -> set[int]:
    """How many attempts each step in flight has."""
    return {len(step.attempts) for step in world.in_flight()}


# Dropped.


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("dropped", ["create", "link", "all"])
def test_what_a_node_drops_is_sent_again_with_the_same_bytes(
    world: World, dropped: str, restarted: bool
) -> None:
    world.fund("1.00")
    asked = world.buy_and_send()
    signed = lane(world)
    if dropped == "all":
        world.chain.rpc.call("anvil_dropAllTransactions")
    else:
        tx_hash = [h for kind, _, h in signed if kind == world.sent_as(StepKind(dropped))][-1]
        world.chain.rpc.call("anvil_dropTransaction", tx_hash)
    sent = len(world.in_flight())
    assert len(world.chain.pool(world.signer)) < sent
    if restarted:
        world.restart()
    world.round()
    assert len(world.chain.pool(world.signer)) == sent
    world.go()
    assert lane(world) == signed
    check_funded_once(world, asked)


@on_wallet
def test_a_create_dropped_before_its_link_is_put_back_under_it(world: World) -> None:
    world.fund("1.00")
    asked = world.buy_and_send()
    signed = lane(world)
    (create,) = world.hold_back(lambda step: step.kind is StepKind.CREATE)
    world.chain.mine()
    # The link waits for the nonce before it and can't be mined alone.
    assert [int(tx["nonce"], 16) for tx in world.chain.pool(world.signer)] == [create.nonce + 1]
    world.go()
    assert lane(world) == signed
    check_funded_once(world, asked)


def test_a_pool_lost_with_its_node_is_sent_again(tmp_path: Path, store: Store) -> None:
    state = tmp_path / "state.json"
    with Anvil.start(state=state) as first:
        chain = LocalChain(Rpc([first.url]), tmp_path / "deployments")
        world = World(chain, tmp_path, store)
        try:
            world.fund("1.00")
            asked = world.buy_and_send()
            signed = lane(world)
            first.stop()
            with pytest.raises(ChainUnavailable):
                world.round()
            with Anvil.start(state=state, port=urlsplit(first.url).port or 0):
                chain.hold_blocks()
                assert chain.pool(world.signer) == []
                world.go()
                assert lane(world) == signed
                check_funded_once(world, asked)
        finally:
            world.close()


# Fees.


def spike(world: World, base_fee_wei: int) -> None:
    """A block with this base fee, which leaves out whatever pays less."""
    world.chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(base_fee_wei))
    world.chain.mine()


def fees_of(world: World, step: Step) -> list[tuple[int, int, int, int]]:
    """(nonce, gas limit, max fee, tip) of the step's signed bytes, from cheap to dear."""
    found = []
    for attempt in step.attempts:
        tx = TypedTransaction.from_bytes(HexBytes(attempt.raw)).as_dict()
        found.append((tx["nonce"], tx["gas"], tx["maxFeePerGas"], tx["maxPriorityFeePerGas"]))
    return sorted(found, key=lambda fees: fees[2])


def dearest(world: World) -> int:
    return max(a.max_fee_per_gas for step in world.in_flight() for a in step.attempts)


def suggestion(world: World) -> Fees:
    fees = world.wiring.chain.observe().fees
    assert fees is not None
    return fees


def test_a_base_fee_above_the_attempts_makes_dearer_ones_of_the_same_steps(world: World) -> None:
    world.fund("1.00")
    asked = world.buy_and_send()
    spike(world, 3 * dearest(world))
    assert world.status(asked) == "approved"
    allowed = suggestion(world)
    world.round()
    steps = world.in_flight()
    kinds = ["batch"] if world.safe else ["create", "link"]
    assert [step.kind.value for step in steps] == kinds
    for step in steps:
        (nonce, limit, most, tip), (nonce_after, limit_after, most_after, tip_after) = fees_of(
            world, step
        )
        assert (nonce_after, limit_after) == (nonce, limit)
        assert 8 * most_after >= 9 * most and 8 * tip_after >= 9 * tip
        assert most_after <= 5 * allowed.max_fee_per_gas
    world.go()
    twice = [kind for kind in kinds for _ in range(2)]
    assert [kind for kind, *_ in lane(world)][-len(twice) :] == twice
    check_funded_once(world, asked)


def test_an_old_attempt_that_is_mined_after_all_counts_once(world: World) -> None:
    world.fund("1.00")
    asked = world.buy_and_send()
    spike(world, 3 * dearest(world))
    world.round()
    steps = world.in_flight()
    assert attempts(world) == {2}
    # The fees fall, and a node that has only the first attempts makes the block.
    world.chain.rpc.call("anvil_dropAllTransactions")
    world.chain.rpc.call("anvil_setNextBlockBaseFeePerGas", "0x64")
    cheap = [min(step.attempts, key=lambda a: a.max_fee_per_gas) for step in steps]
    for attempt in cheap:
        world.chain.rpc.call("eth_sendRawTransaction", attempt.raw)
    world.chain.mine()
    world.go()
    done = [s.receipt for s in world.steps_of(asked)]
    assert {r.tx_hash for r in done if r} == {attempt.hash for attempt in cheap}
    check_funded_once(world, asked)


def test_nothing_is_replaced_before_a_node_was_seen_to_hold_it(
    world: World, proxy: FaultProxy
) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    with proxy.faulty(faults.CUT_BEFORE, faults.sends()):
        world.round()
        spike(world, 3 * dearest(world))
        for _ in range(3):
            world.round()
        assert attempts(world) == {1}
    world.go()
    check_funded_once(world, asked)


@on_wallet
def test_only_the_first_of_a_lane_that_blocks_leave_out_is_made_dearer(world: World) -> None:
    world.fund("1.00")
    asked = world.buy_and_send()
    world.chain.rpc.call("anvil_dropAllTransactions")
    world.chain.mine(9)
    world.round()
    assert [len(step.attempts) for step in world.in_flight()] == [1, 1]
    world.chain.rpc.call("anvil_dropAllTransactions")
    world.chain.mine()
    world.round()
    assert [len(step.attempts) for step in world.in_flight()] == [2, 1]
    world.go()
    check_funded_once(world, asked)


def test_what_was_just_signed_after_a_crash_is_not_taken_for_stuck(world: World) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.restart()
    world.round()
    assert attempts(world) == {1}
    world.go()
    check_funded_once(world, asked)


def test_above_the_fee_ceiling_everything_waits_is_told_and_goes_on_when_fees_fall(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(max_fee_gwei="0.05")
    ceiling = 50_000_000
    world.fund("1.00")
    sent = world.buy_and_send()
    spike(world, 2 * ceiling)
    waiting = world.buy("2.00")
    for _ in range(4):
        world.round()
        spike(world, 2 * ceiling)
    assert attempts(world) == {1}
    assert (world.status(sent), world.status(waiting)) == ("approved", "approved")
    assert sum("fees_above_ceiling" in message for message in caplog.messages) == 1
    spike(world, 1000)
    world.go()
    assert max(a for (a,) in world.rows("SELECT max_fee_per_gas FROM attempts")) <= ceiling
    check_funded_once(world, sent, waiting)


def test_what_may_pay_no_more_is_told_once_and_shown_by_gas(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(max_fee_gwei="0.05")
    spike(world, 20_000_000)
    asked = world.buy_and_send()
    assert dearest(world) == 50_000_000
    # Blocks leave the first of the lane out, and it pays all that the settings allow.
    for _ in range(4):
        world.chain.rpc.call("anvil_dropAllTransactions")
        world.chain.mine(10)
        world.round()
    assert all(len(step.attempts) == 1 for step in world.in_flight())
    assert sum("step_not_bumped" in message for message in caplog.messages) == 1
    assert world.coordinator.gas().warning is None
    world._passed += 600
    warning = world.coordinator.gas().warning or ""
    first = world.in_flight()[0]
    assert f"the {first.kind} at nonce {first.nonce} is pending since" in warning
    assert "it pays at most 50000000 wei per gas, and" in warning
    world.go()
    assert world.coordinator.gas().warning is None
    check_funded_once(world, asked)


# Nonces.


def test_steps_that_were_moved_to_later_nonces_are_dropped(world: World) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.edit("UPDATE steps SET nonce = nonce + 3 WHERE status = 'allocated'")
    world.restart()
    world.round()
    world.unpause()
    world.go()
    kinds = [kind for kind, *_ in lane(world)]
    once = ["batch"] if world.safe else ["create", "link"]
    assert kinds == [*([] if world.safe else ["approve"]), *once, *once]
    check_funded_once(world, asked)


@on_wallet
@pytest.mark.parametrize("taken", ["create", "link"])
def test_a_stranger_with_our_key_pauses_spending_and_the_purchase_is_funded_once(
    world: World, taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    chain = world.chain
    world.fund("1.00")
    asked = world.buy_and_send()
    held = world.hold_back(lambda step: step.kind.value == taken)
    if taken == "link":
        chain.mine()
    world.send_as_treasury(chain.stranger, "0x", nonce=hex(held[0].nonce), gas=hex(30_000))
    for _ in range(6):
        chain.mine()
        world.round()
    (pause,) = world.wiring.operations.pauses()
    assert (str(pause), pause.by) == ("organisation", "executor")
    assert f"mined at nonce {held[0].nonce}" in pause.reason
    assert sum("foreign_transaction" in message for message in caplog.messages) == 1
    assert world.buy("1.00").denied
    world.unpause()
    world.go()
    if taken == "create":
        assert world.status(asked) == "funded"
        assert fundings(world, asked) == 1
    else:
        # Spending was paused with an empty escrow: it is cancelled, and its hold given back.
        assert world.status(asked) == "cancelled"
        assert fundings(world, asked) == 0
    after = world.fund("2.00")
    assert fundings(world, after) == 1
    assert world.in_flight() == []
    world.check_books()


@on_wallet
def test_a_copy_from_before_the_purchases_pauses_adopts_and_pays_nothing_twice(
    world: World,
) -> None:
    chain = world.chain
    world.fund("1.00")
    backup = world.store.copy(world.database, "backup")
    bought = [world.buy("25.00", idempotency_key=f"key-{n}") for n in range(3)]
    world.go()
    world.wiring.treasury.withdraw(to=chain.payee, amount="10", approver="alice", reason="a test")
    world.go()
    nonce, left = chain.nonce(world.signer), chain.balance(world.treasury)
    world.coordinator.close()
    world.database = backup
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart(world.database)

    world.go()
    (pause,) = world.wiring.operations.pauses()
    assert "7 transactions of the treasury's key are not in this database" in pause.reason
    assert world.buy("1.00").denied
    world.unpause()
    again = [world.buy("25.00", idempotency_key=f"key-{n}") for n in range(3)]
    world.go()
    assert {p.escrow_key for p in again} == {p.escrow_key for p in bought}
    assert [world.status(p) for p in again] == ["funded"] * 3
    assert (chain.nonce(world.signer), chain.balance(world.treasury)) == (nonce, left)
    assert world.usage() == (Usdc("76"), Usdc("0"))
    for purchase in [*again, world.fund("2.00")]:
        assert fundings(world, purchase) == 1
    # The copy knows nothing of who ordered the withdrawal: reconciling tells it until explained.
    assert world.discrepancies() == [("unexplained_outflow", "10.00")]
    assert world.wiring.journal.treasury_balance() == chain.balance(world.treasury)
    assert verify(world.wiring.audit).ok
