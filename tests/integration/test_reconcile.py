"""Reconciling names every difference; the chain alone gives the same journal again."""

from __future__ import annotations

from collections import Counter

import pytest

from coordinator import Usdc
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.rail import ActpRail
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.verification import verify
from tests.integration.bad_endpoint import BadEndpoint
from tests.integration.range_limit import taking_at_most
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either

HOUR = 3600


def open_elsewhere(
    world: World, amount: str, *, fund: bool = True, key: str = "0x" + "ab" * 32
) -> str:
    """Create (and fund) an escrow with the treasury's key, as another process would; its id."""
    d, chain = world.chain.deployment, world.chain
    rail = ActpRail(d.kernel, d.vault, world.treasury)
    create = rail.create(
        purchase_id="",
        provider=chain.other_provider,
        amount=Usdc(amount),
        service=None,
        deadline=chain.time + HOUR,
        dispute_window=HOUR,
        create_nonce=chain.kernel("requesterNonces", world.treasury),
    )
    assert create.escrow_id is not None
    link = rail.link(
        purchase_id="",
        escrow_id=create.escrow_id,
        escrow_key=key,
        amount=Usdc(amount),
    )
    approve = token_abi().call("approve", d.vault, Usdc("100").base_units)
    calls = ((d.usdc, approve), (d.kernel, create.data), (d.kernel, link.data))
    for to, data in calls if fund else calls[1:2]:
        world.send_as_treasury(to, data)
        chain.mine()
    assert chain.state(create.escrow_id) is (EscrowState.FUNDED if fund else EscrowState.CREATED)
    return create.escrow_id


def test_books_that_agree_have_no_discrepancy(world: World) -> None:
    world.fund()
    before = world.rows("SELECT count(*) FROM attempts")
    found = world.coordinator.reconcile()
    assert found.discrepancies == ()
    assert found.to_block == world.chain.height
    # It signs nothing, ever.
    assert world.rows("SELECT count(*) FROM attempts") == before
    assert world.chain.pool(world.treasury) == []


def test_an_escrow_that_another_process_funded_counts_against_the_organisation(
    world: World,
) -> None:
    world.fund()
    escrow_id = open_elsewhere(world, "7.00")
    (unknown,) = world.coordinator.reconcile(from_block=0).discrepancies
    assert (unknown.kind, unknown.amount) == ("unknown_escrow", Usdc("7"))
    found = next(p for p in world.coordinator.purchases() if p.escrow_id == escrow_id)
    assert (found.agent, found.status, found.amount) == (None, "funded", Usdc("7"))
    assert world.usage() == (Usdc("32"), ZERO)
    assert world.moves()[-1] == ("fund", "7.00")
    denied = world.buy("10.00")
    assert denied.reason is not None and denied.reason.code == "paused"
    world.unpause()
    world.round()
    # The three nonces that were used elsewhere are known from then on.
    world.unpause()
    assert world.fund("10.00").status == "funded"
    # It stays one until somebody explains it.
    assert world.discrepancies() == [("unknown_escrow", "7.00")]
    operations = world.wiring.operations
    operations.explain(unknown.id, by="alice", reason="paid by hand", now=world.clock())
    world.check_books()


def test_an_escrow_funded_elsewhere_under_the_key_of_a_refused_purchase_is_unknown(
    world: World,
) -> None:
    world.fund()
    refused = world.buy("1001.00")
    assert refused.denied
    escrow_id = open_elsewhere(world, "7.00", key=refused.escrow_key)
    (unknown,) = world.coordinator.reconcile(from_block=0).discrepancies
    assert (unknown.kind, unknown.amount) == ("unknown_escrow", Usdc("7"))
    found = next(p for p in world.coordinator.purchases() if p.escrow_id == escrow_id)
    assert (found.agent, found.status, found.amount) == (None, "funded", Usdc("7"))
    assert world.usage() == (Usdc("32"), ZERO)
    assert world.status(refused) == "denied"
    world.unpause()


def test_an_escrow_that_another_process_opened_and_did_not_fund_is_an_unknown_escrow(
    world: World,
) -> None:
    world.fund()
    escrow_id = open_elsewhere(world, "7.00", fund=False)
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, found.amount, found.escrow_id) == (
        "unknown_escrow",
        Usdc("7"),
        escrow_id,
    )
    assert world.usage() == (Usdc("25"), ZERO)


def test_usdc_that_left_outside_the_ledger_is_an_unexplained_outflow(world: World) -> None:
    world.fund()
    world.send_usdc_away("12.50")
    world.chain.mine()
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, found.amount) == ("unexplained_outflow", Usdc("12.50"))
    assert world.chain.stranger.lower() in found.detail
    assert world.moves()[-1] == ("outflow", "12.50")
    assert world.coordinator.report().as_dict()["discrepancies"] == [found.as_dict()]


def test_a_foreign_transaction_on_our_nonce_displaces_the_step_and_is_told(world: World) -> None:
    world.fund()
    asked = world.buy_and_send()
    create, link = world.in_flight()
    world.send_usdc_away("12.50", nonce=hex(create.nonce))
    for _ in range(6):
        world.chain.mine()
        world.round()
    world.unpause()
    world.go()
    status = dict(world.rows("SELECT id, status FROM steps"))
    assert (status[create.id], status[link.id]) == ("displaced", "reverted")
    told = world.rows("SELECT subject FROM audit WHERE event = 'foreign_transaction'")
    assert told == [(asked.id,)]
    # The purchase is created anew and funded once.
    purchase = world.get(asked)
    assert purchase.status == "funded"
    assert world.chain.remaining(purchase.escrow_key) == Usdc("25")
    assert world.moves(purchase) == [("fund", "25.00")]
    assert world.discrepancies() == [("unexplained_outflow", "12.50")]


def test_a_balance_that_no_transfer_explains_differs(world: World) -> None:
    world.fund()
    world.chain.set_balance(world.treasury, Usdc("980"))
    assert world.discrepancies() == [("balance_differs", "5.00")]
    world.chain.set_balance(world.treasury, Usdc("970"))
    assert world.discrepancies() == [("balance_differs", "-5.00")]


def test_an_explained_difference_stays_explained_while_the_chain_goes_on(world: World) -> None:
    world.fund()
    world.chain.set_balance(world.treasury, Usdc("980"))
    (found,) = world.coordinator.reconcile().discrepancies
    world.wiring.operations.explain(found.id, by="alice", reason="a gift", now=world.clock())
    world.fund("10.00")
    assert world.discrepancies() == []
    assert world.wiring.reconciler.drift() == ZERO
    # Another difference is not.
    world.chain.set_balance(world.treasury, Usdc("971"))
    world.chain.mine()
    assert world.discrepancies() == [("balance_differs", "6.00")]


def test_a_state_behind_the_chains_is_named(world: World) -> None:
    purchase = world.fund()
    assert purchase.escrow_id is not None
    world.chain.deliver(purchase.escrow_id)
    world.go()
    world.edit("UPDATE escrows SET state = 'funded' WHERE escrow_id = ?", purchase.escrow_id)
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, found.escrow_id, found.purchase_id) == (
        "state_behind",
        purchase.escrow_id,
        purchase.id,
    )
    assert found.detail == "the chain says delivered, the ledger funded"


def test_an_amount_unlike_the_chains_is_named(world: World) -> None:
    purchase = world.fund()
    world.edit("UPDATE escrows SET amount = 24000000")
    assert world.discrepancies() == [("amount_differs", "1.00")]
    world.edit("UPDATE escrows SET amount = 25000000")
    world.edit("UPDATE journal SET amount = 24000000 WHERE kind = 'fund'")
    assert sorted(world.discrepancies()) == [
        ("balance_differs", "-1.00"),
        ("escrow_balance_differs", "1.00"),
    ]
    assert not verify(world.wiring.audit).ok
    assert world.get(purchase).status == "funded"


def test_a_hold_posted_unlike_its_entries_is_named(world: World) -> None:
    purchase = world.fund()
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.coordinator.settle(purchase.id, approver="alice").done
    world.go()
    world.check_books()
    world.edit("UPDATE holds SET posted = 20000000")
    found = world.discrepancies()
    assert ("posted_differs", "-5.00") in found
    # Organisation, agent and provider, each by hour and in total; the organisation's limited day.
    assert found.count(("counter_differs", "5.00")) == 7


def test_explaining_closes_one_discrepancy_and_is_audited(world: World) -> None:
    world.fund()
    for amount in ("1.00", "2.00"):
        world.send_usdc_away(amount)
        world.chain.mine()
    first, second = world.coordinator.reconcile().discrepancies
    assert (first.amount, second.amount) == (Usdc("1"), Usdc("2"))
    world.wiring.operations.explain(first.id, by="alice", reason="paid by hand", now=world.clock())
    assert world.coordinator.reconcile().discrepancies == (second,)
    told = world.rows("SELECT subject FROM audit WHERE event = 'discrepancy_explained'")
    assert told == [(first.id,)]
    # The books are as they were.
    assert world.moves()[-2:] == [("outflow", "1.00"), ("outflow", "2.00")]
    assert verify(world.wiring.audit).ok


def test_deposits_and_approved_withdrawals_are_no_discrepancies(world: World) -> None:
    chain = world.chain
    world.fund()
    chain.token_admin("mint", chain.stranger, Usdc("3").base_units)
    chain.send(
        chain.stranger,
        chain.deployment.usdc,
        token_abi().call("transfer", world.treasury, Usdc("3").base_units),
    )
    chain.mine()
    order = world.wiring.treasury.withdraw(
        to=chain.payee, amount="100", approver="alice", reason="back to the bank"
    )
    world.go()
    assert world.rows("SELECT status FROM orders WHERE id = ?", order.id) == [("done",)]
    assert chain.balance(chain.payee) == Usdc("100")
    assert world.moves()[-2:] == [("deposit", "3.00"), ("outflow", "100.00")]
    report = world.coordinator.report().as_dict()
    assert (report["deposits"], report["withdrawals"], report["closing"]) == (
        "1003.00",
        "100.00",
        "878.00",
    )
    world.check_books()


def test_the_journal_may_open_with_what_the_treasury_holds(world: World) -> None:
    world.fund()
    now = world.chain.height + 1
    late = world.open(world.store.url("late"), start_block=str(now))
    found = late.reconcile()
    assert found.discrepancies == ()
    (opening,) = late.wiring.journal.entries()
    assert (opening.kind, opening.amount) == ("opening", Usdc("975"))
    assert opening.block_number == now - 1


def test_an_escrow_whose_amount_was_changed_with_our_key_elsewhere_is_not_funded(
    world: World,
) -> None:
    chain = world.chain
    asked = world.buy_and_send()
    link = world.hold_back(lambda step: step.kind is StepKind.LINK)
    chain.mine()
    world.round()
    escrow_id = world.get(asked).escrow_id
    chain.move(chain.provider, escrow_id, EscrowState.QUOTED)
    accept = kernel_abi().call("acceptQuote", escrow_id, Usdc("40").base_units)
    world.send_as_treasury(chain.deployment.kernel, accept, nonce=hex(link[0].nonce))
    chain.mine()
    assert world.discrepancies() == [("amount_differs", "15.00")]
    world.go()
    cancelled = world.get(asked)
    assert (cancelled.status, cancelled.escrow_id) == ("cancelled", escrow_id)
    assert cancelled.reason is not None and cancelled.reason.code == "paused"
    assert chain.state(escrow_id) is EscrowState.CANCELLED
    assert chain.balance(world.treasury) == Usdc("1000")
    world.check_nothing_spent()


def test_an_amount_that_changes_before_the_link_is_made_again_is_not_funded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.executor.due._RETRY_SECONDS", 0)
    chain = world.chain
    asked = world.buy_and_send()
    # The link misses its escrow, and is made again in the next round.
    chain.set_create_nonce(world.treasury, 1)
    (create,) = (s for s in world.in_flight() if s.kind is StepKind.CREATE)
    chain.mine()
    (created,) = chain.receipt(create.attempts[-1].hash)["logs"]
    escrow_id = created["topics"][1]
    chain.move(chain.provider, escrow_id, EscrowState.QUOTED)
    accept = kernel_abi().call("acceptQuote", escrow_id, Usdc("40").base_units)
    world.send_as_treasury(chain.deployment.kernel, accept)
    chain.mine()
    # The foreign transaction pauses spending, and the escrow outlives that pause.
    chain.kernel_admin("pause")
    chain.mine()
    world.round()
    assert world.status(asked) == "created"
    chain.kernel_admin("unpause")
    chain.mine()
    world.unpause()
    world.go()
    cancelled = world.get(asked)
    assert (cancelled.status, cancelled.escrow_id) == ("cancelled", escrow_id)
    assert cancelled.reason is not None
    assert "changed to 40.00 USDC on chain" in cancelled.reason.message
    assert chain.balance(world.treasury) == Usdc("1000")
    world.check_nothing_spent()


def test_an_interrupted_comparison_goes_on_where_it_stopped_and_keeps_what_it_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.fund()
    world.chain.mine(12)
    world.go()
    world.edit("UPDATE journal SET amount = 1 WHERE escrow_key = ?", purchase.escrow_key)
    monkeypatch.setattr("coordinator.books.ranges.RANGE_MAX", 3)
    (first,) = (e.block_number for e in world.entries() if e.escrow_key == purchase.escrow_key)
    reached: list[int] = []

    def stop(_: int, until: int, to: int) -> None:
        reached.append(until)
        if until > first + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.coordinator.reconcile(from_block=1, progress=stop)
    assert reached[-1] < world.chain.height
    world.restart()
    went_on: list[int] = []
    found = world.coordinator.reconcile(
        from_block=1, progress=lambda _, until, to: went_on.append(until)
    )
    assert min(went_on) > reached[-1]
    assert went_on[-1] == world.chain.height
    assert [d.kind for d in found.discrepancies].count("entry_differs") == 1
    # A comparison that came to its end begins anew.
    assert world.rows("SELECT count(*) FROM rescans") == [(0,)]


def test_an_endpoint_that_takes_short_ranges_is_followed_and_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fund()
    world.chain.mine(40)
    world.go()
    late = world.open(world.store.url("late"))
    for reader in (late, world.coordinator):
        BadEndpoint(reader.wiring.rpc, monkeypatch, taking_at_most(3))
    reached: list[int] = []
    found = late.reconcile(from_block=1, progress=lambda _, until, to: reached.append(until))
    assert found.to_block == world.chain.height
    assert reached[-1] == world.chain.height
    again = world.coordinator.reconcile(from_block=1)
    assert (again.discrepancies, again.to_block) == ((), world.chain.height)
    assert again.events == found.events > 0


def test_of_many_differences_some_are_kept_and_all_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fund()
    world.chain.mine(20)
    world.go()
    for number in range(20):
        world.edit(
            "INSERT INTO journal (block_hash, log_index, block_number, tx_hash, at, kind, debit,"
            " credit, amount) VALUES ('0xdead', ?, ?, '0xbeef', 0, 'deposit', 'own:0xa1',"
            " 'opening', 1)",
            number,
            world.chain.height - number,
        )
    monkeypatch.setattr("coordinator.books.ranges.RANGE_MAX", 2)
    monkeypatch.setattr("coordinator.domain.chain.reconciliation.FOUND_MAX", 3)
    sizes: list[int] = []

    def look(_: int, until: int, to: int) -> None:
        sizes.extend(size for (size,) in world.rows("SELECT length(found) FROM rescans"))

    found = world.coordinator.reconcile(from_block=1, progress=look).discrepancies
    kinds = Counter(d.kind for d in found)
    assert (kinds["entry_unknown"], kinds["more_entries_differ"]) == (3, 1)
    assert [d.detail for d in found if d.kind == "more_entries_differ"] == [
        "17 more entries from block 1 on differ"
    ]
    # What is kept for going on does not grow with what is found.
    assert len({size for size in sizes[-6:]}) <= 2
    assert max(sizes) < 2000
