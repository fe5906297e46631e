"""A database of the first schema, with purchases in flight, is upgraded and goes on."""

from __future__ import annotations

import json
from hashlib import sha256

from coordinator import Coordinator, Usdc
from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain_events import EscrowState
from coordinator.ledger.migrate import HEAD, revision
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both

_KEPT = ("purchases", "holds", "hold_charges", "counters", "journal", "escrows", "approvals")
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


def test_an_upgrade_keeps_purchases_in_flight(opener: Opener, database: str) -> None:
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
    waiting = ask(agent, "75.00")
    books = coordinator.wiring.books.cursor()
    take_back_to_the_first_schema(coordinator, database)
    before = kept(database)
    coordinator.close()

    coordinator = opener()
    wiring = coordinator.wiring
    assert revision(wiring.database) == HEAD
    assert kept(database) == before
    assert wiring.audit.verify().faults == ()
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
