"""The chain alone gives journal and escrows again, and nothing is bought twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import ConfigurationError, Coordinator, InvalidRequest, Purchase, Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.journal import Entry
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import on_both, on_both_payers, on_wallet
from tests.integration.test_reconcile import open_elsewhere
from tests.integration.world import AGENT, World

pytestmark = [on_both, on_both_payers]

HOUR = 3600
OTHER_TERMS = pytest.mark.parametrize("terms", [{"amount": "26.00"}, {"service": "other"}])


def lives(world: World) -> dict[str, str]:
    """Purchases in many states, by key: journal entries of every kind but the opening's."""
    chain = world.chain
    names = ("settled", "refunded", "lost", "won", "funded", "reclaimed", "delivered")
    made = {name: world.buy("20.00", idempotency_key=name) for name in names}
    world.go()
    world.send_usdc_away("1.00")
    chain.mine()
    world.round()
    if world.safe is None:
        world.unpause()
    unfunded = world.buy("30.00", idempotency_key="unfunded")
    world.round()
    chain.token_admin("pause")
    world.go()
    assert world.status(unfunded) == world.unfunded
    chain.token_admin("unpause")
    chain.mine()
    ids = {name: world.get(p).escrow_id for name, p in made.items()}
    chain.move(chain.provider, ids["refunded"], EscrowState.CANCELLED)
    for name in ("settled", "lost", "won", "delivered"):
        chain.deliver(ids[name])
    world.go()
    world.coordinator.settle(made["settled"].id, approver="alice")
    for name in ("lost", "won"):
        world.coordinator.dispute(made[name].id, approver="alice", reason="a test")
    world.go()
    chain.resolve(ids["lost"], requester="5.00", provider="15.00", provider_at_fault=False)
    chain.resolve(ids["won"], requester="20.00", provider="0.00", provider_at_fault=True)
    deadline = world.get(made["reclaimed"]).deadline
    assert deadline is not None
    chain.start(ids["funded"])
    world.pass_time_until(deadline)
    world.go()
    wanted = {
        "settled": "settled",
        "refunded": "cancelled",
        "lost": "settled",
        "won": "settled",
        "funded": "started",
        "reclaimed": "cancelled",
        "delivered": "delivered",
    }
    assert {name: world.status(p) for name, p in made.items()} == wanted
    return wanted


def all_entries(coordinator: Coordinator) -> list[Entry]:
    return list(coordinator.wiring.journal.entries())


def follow(coordinator: Coordinator, to: int) -> None:
    seen = coordinator.wiring.chain.observe()
    coordinator.wiring.follower.follow(replace(seen, readable=to, final=None))


def test_the_chain_alone_gives_the_same_journal_again(world: World) -> None:
    lives(world)
    before = all_entries(world.coordinator)
    assert {entry.kind.value for entry in before} == {
        "opening",
        "deposit",
        "outflow",
        "fund",
        "payout",
        "fee",
        "penalty",
        "refund",
        "bond",
        "bond_return",
        "bond_loss",
    }
    fresh = world.open(world.store.url("fresh"))
    follow(fresh, world.chain.height)
    assert all_entries(fresh) == before


def test_block_by_block_or_all_at_once_the_journal_is_the_same(world: World) -> None:
    lives(world)
    slow = world.open(world.store.url("slow"))
    for number in range(world.chain.height + 1):
        follow(slow, number)
    assert all_entries(slow) == all_entries(world.coordinator)


def test_a_lost_database_is_rebuilt_paused_and_agrees_with_the_chain(world: World) -> None:
    wanted = lives(world)
    before, usage = all_entries(world.coordinator), world.usage()
    world.restart(world.store.url("rebuilt"))
    world.database = world.store.url("rebuilt")
    found = world.coordinator.rebuild().discrepancies
    # Without the audit log, nobody is known to have asked for what the chain has.
    assert {d.kind for d in found} == {"unexplained_outflow", "unknown_escrow"}
    assert all_entries(world.coordinator) == before
    held, spent = world.usage()
    assert held + spent >= usage[0]
    denied = world.buy("1.00")
    assert denied.denied and denied.reason and denied.reason.code == "paused"
    world.go()
    # Nobody can be asked for what the chain does not have: bonds and agents.
    statuses = sorted(p.status.value for p in world.coordinator.purchases() if not p.denied)
    assert statuses == sorted(wanted.values())
    assert world.usage()[0] == usage[0]
    assert not world.coordinator.unpause("it was me", by=AGENT)
    assert world.coordinator.unpause("checked", by="alice")
    assert world.fund("1.00").status == "funded"


def test_what_a_rebuild_wrote_is_sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.executor.checkpoint.SEAL_ROWS", 1)
    world.fund("1.00")
    world.change_host()
    world.restart(world.store.url("rebuilt"))
    world.coordinator.rebuild()
    rows = world.coordinator.audit()
    told = [row["seq"] for row in rows if row["event"] == "escrow_attributed"]
    assert len(told) == 1
    assert told[0] <= world.wiring.checkpoints.sealed().count


def test_only_a_fresh_database_is_rebuilt(world: World) -> None:
    world.fund()
    with pytest.raises(ConfigurationError, match="needs an empty database"):
        world.coordinator.rebuild()


def test_after_a_rebuild_the_same_key_adopts_its_escrow_and_buys_nothing(world: World) -> None:
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    creates, nonce = chain.kernel("requesterNonces", world.treasury), chain.nonce(world.signer)
    world.database = world.store.url("rebuilt")
    world.restart(world.database)
    (unknown,) = world.coordinator.rebuild().discrepancies
    assert (unknown.kind, unknown.amount) == ("unknown_escrow", Usdc("25"))
    (unattributed,) = world.coordinator.purchases()
    assert (unattributed.agent, unattributed.status) == (None, "funded")
    assert world.usage() == (Usdc("25"), ZERO)
    assert world.usage("agent", AGENT) == (ZERO, ZERO)
    world.coordinator.unpause("checked", by="alice")

    with pytest.raises(IdempotencyConflict, match=r"was used on chain for 25\.00 USDC"):
        world.buy("26.00", idempotency_key="papers")
    again = world.buy("25.00", idempotency_key="papers")
    assert (again.id, again.status, again.escrow_id, again.agent) == (
        unattributed.id,
        "funded",
        bought.escrow_id,
        AGENT,
    )
    assert world.buy("25.00", idempotency_key="papers").id == again.id
    world.go()
    assert chain.kernel("requesterNonces", world.treasury) == creates
    assert chain.nonce(world.signer) == nonce
    assert chain.balance(world.treasury) == Usdc("975")
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("25"), ZERO)
    world.check_books()
    chain.deliver(bought.escrow_id, window_seconds=HOUR)
    world.pass_time(HOUR + 1)
    world.go()
    assert world.status(again) == "settled"
    world.check_books()


def test_without_a_rebuild_the_events_are_read_before_anything_is_created(world: World) -> None:
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    world.database = world.store.url("fresh")
    world.change_host()
    world.restart(world.database)
    again = world.buy("25.00", idempotency_key="papers")
    assert again.status == "approved"
    world.go()
    assert (world.status(again), world.get(again).escrow_id) == ("funded", bought.escrow_id)
    assert chain.kernel("requesterNonces", world.treasury) == 1
    assert chain.balance(chain.deployment.vault) == Usdc("25")
    world.check_books()


def ask_with_other_terms(world: World, database: str, terms: dict[str, str]) -> tuple[str, str]:
    """Fund under a key, lose the database, ask the same key otherwise; (first escrow, purchase)."""
    bought = world.fund("25.00", idempotency_key="papers")
    world.database = database
    world.change_host()
    world.restart(database)
    asked = world.buy(**({"amount": "25.00", "idempotency_key": "papers"} | terms))
    world.go()
    assert bought.escrow_id is not None
    return bought.escrow_id, asked.id


@OTHER_TERMS
def test_a_key_asked_again_with_other_terms_never_takes_the_first_escrow(
    world: World, terms: dict[str, str]
) -> None:
    first, asked = ask_with_other_terms(world, world.store.url("fresh"), terms)
    ended = world.coordinator.get(asked)
    assert ended.status == world.unfunded
    assert ended.reason is not None
    assert "Escrow ID already used" in ended.reason.message
    assert ended.escrow_id != first
    assert world.chain.balance(world.chain.deployment.vault) == Usdc("25")
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, found.amount, found.escrow_id) == ("unknown_escrow", Usdc("25"), first)


@OTHER_TERMS
def test_what_an_unowned_escrow_took_is_not_posted_to_the_purchase_of_its_key(
    world: World, terms: dict[str, str]
) -> None:
    _, asked = ask_with_other_terms(world, world.store.url("fresh"), terms)
    assert world.coordinator.get(asked).spent == ZERO
    world.check_nothing_spent()


@pytest.mark.parametrize("moment", ["approved", "sent"])
def test_a_restored_backup_does_not_buy_again(world: World, moment: str) -> None:
    chain = world.chain
    world.fund("1.00")
    asked = world.buy("25.00") if moment == "approved" else world.buy_and_send("25.00")
    backup = world.store.copy(world.database, "backup")
    world.go()
    chain.deliver(world.get(asked).escrow_id)
    nonce = chain.nonce(world.signer)
    world.database = backup
    # Whoever acted when it was made does so no more.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart(world.database)
    assert world.status(asked) == "approved"
    world.go()
    assert world.status(asked) == "delivered"
    assert chain.nonce(world.signer) == nonce
    assert world.usage() == (Usdc("26"), ZERO)
    world.check_books()


def test_a_second_funding_is_refused_by_the_kernel_and_the_first_is_adopted(
    make_world: Callable[..., World],
) -> None:
    world = make_world(confirmations="3")
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    assert world.status(bought) == "funded"
    # A fresh database reads only what is three blocks deep: it can't see the first one yet.
    link = next(t for t in bought.transactions if t.step == "link")
    assert link.block is not None
    chain.rpc.call("anvil_rollback", chain.height - link.block)
    world.database = world.store.url("fresh")
    world.change_host()
    world.restart(world.database)
    again = world.buy("25.00", idempotency_key="papers")
    world.round()
    parts = [call.kind for step in world.in_flight() for call in step.call.parts]
    assert parts[-2:] == [StepKind.CREATE, StepKind.LINK]
    world.go()
    adopted = world.get(again)
    assert (adopted.status, adopted.escrow_id) == ("funded", bought.escrow_id)
    refused = world.rows("SELECT DISTINCT revert_reason FROM steps WHERE status = 'reverted'")
    assert refused == [("Escrow ID already used",)]
    states = world.rows("SELECT escrow_id, state FROM escrows ORDER BY seq")
    assert [state for _, state in states] == ["funded", "cancelled"][: 1 if world.safe else 2]
    if world.safe is None:
        assert chain.state(states[1][0]) is EscrowState.CANCELLED
    assert chain.balance(chain.deployment.vault) == Usdc("25")
    assert world.usage() == (Usdc("25"), ZERO)
    chain.mine(3)
    world.go()
    world.check_books()


# With the audit log's export.


def export(world: World, to: Path) -> Path:
    to.write_bytes(b"".join(world.wiring.audit.export()))
    return to


def lose(world: World, name: str = "rebuilt") -> None:
    world.restart(world.store.url(name))


def a_team_at_work(world: World) -> dict[str, Purchase]:
    """Purchases of two agents at every point that a log may tell of."""
    alice, bob = {"approver": "alice"}, {"approver": "bob"}
    made = {
        "settled": world.to_settle("5.00"),
        "approved by a person": world.buy("60.00", idempotency_key="large", task="t", session="s"),
        "rejected": world.buy("61.00", idempotency_key="rejected"),
        "cancelled": world.buy("62.00", idempotency_key="cancelled"),
        "denied": world.buy("1001.00", idempotency_key="denied"),
        "funded": world.buy("20.00", idempotency_key="funded", agent="data-agent"),
    }
    assert made["approved by a person"].approval_id and made["rejected"].approval_id
    assert world.coordinator.approve(made["approved by a person"].approval_id, **alice).done
    world.coordinator.reject(made["rejected"].approval_id, **bob, reason="too dear")
    assert world.coordinator.cancel(made["cancelled"].id, by="alice").done
    if world.safe is None:
        payee = world.chain.stranger
        world.wiring.treasury.withdraw(to=payee, amount="10", approver="alice", reason="payday")
    world.go()
    made["waiting"] = world.buy("63.00", idempotency_key="waiting")
    made["approved"] = world.buy("21.00", idempotency_key="approved")
    assert world.coordinator.pause("late", by="alice", agent="data-agent")
    return made


UNCHANGED = ("settled", "approved by a person", "rejected", "cancelled", "denied", "funded")


def told(purchase: Purchase) -> dict[str, object]:
    """What must be the same as before: all but the chain's own transactions and gas."""
    left_out = {"transactions", "gas_wei", "updated_at"}
    return {k: v for k, v in purchase.as_dict().items() if k not in left_out}


def test_an_export_gives_back_who_asked_why_and_who_allowed_it(
    world: World, tmp_path: Path
) -> None:
    made = a_team_at_work(world)
    before = {name: told(world.get(made[name])) for name in UNCHANGED}
    counters = world.rows("SELECT * FROM counters WHERE scope_kind = 'agent' ORDER BY 1, 2, 3, 4")
    agents = {a: world.usage("agent", a) for a in (AGENT, "data-agent")}
    file, head = export(world, tmp_path / "audit.jsonl"), world.wiring.audit.head()
    nonce, balance = world.chain.nonce(world.signer), world.chain.balance(world.treasury)
    lose(world)

    found = world.coordinator.rebuild(audit=file, head=str(head))

    assert found.discrepancies == ()
    assert {name: told(world.get(made[name])) for name in UNCHANGED} == before
    for name, status in (("waiting", "expired"), ("approved", "failed")):
        lost = world.get(made[name])
        assert (lost.status, lost.escrow_id) == (status, None)
        assert lost.reason is not None and "another key" in lost.reason.message
        world.round()
        assert world.hold(lost) == ("voided", ZERO)
    freed = {AGENT: Usdc("84"), "data-agent": ZERO}
    for agent, (held, spent) in agents.items():
        assert world.usage("agent", agent) == (held - freed[agent], spent)
    assert len(counters) == len(world.rows("SELECT 1 FROM counters WHERE scope_kind = 'agent'"))
    assert verify(world.wiring.audit, head).ok
    assert {str(p) for p in world.wiring.operations.pauses()} == {
        "organisation",
        "agent:data-agent",
    }
    assert world.buy("20.00", idempotency_key="funded", agent="data-agent").id == made["funded"].id
    world.unpause()
    world.go()
    assert world.chain.nonce(world.signer) == nonce
    assert world.chain.balance(world.treasury) == balance
    assert world.buy("21.00", idempotency_key="approved").status == "failed"
    assert world.fund("21.00", idempotency_key="approved again").ok
    world.check_books()


def test_an_early_settle_that_was_ordered_is_carried_out_after_the_rebuild(
    world: World, tmp_path: Path
) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    assert world.coordinator.settle(bought.id, approver="alice").done
    file = export(world, tmp_path / "audit.jsonl")
    lose(world)
    world.coordinator.rebuild(audit=file)
    world.unpause()
    world.go()
    assert world.status(bought) == "settled"
    world.check_books()


def test_a_dispute_that_was_ordered_is_carried_out_after_the_rebuild(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(settle="on_delivery")
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.coordinator.pause("a doubt", by="olga", provider="paper-api")
    world.round()
    assert world.coordinator.dispute(bought.id, approver="alice", reason="empty").done
    assert world.coordinator.unpause("it is contested", by="alice", provider="paper-api")
    file = export(world, tmp_path / "audit.jsonl")
    lose(world)
    world.coordinator.rebuild(audit=file)
    world.unpause()
    world.go()
    assert world.status(bought) == "disputed"
    world.check_books()


def test_an_old_export_knows_less_and_still_nothing_is_paid_twice(
    world: World, tmp_path: Path
) -> None:
    waiting = world.buy("60.00", idempotency_key="waiting")
    asked = world.buy("20.00", idempotency_key="asked")
    file = export(world, tmp_path / "audit.jsonl")
    later = world.buy("22.00", idempotency_key="later")
    assert waiting.approval_id is not None
    world.coordinator.approve(waiting.approval_id, approver="alice")
    world.go()
    escrow_id = world.get(later).escrow_id
    balance = world.chain.balance(world.treasury)
    lose(world)
    world.coordinator.rebuild(audit=file)
    assert (world.status(waiting), world.status(asked)) == ("funded", "funded")
    assert world.usage("agent", AGENT) == (Usdc("80"), ZERO)
    assert world.usage() == (Usdc("102"), ZERO)
    again = world.buy("22.00", idempotency_key="later")
    assert (again.status, again.escrow_id) == ("funded", escrow_id)
    world.unpause()
    world.go()
    assert world.chain.balance(world.treasury) == balance
    world.check_books()


@pytest.mark.parametrize("change", ["edited", "cut", "reordered", "begins later", "no file"])
def test_a_changed_export_is_refused_and_nothing_is_written(
    world: World, tmp_path: Path, change: str
) -> None:
    world.fund()
    file = export(world, tmp_path / "audit.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    if change == "edited":
        lines[3] = lines[3].replace(b"research-agent", b"data-agent", 1).replace(b"1", b"2", 1)
    elif change == "cut":
        del lines[4]
    elif change == "reordered":
        lines[3], lines[4] = lines[4], lines[3]
    elif change == "begins later":
        del lines[1]
    file.write_bytes(b"".join(lines)) if change != "no file" else file.unlink()
    lose(world)
    with pytest.raises(InvalidRequest):
        world.coordinator.rebuild(audit=file)
    assert world.coordinator.purchases() == []
    assert world.wiring.books.cursor() is None
    assert {row["event"] for row in world.coordinator.audit()} <= {"host_added", "policy_activated"}


def test_an_interrupted_rebuild_goes_on_with_the_same_export_only(
    world: World, tmp_path: Path
) -> None:
    funded = world.fund("20.00", idempotency_key="funded")
    file = export(world, tmp_path / "audit.jsonl")
    world.fund("1.00")
    other = export(world, tmp_path / "other.jsonl")
    lose(world)

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    world.at(KillPoint.EVENTS_READ, kill)
    with pytest.raises(Killed):
        world.coordinator.rebuild(audit=file)
    assert world.status(funded) == "failed"
    assert world.hold(funded)[0] == "held"
    # What the old rows say of a journal that is not read yet holds no longer.
    assert verify(world.wiring.audit).ok
    world.restart(world.database)
    with pytest.raises(ConfigurationError, match="another"):
        world.coordinator.rebuild(audit=other)
    world.coordinator.rebuild(audit=file)
    assert (world.status(funded), world.hold(funded)[0]) == ("funded", "held")
    rows = [row["event"] for row in world.coordinator.audit()]
    assert rows.count("audit_imported") == 1
    # The export is older than the last purchase, so nothing says who asked for it.
    (unknown,) = world.coordinator.reconcile().discrepancies
    assert (unknown.kind, unknown.amount) == ("unknown_escrow", Usdc("1"))
    operations = world.wiring.operations
    operations.explain(unknown.id, by="alice", reason="asked for", now=world.clock())
    world.check_books()


def test_an_export_goes_into_a_fresh_database_only(world: World, tmp_path: Path) -> None:
    world.fund()
    file = export(world, tmp_path / "audit.jsonl")
    with pytest.raises(ConfigurationError, match="needs an empty database"):
        world.coordinator.rebuild(audit=file)


def test_a_database_is_rebuilt_from_the_log_of_a_rebuilt_one(world: World, tmp_path: Path) -> None:
    made = a_team_at_work(world)
    for number in (1, 2):
        file = export(world, tmp_path / f"audit-{number}.jsonl")
        lose(world, f"rebuilt-{number}")
        assert world.coordinator.rebuild(audit=file).discrepancies == ()
    assert world.status(made["approved"]) == "failed"
    assert world.status(made["funded"]) == "funded"
    assert world.usage("agent", "data-agent") == (Usdc("20"), ZERO)
    world.check_books()


@on_wallet
def test_a_theft_through_an_escrow_is_named_after_the_thief_was_paid_until_it_is_explained(
    world: World, tmp_path: Path
) -> None:
    chain = world.chain
    world.fund("25.00")
    escrow_id = open_elsewhere(world, "7.00")
    chain.start(escrow_id, chain.other_provider)
    chain.move(chain.other_provider, escrow_id, EscrowState.DELIVERED)
    world.go()
    world.unpause()
    world.pass_time_until(chain.window_ends(escrow_id) + 1)
    world.go()
    assert chain.state(escrow_id) is EscrowState.SETTLED
    stolen = [("unknown_escrow", "7.00")]
    assert world.discrepancies() == stolen
    (found,) = world.coordinator.reconcile(from_block=0).discrepancies
    assert "paid with the treasury's key" in found.detail

    lose(world, "without a log")
    assert [(d.kind, str(d.amount)) for d in world.coordinator.rebuild().discrepancies][-1:] == (
        stolen
    )
    world.restart(world.store.url())
    world.wiring.operations.explain(found.id, by="alice", reason="a theft", now=world.clock())
    assert world.discrepancies() == []
    file = export(world, tmp_path / "audit.jsonl")
    lose(world, "with its log")
    assert world.coordinator.rebuild(audit=file).discrepancies == ()
