"""A database of the first schema, with purchases in flight, is upgraded and goes on."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from coordinator import Coordinator, Usdc
from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EscrowState, EventKind
from coordinator.domain.chain.steps import Attempt, Call, StepKind
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.migrate import HEAD, revision
from tests.integration.earlier import copy_into, in_columns_of, make_at
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    PROVIDER,
    ask,
    assert_books_agree,
    counters,
    edit,
    rows,
)
from tests.integration.stores import Store, on_both

pytestmark = on_both

_KEPT = (
    *("purchases", "journal", "escrows", "approvals", "policies"),
    *("idempotency_keys", "steps", "attempts", "leases", "audit"),
)
_ENTRY = "block_number, block_hash, log_index, tx_hash, at, kind, debit, credit, amount, escrow_key"


def as_the_first_schema(coordinator: Coordinator, database: str) -> None:
    """What version 0001 wrote otherwise."""
    edit(database, "DELETE FROM cursors WHERE name = 'final'")
    audit, previous = coordinator.wiring.audit, "0" * 64
    for seq, at, event, subject, body in rows(
        database, "SELECT seq, at, event, subject, body FROM audit ORDER BY seq"
    ):
        written = event == "journal_written"
        text = first_form(database, json.loads(body)) if written else body
        previous = audit._hash(previous, seq, at, event, subject, text)
        edit(database, "UPDATE audit SET body = ?, hash = ? WHERE seq = ?", text, previous, seq)


def first_form(database: str, body: dict[str, object]) -> str:
    """One digest for all the blocks of a batch."""
    del body["blocks"]
    written = rows(
        database,
        f"SELECT {_ENTRY} FROM journal WHERE block_number > ? AND block_number <= ?"
        " ORDER BY block_number, log_index",
        body["after"],
        body["to"],
    )
    digest = sha256(canonical_json([list(row) for row in written])).hexdigest()
    return canonical_json({**body, "digest": digest}).decode()


def kept(database: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of what an upgrade leaves as it is."""
    return {t: sorted(rows(database, f"SELECT * FROM {t}"), key=repr) for t in _KEPT}


def holds(database: str) -> list[tuple[object, ...]]:
    columns = "id, kind, purchase_id, amount, status, posted, placed_at, ended_at"
    return rows(database, f"SELECT {columns} FROM holds ORDER BY id")


def charges(database: str) -> set[tuple[object, ...]]:
    return set(
        rows(database, 'SELECT hold_id, scope_kind, scope_id, "window", start FROM hold_charges')
    )


def totals_of_new_scopes(database: str) -> dict[tuple[object, ...], tuple[int, int]]:
    """What an upgrade adds, summed up from purchases and holds."""
    sums: dict[tuple[object, ...], tuple[int, int]] = {}
    for agent, category, provider, task, session, status, amount, posted in rows(
        database,
        "SELECT p.agent, p.category, p.provider_name, p.task, p.session, h.status, h.amount,"
        " h.posted FROM holds h JOIN purchases p ON p.id = h.purchase_id"
        " WHERE h.kind = 'purchase'",
    ):
        scopes = {
            "provider": provider,
            "task": task,
            "session": session,
            "agent_category": f"{agent}/{category}",
            "task_category": task and f"{task}/{category}",
        }
        for kind, of in scopes.items():
            if of is not None:
                held, spent = sums.get((kind, of, "total", 0), (0, 0))
                held += amount if status == "held" else 0
                sums[kind, of, "total", 0] = (held, spent + posted)
    return {key: used for key, used in sums.items() if used != (0, 0)}


def sign_create_and_link(coordinator: Coordinator, purchase: Purchase, escrow_id: str) -> None:
    """Leave both steps in flight, each with its stored bytes."""
    wiring = coordinator.wiring
    lease = wiring.leases.acquire("one", seconds=60)
    assert lease is not None
    calls = [
        Call(
            kind=kind,
            to=PROVIDER,
            data="0x",
            gas_limit=1,
            purchase_id=purchase.id,
            escrow_id=escrow_id,
            usdc=usdc,
        )
        for kind, usdc in ((StepKind.CREATE, None), (StepKind.LINK, purchase.amount))
    ]
    now = wiring.clock()
    steps = wiring.steps.allocate(lease, calls, nonce_floor=0, chain_time=now, now=now, seen=None)
    books = wiring.books.cursor()
    assert books is not None
    # The feed names a transaction after its block: the create is the next one's.
    fees = {"max_fee_per_gas": 2, "max_priority_fee_per_gas": 1}
    signed = [
        (step, Attempt(hash=f"0x{books.number + 1 + number:064x}", raw="0x02", **fees))
        for number, step in enumerate(steps)
    ]
    fill = Call(kind=StepKind.FILL, to=PROVIDER, data="0x", gas_limit=1)
    assert (
        len(
            wiring.steps.store_attempts(
                lease, signed, fill=fill, chain_time=now, now=now, seen=None
            )
        )
        == 2
    )


@pytest.mark.parametrize("earlier", ["0001", "0002"])
def test_an_upgrade_keeps_purchases_in_flight(
    opener: Opener, database: str, store: Store, earlier: str
) -> None:
    # Before 0003 a policy could not limit the day of a category.
    limited = {"agents": {"ada": {"daily_limit": "500"}}, "pools": {"readers": {"agents": ["ada"]}}}
    coordinator = opener(limited)
    feed = ChainFeed(coordinator)
    feed.open("1000")
    agent = coordinator.agent("ada")
    runs = [{}, {"task": "t-1"}, {"task": "t-1", "session": "s-1"}, {"category": "data"}]
    asked, funded, delivered, settled = (
        ask(agent, f"1{n}.00", **run) for n, run in enumerate(runs)
    )
    for purchase in (funded, delivered, settled):
        feed.fund(purchase)
    for purchase in (delivered, settled):
        feed.move(purchase, EscrowState.STARTED)
        feed.move(purchase, EscrowState.DELIVERED)
    feed.settle(settled)
    feed.finalise()
    waiting = ask(agent, "75.00", task="t-2", session="s-1", category="data")
    created = ask(agent, "9.00")
    sign_create_and_link(coordinator, created, "0x" + "cc" * 32)
    feed._apply(
        {
            "kind": EventKind.ESCROW_CREATED,
            "escrow_id": "0x" + "cc" * 32,
            "provider": created.provider,
            "amount": created.amount,
            "service_hash": service_hash(created.service),
            "deadline": 90_000,
        }
    )
    assert coordinator.get(created.id).status == "created"
    books = coordinator.wiring.books.cursor()
    before = make_at(earlier, store.make(store.url("before")))
    copy_into(before, database)
    before.close()
    known, database = counters(database), store.url("before")
    if earlier == "0001":
        as_the_first_schema(coordinator, database)
    rows_before, holds_before = kept(database), holds(database)
    counters_before, charges_before = counters(database), charges(database)
    coordinator.close()

    coordinator = opener(limited, database=database)
    wiring = coordinator.wiring
    assert revision(wiring.database) == HEAD
    assert in_columns_of(rows_before, kept(database)) == rows_before
    assert holds(database) == holds_before
    assert charges(database) > charges_before
    added = totals_of_new_scopes(database)
    assert {kind for kind, *_ in added} == {
        "provider", "task", "session", "agent_category", "task_category"
    }  # fmt: skip
    pool = {("pool", "readers", "total", 0): known["agent", "ada", "total", 0]}
    assert counters(database) == counters_before | added | pool
    totals = {key: value for key, value in counters(database).items() if key[2] == "total"}
    assert totals == {key: value for key, value in known.items() if key[2] == "total"}
    assert_books_agree(database)
    assert verify(wiring.audit).faults == ()
    assert len(wiring.steps.in_flight()) == 2
    assert not rows(
        database,
        "SELECT escrow_id FROM escrows WHERE escrow_id NOT IN"
        " (SELECT escrow_id FROM escrow_events)",
    )
    if earlier == "0001":
        # What led to the rows is not known any more: nothing below can be taken back.
        assert wiring.books.final() == wiring.books.cursor() == books

    feed = ChainFeed(coordinator)
    feed.move(funded, EscrowState.STARTED)
    feed.settle(delivered)
    feed.fund(asked)
    assert coordinator.approve(waiting.approval_id or "", approver="alice").done
    assert [coordinator.get(p.id).status for p in (asked, funded, delivered, settled)] == [
        "funded",
        "started",
        "settled",
        "settled",
    ]
    feed.finalise()
    assert rows(
        database, "SELECT status, posted FROM holds WHERE purchase_id = ?", delivered.id
    ) == [("posted", Usdc("12").base_units)]
    assert verify(wiring.audit).faults == ()
    assert_books_agree(database)
    # An id that the upgrade gave out is not given out again.
    assert ask(coordinator.agent("bert"), task="t-9").status == "approved"
    assert_books_agree(database)
