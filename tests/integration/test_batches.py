"""Batches of a Safe under attack: bad purchases among good ones, forged rows, lost blocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import pytest
from eth_account import Account

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.rail import ActpRail
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.proofs.verification import verify
from tests.chaos.test_lane import Killed, die
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_either
from tests.integration.test_gas import set_gas
from tests.integration.test_reorg import finalise, first_block, fundings, reorganise
from tests.integration.test_tampering import paused
from tests.integration.world import World

pytestmark = on_either

MakeWorld = Callable[..., World]


@pytest.fixture(autouse=True)
def _base_fee_as_before(chain: LocalChain) -> Iterator[None]:
    """Taking the chain back does not take its next base fee back."""
    yield
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(1_000_000))


def ask(world: World, *amounts: str, provider: str = "paper-api") -> list[Purchase]:
    return [world.buy(amount, provider=provider) for amount in amounts]


def play(world: World, rounds: int) -> None:
    """Rounds with a block after each, and one that sees the last."""
    for _ in range(rounds):
        world.round()
        world.chain.mine()
    world.round()


def statuses(world: World, asked: Sequence[Purchase]) -> list[str]:
    return [world.status(purchase) for purchase in asked]


def batches(world: World) -> list[tuple[int, str, str]]:
    """(nonce, kind, status) of everything that was given a nonce."""
    return [
        (nonce, kind, status)
        for nonce, kind, status in world.rows(
            "SELECT nonce, kind, status FROM steps WHERE position = 0 ORDER BY nonce"
        )
    ]


def use_key(world: World, purchase: Purchase) -> None:
    """Let a stranger fund an escrow of its own under the purchase's key, which works once."""
    chain = world.chain
    kernel, vault = chain.deployment.kernel, chain.deployment.vault
    chain.rpc.call("evm_setAutomine", True)
    chain.fund(chain.stranger, usdc="1", wei=0)
    chain.hold_blocks()
    create = kernel_abi().call(
        *("createTransaction", chain.provider, chain.stranger, 100_000),
        *(chain.time + 86_400, 3600, service_hash(None), 0, 0),
    )
    nonce = chain.kernel("requesterNonces", chain.stranger)
    rail = ActpRail(kernel, vault, chain.stranger)
    escrow_id = rail.predicted_id(
        provider=chain.provider,
        amount=Usdc("0.1"),
        service_key=service_hash(None),
        create_nonce=nonce,
    )
    chain.act(chain.stranger, kernel, create)
    approve = token_abi().call("approve", vault, 100_000)
    chain.act(chain.stranger, chain.deployment.usdc, approve)
    link = kernel_abi().call("linkEscrow", escrow_id, vault, purchase.escrow_key)
    chain.act(chain.stranger, kernel, link)


campaign = pytest.mark.campaign


def named(cases: Mapping[str, str], *chosen: str) -> list[Any]:
    """Each by its name; all but the chosen are for campaigns."""
    return [
        pytest.param(statement, id=name, marks=() if name in chosen else campaign)
        for name, statement in cases.items()
    ]


def stop_before_signing(world: World) -> None:
    """End the process after nonces were given, before anything was signed."""
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.restart()


# Bad ones among good ones.


def test_bad_purchases_of_a_batch_fail_for_their_own_reasons_and_cost_nothing_more(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world(safe={"purchase_max": Usdc("20")})
    asked = ask(world, *["5.00"] * 3, "21.00", *["5.00"] * 3, "20.01", "5.00")
    used = asked[1], asked[5]
    for purchase in used:
        use_key(world, purchase)
    play(world, 2)
    assert statuses(world, asked) == [
        *("funded", "failed", "funded", "failed", "funded", "failed", "funded", "failed", "funded")
    ]
    reasons = [str(world.get(purchase).reason) for purchase in asked]
    assert all("already used" in reasons[asked.index(purchase)] for purchase in used)
    assert all("ParameterGreaterThanAllowed" in reasons[n] for n in (3, 7))
    # The batch that failed told nobody's reason; what it was is asked before any gas is paid.
    assert batches(world) == [(0, "batch", "reverted"), (1, "batch", "mined")]
    world.pass_time(3600)
    world.go()
    world.check_books()


@campaign
def test_a_failed_batch_holds_up_those_behind_it_for_one_block(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(safe={"purchase_max": Usdc("20")})
    asked = ask(world, *["1.00"] * 8, "21.00", *["1.00"] * 45)
    play(world, 2)
    assert [n for n, status in enumerate(statuses(world, asked)) if status != "funded"] == [8]
    assert [status for _, _, status in batches(world)] == ["reverted"] * 3 + ["mined"] * 3
    world.check_books()


@campaign
def test_more_bad_purchases_than_retries_fail_no_good_one(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(safe={"purchase_max": Usdc("20")})
    asked = ask(world, *["1.00", "21.00"] * 12)
    play(world, 2)
    assert statuses(world, asked) == ["funded", "failed"] * 12
    world.check_books()


# Before a batch is signed.


def test_one_that_is_stopped_before_its_batch_is_signed_takes_nobody_along(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world()
    asked = ask(world, "1.00") + ask(world, "1.00", provider="other-api")
    asked += ask(world, *["1.00"] * 28)
    stop_before_signing(world)
    world.coordinator.pause("in doubt", by="olga", provider="other-api")
    play(world, 3)
    assert statuses(world, asked) == ["funded", "approved", *["funded"] * 28]
    # The second was predicted behind the first; it is not sent to fail.
    assert batches(world) == [
        *[(0, "fill", "mined"), (1, "fill", "mined")],
        *[(2, "batch", "mined"), (3, "batch", "mined")],
    ]
    assert [str(pause) for pause in world.wiring.operations.pauses()] == ["provider:other-api"]
    world.check_books()


# Forged rows.

_MEMBERS = {
    "a_purchase_cut_out": "DELETE FROM steps WHERE position IN (3, 4)",
    "the_last_cut_out": "DELETE FROM steps WHERE position IN (5, 6)",
    "a_link_cut_out": "DELETE FROM steps WHERE position = 4",
    "all_cut_out": "DELETE FROM steps WHERE position > 0",
    "in_no_batch": "UPDATE steps SET batch_id = NULL WHERE position IN (3, 4)",
    "in_another_batch": "UPDATE steps SET batch_id = (SELECT min(id) FROM steps)"
    " WHERE position IN (3, 4)",
    "more_usdc": "UPDATE steps SET usdc = usdc + 1 WHERE position = 2",
    "another_purchase": "UPDATE steps SET purchase_id = (SELECT purchase_id FROM steps"
    " WHERE position = 1 AND nonce = 1) WHERE position = 4",
    "another_escrow": "UPDATE steps SET escrow_id = (SELECT escrow_id FROM steps"
    " WHERE position = 1 AND nonce = 1) WHERE position = 4",
    "swapped": "UPDATE steps SET position = position + 100 WHERE position IN (1, 2)",
    "another_nonce": "UPDATE steps SET nonce = nonce + 1 WHERE position IN (3, 4)",
}
_CARRIERS = {
    "other_data": "UPDATE steps SET data ="
    " (SELECT data FROM steps WHERE nonce = 0 AND position = 0) WHERE position = 0",
    "a_fill": "UPDATE steps SET kind = 'fill' WHERE position = 0",
    "a_settle": "UPDATE steps SET kind = 'settle' WHERE position = 0",
    "less_gas": "UPDATE steps SET gas_limit = 100000 WHERE position = 0",
}


def forge(world: World, statement: str) -> None:
    """Change rows of the batch at nonce 1 and of no other."""
    world.edit(f"{statement} AND nonce = 1")


@pytest.mark.parametrize("statement", named(_MEMBERS | _CARRIERS, "in_another_batch"))
def test_of_forged_calls_nothing_is_signed(make_safe_world: MakeWorld, statement: str) -> None:
    world = make_safe_world()
    world.fund("1.00")
    asked = ask(world, *["5.00"] * 3)
    stop_before_signing(world)
    forge(world, statement)
    before = world.chain.balance(world.treasury)
    play(world, 3)
    assert world.chain.balance(world.treasury) == before
    assert "nonce" in paused(world)
    assert {world.hold(purchase)[0] for purchase in asked} == {"held"}
    world.unpause()
    play(world, 3)
    assert statuses(world, asked) == ["funded"] * 3
    world.check_books()


@pytest.mark.parametrize("statement", named(_MEMBERS, "a_purchase_cut_out"))
def test_calls_taken_out_of_what_is_signed_are_told_and_pay_nothing_twice(
    make_safe_world: MakeWorld, statement: str
) -> None:
    world = make_safe_world()
    world.fund("1.00")
    asked = ask(world, *["5.00"] * 3)
    world.round()
    forge(world, statement)
    play(world, 3)
    assert statuses(world, asked) == ["funded"] * 3
    assert world.chain.balance(world.treasury) == Usdc("984")
    assert not verify(world.wiring.audit).ok or "nonce 1" in paused(world)
    for purchase in asked:
        world.chain.deliver(world.get(purchase).escrow_id)
    world.pass_time(49 * 3600)
    play(world, 3)
    assert statuses(world, asked) == ["settled"] * 3


@pytest.mark.parametrize("statement", named(_MEMBERS, "the_last_cut_out"))
def test_calls_taken_out_of_a_mined_batch_are_named(
    make_safe_world: MakeWorld, statement: str
) -> None:
    world = make_safe_world()
    world.fund("1.00")
    ask(world, *["5.00"] * 3)
    world.go()
    assert verify(world.wiring.audit).ok
    forge(world, statement)
    faults = verify(world.wiring.audit).faults
    assert any(fault.startswith(("step 1 ", "step 2 ")) for fault in faults), faults


def test_a_call_that_ends_no_more_is_ended_again(make_safe_world: MakeWorld) -> None:
    world = make_safe_world()
    world.fund("1.00")
    (asked,) = ask(world, "5.00")
    world.go()
    world.edit("UPDATE steps SET status = 'signed' WHERE position > 0")
    world.round()
    assert "calls that were allocated" in paused(world)
    world.chain.deliver(world.get(asked).escrow_id)
    world.pass_time(49 * 3600)
    play(world, 2)
    assert world.status(asked) == "settled"


def test_members_of_no_batch_ahead_of_the_lane_do_not_stop_it(make_safe_world: MakeWorld) -> None:
    world = make_safe_world()
    world.fund("1.00")
    columns = "chain_id, signer, kind, status, recipient, data, gas_limit, created_at, mac"
    world.edit(
        f"INSERT INTO steps ({columns}, nonce, position)"
        f" SELECT {columns}, nonce + 1, position FROM steps WHERE position > 0"
    )
    (asked,) = ask(world, "5.00")
    play(world, 2)
    assert "nonce 1" in paused(world)
    world.unpause()
    play(world, 2)
    assert world.status(asked) == "funded"


# Lost blocks.


def refuse_a_batch(world: World) -> list[str]:
    """Have what waits in the pool refused in the next block, and only there; its bytes."""
    raws = [step.attempts[-1].raw for step in world.in_flight()]
    world.chain.token_admin("pause")
    world.chain.mine()
    world.chain.token_admin("unpause")
    world.chain.mine()
    return raws


@pytest.mark.parametrize("mined_at", [0, pytest.param(2, marks=campaign)], ids=["before", "after"])
def test_bytes_that_a_lost_block_brings_back_fund_nothing_twice(
    make_safe_world: MakeWorld, mined_at: int
) -> None:
    world = make_safe_world(finality="30")
    chain = world.chain
    world.fund("1.00")
    asked = ask(world, *["5.00"] * 3)
    world.round()
    raws = refuse_a_batch(world)
    world.go()
    assert statuses(world, asked) == ["funded"] * 3
    assert [status for *_, status in batches(world)] == ["mined", "reverted", "mined"]
    again = world.rows("SELECT raw FROM attempts JOIN steps ON steps.id = step_id WHERE nonce = 2")
    # The first batch succeeds now, and the one that made its purchases again comes behind it.
    kept = [(raw, 0) for raw in raws] + [(raw, mined_at) for (raw,) in again]
    reorganise(world, chain.height - first_block(world, asked[0]) + 1, kept)
    world.round()
    assert statuses(world, asked) == ["funded"] * 3
    chain.mine(2)
    world.go()
    assert [status for *_, status in batches(world)] == ["mined", "mined", "reverted"]
    assert statuses(world, asked) == ["funded"] * 3
    assert [fundings(world, purchase) for purchase in asked] == [1, 1, 1]
    assert chain.balance(world.treasury) == Usdc("984")
    assert world.usage()[0] == Usdc("16")
    finalise(world)
    world.check_books()


@campaign
def test_a_mined_batch_that_moves_to_another_block_is_booked_once(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world(finality="30")
    world.fund("1.00")
    asked = ask(world, *["5.00"] * 3)
    world.go()
    world.chain.mine()
    ((raw,),) = world.rows(
        "SELECT raw FROM attempts JOIN steps ON steps.id = step_id WHERE nonce = 1"
    )
    reorganise(world, 2)
    world.round()
    assert statuses(world, asked) == ["approved"] * 3
    assert world.usage() == (Usdc("16"), ZERO)
    reorganise(world, 2, [(raw, 1)])
    world.go()
    assert statuses(world, asked) == ["funded"] * 3
    assert [status for *_, status in batches(world)] == ["mined", "mined"]
    world.check_books()


def test_a_lost_fill_of_a_batch_leaves_nobody_waiting(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(finality="30")
    asked = ask(world, "5.00") + ask(world, "5.00", provider="other-api")
    stop_before_signing(world)
    world.coordinator.pause("in doubt", by="olga", provider="other-api")
    play(world, 3)
    assert statuses(world, asked) == ["funded", "approved"]
    reorganise(world, 3)
    world.round()
    world.coordinator.unpause("looked at it", by="alice", provider="other-api")
    world.go()
    assert statuses(world, asked) == ["funded"] * 2
    world.check_books()


# Replaced, given up, restored.


@campaign
def test_a_bumped_batch_is_one_batch(make_safe_world: MakeWorld) -> None:
    world = make_safe_world()
    asked = ask(world, *["5.00"] * 3)
    world.round()
    before = world.in_flight()[0].attempts
    world.chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(before[-1].max_fee_per_gas * 2))
    world.chain.rpc.call("anvil_mine", "0x1")
    world.round()
    assert len(world.in_flight()[0].attempts) == 2
    world.go()
    assert statuses(world, asked) == ["funded"] * 3
    signed = world.rows("SELECT count(*) FROM audit WHERE event = 'link_signed'")
    assert signed == [(6,)]
    world.check_books()


@campaign
def test_a_batch_that_a_strangers_transaction_displaced_is_made_again_once_looked_at(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world(finality="2")
    world.fund("1.00")
    asked = ask(world, *["5.00"] * 3)
    world.round()
    world.hold_back(lambda step: True)
    world.send_as_treasury(world.chain.stranger, "0x")
    for _ in range(8):
        world.chain.mine()
        world.round()
    assert statuses(world, asked) == ["approved"] * 3
    assert "nonce 1" in paused(world)
    world.unpause()
    play(world, 2)
    assert statuses(world, asked) == ["funded"] * 3
    world.check_books()


@campaign
def test_a_restored_backup_funds_nothing_twice(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(finality="2")
    asked = ask(world, *["5.00"] * 3)
    copy = world.store.copy(world.database, "backup")
    world.go()
    assert statuses(world, asked) == ["funded"] * 3
    world.restart(copy)
    play(world, 4)
    assert statuses(world, asked) == ["funded"] * 3
    world.unpause()
    play(world, 4)
    assert [fundings(world, purchase) for purchase in asked] == [1, 1, 1]
    assert world.chain.balance(world.treasury) == Usdc("985")


# Limits of the worker's own, and gas.


def test_the_workers_own_limit_counts_each_purchase_of_a_batch(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(worker_daily_limit="12")
    asked = ask(world, *["5.00"] * 3)
    play(world, 2)
    assert statuses(world, asked) == ["funded", "funded", "approved"]
    bodies = world.rows("SELECT body FROM audit WHERE event IN ('link_signed', 'batch_signed')")
    counted = [json.loads(body).get("usdc", 0) for (body,) in bodies]
    assert sorted(counted) == [0, 5_000_000, 5_000_000]
    world.check_books()


def test_gas_that_was_enough_is_enough_when_a_batch_has_to_be_made_again(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world()
    world.round()
    each = world.coordinator.gas()
    assert each.purchases_left is not None
    asked = ask(world, *["5.00"] * 4)
    use_key(world, asked[2])
    set_gas(world, 4 * (each.balance_wei // each.purchases_left) + 10**9)
    play(world, 3)
    assert statuses(world, asked) == ["funded", "funded", "failed", "funded"]
    assert "already used" in str(world.get(asked[2]).reason)


@campaign
def test_a_long_list_of_providers_makes_batches_smaller(
    make_safe_world: MakeWorld, chain: LocalChain
) -> None:
    others = [Account.from_key(bytes([0xC0 + n]) * 32).address for n in range(28)]
    listed = (*others, chain.other_provider, chain.provider)
    world = make_safe_world(safe={"providers": listed})
    document = world.policy.document()
    document["providers"] |= {f"other-{n}": {"address": one} for n, one in enumerate(others)}
    world.apply(Policy.from_dict(document))
    asked = ask(world, *["1.00"] * 25)
    play(world, 1)
    assert statuses(world, asked) == ["funded"] * 25
    assert [status for _, _, status in batches(world)] == ["mined", "mined"]
    limits = world.rows("SELECT gas_limit FROM steps WHERE position = 0")
    assert max(limit for (limit,) in limits) < 2**24


@campaign
def test_a_list_longer_than_the_policys_fails_no_purchase(
    make_safe_world: MakeWorld, chain: LocalChain
) -> None:
    others = [Account.from_key(bytes([0x80 + n]) * 32).address for n in range(100)]
    world = make_safe_world(safe={"providers": (*others, chain.provider)})
    asked = ask(world, *["1.00"] * 3)
    play(world, 3)
    assert statuses(world, asked) == ["funded"] * 3
    assert [status for *_, status in batches(world)] == ["reverted"] * 2 + ["mined"] * 3
    world.check_books()


_POINTS = (
    *(KillPoint.BEFORE_ALLOCATE, KillPoint.STEPS_ALLOCATED, KillPoint.ATTEMPTS_SIGNED),
    *(KillPoint.ATTEMPTS_STORED, KillPoint.ATTEMPTS_SENT, KillPoint.RECEIPTS_READ),
)


def trouble(world: World, random: Random) -> None:
    """Do one thing that makes batches fail, wait or come back."""
    chain = world.chain
    kind = random.randrange(8)
    if kind == 0:
        chain.rpc.call("anvil_dropAllTransactions")
    elif kind == 1:
        reorganise(world, random.randint(1, 3))
    elif kind == 2:
        chain.token_admin("pause")
        chain.mine()
        chain.token_admin("unpause")
    elif kind == 3:
        world.at(random.choice(_POINTS), die)
    elif kind == 4:
        world.coordinator.pause("in doubt", by="olga", provider="other-api")
    elif kind == 5:
        world.coordinator.unpause("looked at it", by="alice", provider="other-api")
    elif kind == 6:
        raws = [attempt.raw for step in world.in_flight() for attempt in step.attempts]
        chain.mine(2)
        reorganise(world, 1, [(raw, 0) for raw in random.sample(raws, len(raws) // 2)])


@campaign
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_batches_each_purchase_is_paid_once(
    make_safe_world: MakeWorld, seed: int
) -> None:
    random = Random(seed)
    world = make_safe_world(finality="40", safe={"purchase_max": Usdc("20")})
    world.fund("1.00")
    world.chain.mine(4)
    world.round()
    asked: list[Purchase] = []
    for _ in range(14):
        for _ in range(random.randint(0, 4)):
            amount = random.choice(["1.00"] * 6 + ["21.00"])
            provider = random.choice(["paper-api"] * 4 + ["other-api"])
            asked += ask(world, amount, provider=provider)
        trouble(world, random)
        try:
            world.round()
        except Killed:
            world.restart()
        if random.random() < 0.7:
            world.chain.mine()
    world.coordinator.unpause("looked at it", by="alice", provider="other-api")
    for _ in range(10):
        play(world, 1)
        if {str(p) for p in world.wiring.operations.pauses()} == {"organisation"}:
            world.unpause()
    # What was asked while its provider was stopped is nobody's.
    asked = [purchase for purchase in asked if not purchase.denied]
    ends = {purchase.id: world.status(purchase) for purchase in asked}
    assert set(ends.values()) <= {"funded", "failed"}, (seed, ends)
    for purchase in asked:
        paid = fundings(world, purchase)
        assert paid == (ends[purchase.id] == "funded"), (seed, world.get(purchase).reason)
        bad = purchase.amount > Usdc("20")
        reason = world.get(purchase).reason
        assert bad == (ends[purchase.id] == "failed") or "paused" in str(reason), (seed, reason)
    finalise(world)
    world.chain.mine(41)
    world.go()
    world.check_books()
