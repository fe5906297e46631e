"""Which accounts are ours is the audit log's word alone, and their funds are judged apart."""

from __future__ import annotations

import pytest

from coordinator import ConfigurationError, Coordinator
from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain.accounts import OwnAccount, account_name
from coordinator.domain.chain.events import Block, EventBatch
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.errors import ChainUnavailable, LedgerTampered
from coordinator.domain.usdc import Usdc
from coordinator.ledger.chain.accounts import add_account, end_account
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import edit, rows
from tests.integration.ledger.test_hosts import SERVER_KEY, certify, forge, host_id
from tests.integration.stores import on_both

pytestmark = on_both

PAYER = "0x90F79bf6EB2c4f870365E785982E1f101E93b9" + "07"


@pytest.fixture
def feed(coordinator: Coordinator) -> ChainFeed:
    made = ChainFeed(coordinator)
    made.open("1000")
    return made


def add(coordinator: Coordinator, first_block: int) -> None:
    w = coordinator.wiring
    with w.transactions.write() as tx:
        add_account(tx, PAYER, first_block=first_block, now=w.clock())


def kinds(coordinator: Coordinator) -> list[EntryKind]:
    return [e.kind for e in coordinator.wiring.journal.entries()]


def test_what_goes_to_an_account_is_internal_once_the_log_tells_that_it_is_ours(
    coordinator: Coordinator, feed: ChainFeed
) -> None:
    w = coordinator.wiring
    feed.send(PAYER, "10")
    add(coordinator, first_block=102)
    feed.send(PAYER, "30")
    with w.transactions.write() as tx:
        end_account(tx, PAYER, last_block=102, now=w.clock())
    feed.send(PAYER, "50")
    outflow = EntryKind.OUTFLOW
    assert kinds(coordinator) == [EntryKind.OPENING, outflow, EntryKind.INTERNAL, outflow]
    assert [e.amount for e in w.journal.unexplained_outflows()] == [Usdc("10"), Usdc("50")]
    treasury = w.signer.address
    assert w.books.accounts() == (
        OwnAccount(treasury),
        OwnAccount(PAYER, first_block=102, last_block=102, place=1),
    )
    booked = w.journal.account_balances([treasury, PAYER])
    assert booked == {treasury: Usdc("910"), PAYER: Usdc("30")}
    assert w.journal.treasury_balance() == Usdc("940")
    (fault,) = verify(w.audit).faults
    assert f"no rotation names {PAYER}" in fault


def test_an_account_that_sql_adds_makes_no_theft_internal(
    coordinator: Coordinator, feed: ChainFeed, database: str
) -> None:
    add(coordinator, first_block=500)
    edit(
        database,
        "INSERT INTO audit (seq, at, event, subject, body, hash, host, signature)"
        " SELECT seq + 1, at, event, subject, ?, hash, host, signature FROM audit"
        " WHERE event = 'account_added' AND seq = (SELECT max(seq) FROM audit)",
        canonical_json({"address": PAYER, "first_block": 0}).decode(),
    )
    with pytest.raises(LedgerTampered):
        feed.send(PAYER, "30")
    assert kinds(coordinator) == [EntryKind.OPENING]


def test_an_account_whose_block_sql_changes_stops_the_books(
    coordinator: Coordinator, feed: ChainFeed, database: str
) -> None:
    add(coordinator, first_block=500)
    edit(database, "UPDATE audit SET body = replace(body, '500', '101') WHERE body LIKE '%500%'")
    with pytest.raises(LedgerTampered):
        feed.send(PAYER, "30")
    assert not verify(coordinator.wiring.audit).ok


def test_without_the_row_of_the_treasurys_own_account_nothing_is_booked(
    coordinator: Coordinator, feed: ChainFeed, database: str
) -> None:
    add(coordinator, first_block=500)
    (first,) = rows(database, "SELECT min(seq) FROM audit WHERE event = 'account_added'")
    edit(database, "DELETE FROM audit WHERE seq = ?", *first)
    with pytest.raises(LedgerTampered):
        feed.send(PAYER, "30")


def test_a_deciding_host_adds_no_account(
    coordinator: Coordinator, feed: ChainFeed, opener: Opener, database: str
) -> None:
    certify(coordinator)
    address = coordinator.wiring.signer.address
    server = opener(key=None, signer=f"address:{address}", host_key=SERVER_KEY, host_name="server")
    with pytest.raises(ConfigurationError, match="may decide and not act"):
        add(server, first_block=101)
    # Nor does whoever took its key and the id secret, which every host has.
    made = forge(
        coordinator, database, host_id(database, "server"), SERVER_KEY, "account_added", "accounts"
    )
    with pytest.raises(LedgerTampered, match=f"audit row {made} "):
        feed.send(PAYER, "30")


def test_what_was_read_for_other_accounts_is_not_booked(
    coordinator: Coordinator, feed: ChainFeed
) -> None:
    w = coordinator.wiring
    read_for = w.books.accounts()
    add(coordinator, first_block=500)
    cursor = w.books.cursor()
    assert cursor is not None
    to = Block(101, "0x" + "1" * 64, 1010)
    batch = EventBatch(cursor.number, cursor.hash, to, (), read_for)
    with pytest.raises(ChainUnavailable, match="accounts changed"):
        w.books.apply(batch, now=w.clock())
    assert w.books.cursor() == cursor


def test_accounts_of_one_name_are_one_whatever_the_letters() -> None:
    assert account_name(PAYER.lower()) == account_name("0x" + PAYER[2:].upper())
