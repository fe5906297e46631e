"""A database of the first schema, with purchases in flight, is upgraded and goes on."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from alembic import command
from alembic.config import Config

from coordinator import Coordinator, Usdc
from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain_events import EscrowState, EventKind
from coordinator.domain.escrow_key import service_hash
from coordinator.domain.purchase import Purchase
from coordinator.domain.steps import Attempt, Call, StepKind
from coordinator.ledger import migrate as migrations
from coordinator.ledger.database import open_database
from coordinator.ledger.migrate import HEAD, revision
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import PROVIDER, ask, edit, rows
from tests.integration.ledger.test_migrations import schema
from tests.integration.stores import Store, on_both

pytestmark = on_both

_KEPT = (
    *("purchases", "holds", "hold_charges", "counters", "journal", "escrows", "approvals"),
    *("idempotency_keys", "steps", "attempts", "leases", "audit"),
)
_ENTRY = "block_number, block_hash, log_index, tx_hash, at, kind, debit, credit, amount, escrow_key"


def take_back_to_the_first_schema(coordinator: Coordinator, database: str) -> None:
    """Leave the database as version 0001 would have written it."""
    for statement in (
        "DROP TABLE escrow_events",
        "DROP TABLE rescans",
        "DROP INDEX purchases_ended",
        "DROP INDEX attempts_block",
        "DELETE FROM cursors WHERE name = 'final'",
        "UPDATE alembic_version SET version_num = '0001'",
    ):
        edit(database, statement)
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
    return {t: sorted(rows(database, f"SELECT * FROM {t}"), key=repr) for t in _KEPT}


def make_at_the_first_version(database: str) -> str:
    """A fresh database as the first migration alone leaves it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    opened = open_database(database)
    with opened.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    opened.close()
    return database


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
    steps = wiring.steps.allocate(lease, calls, nonce_floor=0, chain_time=now, now=now)
    books = wiring.books.cursor()
    assert books is not None
    # The feed names a transaction after its block: the create is the next one's.
    fees = {"max_fee_per_gas": 2, "max_priority_fee_per_gas": 1}
    signed = [
        (step, Attempt(hash=f"0x{books.number + 1 + number:064x}", raw="0x02", **fees))
        for number, step in enumerate(steps)
    ]
    fill = Call(kind=StepKind.FILL, to=PROVIDER, data="0x", gas_limit=1)
    assert len(wiring.steps.store_attempts(lease, signed, fill=fill, chain_time=now, now=now)) == 2


def test_an_upgrade_keeps_purchases_in_flight(opener: Opener, database: str, store: Store) -> None:
    coordinator = opener()
    feed = ChainFeed(coordinator)
    feed.open("1000")
    agent = coordinator.agent("ada")
    asked, funded, delivered, settled = (ask(agent, f"1{n}.00") for n in range(4))
    for purchase in (funded, delivered, settled):
        feed.fund(purchase)
    for purchase in (delivered, settled):
        feed.move(purchase, EscrowState.STARTED)
        feed.move(purchase, EscrowState.DELIVERED)
    feed.settle(settled)
    feed.finalise()
    waiting, created = ask(agent, "75.00"), ask(agent, "9.00")
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
    take_back_to_the_first_schema(coordinator, database)
    assert schema(database) == schema(make_at_the_first_version(store.make(store.url("first"))))
    before = kept(database)
    coordinator.close()

    coordinator = opener()
    wiring = coordinator.wiring
    assert revision(wiring.database) == HEAD
    assert kept(database) == before
    assert wiring.audit.verify().faults == ()
    assert len(wiring.steps.in_flight()) == 2
    assert not rows(
        database,
        "SELECT escrow_id FROM escrows WHERE escrow_id NOT IN"
        " (SELECT escrow_id FROM escrow_events)",
    )
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
    assert wiring.audit.verify().faults == ()
