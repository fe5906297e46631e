"""The cost of a decision does not depend on how many purchases came before.

Counted in statements and in SQLite's own instructions, so no machine's speed matters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from coordinator import Coordinator, Status
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import Clock, ask, assert_books_agree, rows
from tests.integration.ledger.history import copy_lives, live_one

GROWING = {
    *("purchases", "idempotency_keys", "holds", "counters", "audit", "costs", "notices"),
    *("approvals", "approval_decisions", "escrows", "journal", "steps", "attempts"),
}
HEAD_OF_LOG = "FROM audit ORDER BY audit.seq DESC\n LIMIT 1 OFFSET 0"
FEW, MANY = 10, 5_000
# A deeper tree costs a few instructions more; a scan would cost hundreds of times more.
TOLERANCE = 1.05
# One of each table and index that gets a row, those of its counters, and now and then a parent.
PAGES_MAX = 17

Statements = list[str]
Act = Callable[[Coordinator], Any]


@contextmanager
def watched(
    coordinator: Coordinator,
    watch: Callable[[sqlite3.Connection], None],
    leave: Callable[[sqlite3.Connection], None],
) -> Iterator[None]:
    """Every connection of the block, the driver's own: not all statements go by SQLAlchemy."""

    def watching(connection: sqlite3.Connection, *_: Any) -> None:
        watch(connection)

    def leaving(connection: sqlite3.Connection, *_: Any) -> None:
        leave(connection)

    database = coordinator.wiring.database
    engine = database.engine
    # Closed, so that the connection that writes is opened, and what is known read, within it.
    database.disconnect()
    event.listen(engine, "checkout", watching)
    event.listen(engine, "checkin", leaving)
    try:
        yield
    finally:
        database.disconnect()
        event.remove(engine, "checkout", watching)
        event.remove(engine, "checkin", leaving)


@contextmanager
def recorded(coordinator: Coordinator) -> Iterator[Statements]:
    """The statements of a block as SQLite runs them, with their values."""
    found: Statements = []
    with watched(
        coordinator,
        lambda connection: connection.set_trace_callback(found.append),
        lambda connection: connection.set_trace_callback(None),
    ):
        yield found


@contextmanager
def instructions(coordinator: Coordinator) -> Iterator[list[int]]:
    """How many instructions of SQLite's machine a block took."""
    count = [0]

    def step() -> int:
        count[0] += 1
        return 0

    with watched(
        coordinator,
        lambda connection: connection.set_progress_handler(step, 1),
        lambda connection: connection.set_progress_handler(None, 0),
    ):
        yield count


def plans(path: Path, statements: Statements) -> list[tuple[str, str]]:
    """(step of SQLite's plan, statement) of every step."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            (row[3], statement)
            for statement in statements
            if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]


def _approved(c: Coordinator) -> None:
    assert ask(c.agent("ada")).status is Status.APPROVED


def _denied(c: Coordinator) -> None:
    assert ask(c.agent("ada"), "0.50").status is Status.DENIED


def _waiting(c: Coordinator) -> None:
    assert ask(c.agent("ada"), "75.00").status is Status.AWAITING_APPROVAL
    (pending,) = c.approvals()
    assert c.approve(pending.id, approver="alice").done


def _rejected(c: Coordinator) -> None:
    purchase = ask(c.agent("ada"), "75.00")
    assert c.reject(purchase.approval_id or "", approver="bob", reason="no").done


def _known_key(c: Coordinator) -> None:
    bought = ask(c.agent("ada"), idempotency_key="again")
    assert ask(c.agent("ada"), idempotency_key="again").id == bought.id


def _cancelled(c: Coordinator) -> None:
    assert c.cancel(ask(c.agent("ada")).id, by="ada").done


def _checked(c: Coordinator) -> None:
    decision = c.agent("ada").check(provider="paper-api", amount="1.00", purpose="a paper")
    assert decision.outcome is Status.APPROVED


ACTS: list[Act] = [_approved, _denied, _waiting, _rejected, _known_key, _cancelled, _checked]


@pytest.fixture
def lived(coordinator: Coordinator, path: Path) -> str:
    """The purchase whose life is copied, after a first few copies."""
    purchase_id = live_one(coordinator)
    copy_lives(path, purchase_id, count=FEW)
    return purchase_id


def cost(coordinator: Coordinator, act: Act) -> tuple[int, int]:
    """(statements, instructions) of an act whose statements are compiled already.

    Leaves nothing open: what waits for the chain costs as long as it waits.
    """
    ChainFeed(coordinator).observe("1000000")
    _cancel_open(coordinator)
    act(coordinator)
    _cancel_open(coordinator)
    with recorded(coordinator) as statements, instructions(coordinator) as count:
        act(coordinator)
    return len(statements), count[0]


def _cancel_open(coordinator: Coordinator) -> None:
    for purchase in coordinator.purchases(status=["approved", "awaiting_approval"]):
        coordinator.cancel(purchase.id, by="ada")


def test_the_copied_past_is_one_that_the_books_agree_with(
    lived: str, coordinator: Coordinator, path: Path
) -> None:
    assert_books_agree(path)
    assert rows(path, "SELECT status, count(*) FROM purchases GROUP BY 1") == [("settled", FEW + 1)]
    assert coordinator.get("pur_7").provider_received == coordinator.get(lived).provider_received


@pytest.mark.parametrize("act", ACTS)
def test_a_decision_costs_the_same_after_ten_and_after_thousands_of_purchases(
    lived: str, coordinator: Coordinator, path: Path, act: Act
) -> None:
    few_statements, few_instructions = cost(coordinator, act)
    copy_lives(path, lived, count=MANY, first=FEW + 1)
    many_statements, many_instructions = cost(coordinator, act)

    assert many_statements == few_statements
    assert many_instructions <= few_instructions * TOLERANCE


def test_no_statement_of_a_decision_scans_a_table_that_grows(
    lived: str, coordinator: Coordinator, path: Path
) -> None:
    copy_lives(path, lived, count=MANY, first=FEW + 1)
    ChainFeed(coordinator).observe("1000000")
    with recorded(coordinator) as statements:
        for act in ACTS:
            act(coordinator)

    found = plans(path, statements)

    assert any(step.startswith("SEARCH counters") for step, _ in found)
    scans = {x for x in found if x[0].startswith("SCAN") and x[0].split()[1] in GROWING}
    # The log's head: one row from the end of the table itself.
    assert scans
    assert all(HEAD_OF_LOG in statement for _, statement in scans)
    sorted_by_hand = [x for x in found if x[0] == "USE TEMP B-TREE FOR ORDER BY"]
    assert not [x for x in sorted_by_hand if HEAD_OF_LOG in x[1]]
    assert not [x for x in found if "AUTOMATIC" in x[0]]
    searched = {step for step, _ in found if step.startswith("SEARCH counters")}
    whole_key = "(scope_kind=? AND scope_id=? AND window=? AND start=?)"
    assert all(whole_key in step or "(rowid=?)" in step for step in searched), searched


def test_a_scan_would_be_found(lived: str, coordinator: Coordinator, path: Path) -> None:
    copy_lives(path, lived, count=MANY, first=FEW + 1)
    with instructions(coordinator) as count:
        coordinator.wiring.purchases.sums_by("agent", since=None, until=None)
    with recorded(coordinator) as statements:
        coordinator.wiring.purchases.sums_by("agent", since=None, until=None)

    assert count[0] > MANY
    assert any(step.startswith("SCAN") for step, _ in plans(path, statements))


def test_a_decision_writes_few_pages(lived: str, coordinator: Coordinator, path: Path) -> None:
    copy_lives(path, lived, count=MANY, first=FEW + 1)
    ChainFeed(coordinator).observe("1000000")
    _approved(coordinator)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        for _ in range(20):
            _approved(coordinator)
        written = path.with_name(f"{path.name}-wal").stat().st_size

    # A header of the file, and one of each page.
    assert (written - 32) / (page_size + 24) / 20 <= PAGES_MAX


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_the_five_thousandth_decision_costs_what_the_tenth_did(
    coordinator: Coordinator, path: Path, clock: Clock
) -> None:
    ChainFeed(coordinator).open("1000000")
    agent = coordinator.agent("ada")

    def buy(count: int) -> None:
        for _ in range(count):
            clock.now += 10
            purchase = ask(agent)
            assert coordinator.cancel(purchase.id, by="ada").done

    buy(FEW)
    before = [cost(coordinator, act) for act in ACTS]
    buy(MANY)
    after = [cost(coordinator, act) for act in ACTS]

    for (few_statements, few), (many_statements, many) in zip(before, after, strict=True):
        assert many_statements == few_statements
        assert many <= few * TOLERANCE
    assert_books_agree(path)
