"""A batch of events is folded at once, to the rows that its events one by one would make."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import Block, ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, edit, rows
from tests.integration.ledger.test_decision_cost import recorded
from tests.integration.stores import Store, on_both

OPENED = 100
WHOLE = (EscrowState.STARTED, EscrowState.DELIVERED, EscrowState.SETTLED)
FOLDED = {
    "escrow_events": "SELECT * FROM escrow_events ORDER BY block_number",
    "escrows": "SELECT * FROM escrows ORDER BY seq",
    "purchases": "SELECT id, status, stranded, ended_at_block, reason_code, reason_message"
    " FROM purchases ORDER BY seq",
    "holds": "SELECT purchase_id, amount, status FROM holds ORDER BY id",
    "counters": "SELECT scope_kind, scope_id, held FROM counters WHERE held > 0 ORDER BY id",
    "pauses": "SELECT scope_kind, reason, by FROM pauses",
    "audit": "SELECT event, subject, body FROM audit WHERE event = 'paused' OR subject LIKE 'pur_%'"
    " AND event <> 'purchase_approved' ORDER BY seq",
}

Events = list[dict[str, Any]]


def opened(purchase: Purchase, number: int, **terms: Any) -> Events:
    of = {"provider": purchase.provider, "amount": purchase.amount, **terms}
    made = {"kind": EventKind.ESCROW_CREATED, "escrow_id": f"0x{number:064x}", "deadline": 90_000}
    return [{**made, "service_hash": service_hash(purchase.service), **of}]


def funded(purchase: Purchase, number: int, **terms: Any) -> Events:
    of = {"escrow_key": purchase.escrow_key, "provider": purchase.provider, **terms}
    of = {"amount": purchase.amount, **of}
    return [{"kind": EventKind.ESCROW_FUNDED, "escrow_id": f"0x{number:064x}", **of}]


def moved(number: int, *states: EscrowState) -> Events:
    of = {"kind": EventKind.ESCROW_MOVED, "escrow_id": f"0x{number:064x}"}
    return [{**of, "state": state} for state in states]


def lives(purchases: Sequence[Purchase]) -> Events:
    """Every way in which an escrow finds its purchase, or does not, and moves it."""
    whole, twice, dropped, jumped = purchases
    foreign = {"escrow_key": "0x" + "f" * 64}
    return [
        # Created by us, cancelled, and made again.
        *opened(twice, 1),
        *opened(whole, 2),
        *funded(whole, 2),
        *moved(1, EscrowState.QUOTED, EscrowState.CANCELLED),
        *opened(twice, 3),
        *moved(2, *WHOLE),
        *funded(twice, 3),
        # An escrow that nobody opened for us, and one under a key that no purchase has.
        *moved(99, EscrowState.SETTLED),
        *opened(dropped, 4),
        *funded(dropped, 4, **foreign),
        *moved(4, *WHOLE),
        # Under a purchase's key for other terms.
        *opened(dropped, 5, amount=Usdc("7")),
        *funded(dropped, 5, amount=Usdc("7")),
        *opened(jumped, 6),
        *funded(jumped, 6),
        # The table of moves does not have this one.
        *moved(6, EscrowState.SETTLED),
        *moved(3, EscrowState.STARTED, EscrowState.CANCELLED),
    ]


def apply(coordinator: Coordinator, events: Events, *, each: int) -> None:
    """Put the events into the books, a block for each, so many blocks in a batch."""
    books, now = coordinator.wiring.books, coordinator.wiring.clock()
    for start in range(0, len(events), each):
        cursor = books.cursor()
        assert cursor is not None
        made = []
        for number, event in enumerate(events[start : start + each], cursor.number + 1):
            to = Block(number, f"0x{number:064x}", 1000 + number)
            where: Any = {
                "block_number": number,
                "block_hash": to.hash,
                "at": to.at,
                "log_index": 0,
            }
            made.append(ChainEvent(tx_hash=f"0x{number:060x}cafe", **where, **event))
        batch = EventBatch(cursor.number, cursor.hash, to, tuple(made))
        assert books.apply(batch, now=now)


def folded(coordinator: Coordinator, database: str, *, each: int) -> dict[str, str]:
    """All that is folded from the events, with names that are the same in every database."""
    ChainFeed(coordinator).open("1000")
    purchases = [ask(coordinator.agent("ada"), f"{amount}.00") for amount in range(1, 5)]
    # Who created an escrow that has no key is told by the hash of the step's transaction.
    edit(
        database,
        "INSERT INTO steps (id, chain_id, signer, nonce, kind, status, purchase_id, recipient,"
        " data, gas_limit, created_at, mac) VALUES (1, 1, 'us', 0, 'create', 'signed', ?, '', '',"
        " 0, 0, '')",
        purchases[1].id,
    )
    edit(
        database,
        "INSERT INTO attempts (hash, step_id, raw, max_fee_per_gas, max_priority_fee_per_gas,"
        " signed_at) VALUES (?, 1, '', 0, 0, 0)",
        f"0x{OPENED + 1:060x}cafe",
    )
    apply(coordinator, lives(purchases), each=each)
    told = {name: json.dumps(rows(database, query)) for name, query in FOLDED.items()}
    names: dict[str, str] = {
        purchase.escrow_key: f"key {n}" for n, purchase in enumerate(purchases)
    }
    for purchase_id in re.findall("pur_[0-9a-f]+", json.dumps(told)):
        names.setdefault(purchase_id, f"purchase {len(names)}")
    for name, same in names.items():
        told = {table: text.replace(name, same) for table, text in told.items()}
    return told


@on_both
def test_the_rows_do_not_depend_on_how_events_are_cut_into_batches(
    opener: Opener, store: Store
) -> None:
    found = []
    for each in (1, 4, 1000):
        database = store.url(f"each_{each}")
        found.append(folded(opener(database=database), database, each=each))
    one_by_one = found[0]
    statuses = [row[1] for row in json.loads(one_by_one["purchases"])]
    assert statuses == ["settled", "cancelled", "approved", "settled", "settled"]
    assert "contradiction" in one_by_one["audit"]
    assert "escrow_attributed" in one_by_one["audit"]
    for others in found[1:]:
        assert others == one_by_one


def test_a_batch_of_many_escrows_takes_as_few_reads_as_one_of_few(opener: Opener) -> None:
    coordinator, taken = opener(), []
    ChainFeed(coordinator).open("1000")
    for count in (8, 64):
        purchases = [ask(coordinator.agent("ada")) for _ in range(count)]
        events = [
            event
            for number, purchase in enumerate(purchases, count * 1000)
            for event in (*opened(purchase, number), *funded(purchase, number))
        ]
        with recorded(coordinator) as statements:
            apply(coordinator, events, each=len(events))
        taken.append(sum(s.startswith("SELECT") for s in statements))
    few, many = taken
    assert many == few
