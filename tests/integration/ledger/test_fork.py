"""A forked child uses and closes nothing that its parent opened."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.domain.errors import CoordinatorError, LedgerUnavailable
from coordinator.ledger.store.opening import open_database
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    Clock,
    ask,
    assert_books_agree,
    open_coordinator,
    policy,
    rows,
)
from tests.integration.ledger.forking import Forked
from tests.integration.stores import is_postgresql, on_both, url_of

pytestmark = on_both


def test_a_forked_child_is_refused_and_closes_nothing_of_its_parent(opener: Opener) -> None:
    coordinator = opener()
    hold = coordinator.agent("ada").hold("1.00", category="data")
    session = coordinator.open_session("s-1")

    def use_everything() -> list[str]:
        told = []
        for use in (
            lambda: ask(coordinator.agent("ada")),
            lambda: coordinator.purchases(),
            lambda: coordinator.approve("apr_1", approver="alice"),
            lambda: hold.post("0.50"),
            lambda: session.report(),
            lambda: coordinator.start(),
            lambda: coordinator.observe(print),
        ):
            try:
                use()
                told.append("was let in")
            except CoordinatorError as fault:
                told.append(f"{type(fault).__name__} {fault.money_moved}")
        with coordinator:
            pass
        coordinator.close()
        gc.collect()
        return told

    assert set(Forked(use_everything).answer()) == {"ForkedProcess False"}
    assert ask(coordinator.agent("ada")).status == "approved"
    assert hold.post("0.50").status == "posted"


@pytest.mark.usefixtures("whole")
def test_a_child_that_opens_its_own_keeps_its_answers_when_the_parent_closes(
    opener: Opener, database: str
) -> None:
    changes = {"organisation": {"total_limit": "10"}}
    parent = opener(changes)
    assert ask(parent.agent("ada")).status == "approved"
    let_go, go = os.pipe()

    def ask_nine_times() -> list[str]:
        own = open_coordinator(database, policy(changes), clock=Clock(), lock_timeout_seconds=20)
        first = ask(own.agent("ada")).status.value
        os.read(let_go, 1)
        return [first] + [ask(own.agent("ada")).status.value for _ in range(7)]

    child = Forked(ask_nine_times)
    while len(rows(database, "SELECT id FROM purchases")) < 2:
        os.sched_yield()
    parent.close()
    os.write(go, b"x")
    answered = child.answer()
    other = opener(changes)
    answered += [ask(other.agent("bert")).status.value for _ in range(5)]
    os.close(let_go)
    os.close(go)

    assert answered.count("approved") == 9
    held = rows(database, "SELECT count(*), sum(amount) FROM holds WHERE status = 'held'")
    assert [tuple(map(int, row)) for row in held] == [(10, 10_000_000)]


@pytest.mark.usefixtures("whole")
def test_children_forked_while_threads_decide_all_decide(opener: Opener, database: str) -> None:
    coordinator = opener()
    ended = threading.Event()
    answered: list[str] = []

    def decide() -> None:
        while not ended.is_set():
            answered.append(ask(coordinator.agent("bert")).id)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()

    def decide_alone() -> list[str]:
        own = open_coordinator(database, policy(), clock=Clock(), lock_timeout_seconds=30)
        return [ask(own.agent("ada")).id]

    try:
        children = [Forked(decide_alone) for _ in range(3)]
        for child in children:
            answered += child.answer()
        refused = Forked(lambda: ask(coordinator.agent("ada")).id).answer()
    finally:
        ended.set()
        for thread in threads:
            thread.join()

    assert refused[0] == "ForkedProcess"
    stored = {row[0] for row in rows(database, "SELECT id FROM purchases")}
    assert stored == set(answered) and len(answered) == len(stored)


def test_a_fork_in_the_middle_of_a_transaction_leaves_it_to_the_parent(
    opener: Opener, database: str
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    transaction = coordinator.wiring.database.write()
    connection = transaction.__enter__()
    connection.execute(text("UPDATE purchases SET purpose = 'marked'"))

    def leave() -> list[str]:
        told = []
        for use in (
            lambda: connection.execute(text("UPDATE purchases SET purpose = 'the child was here'")),
            lambda: transaction.__exit__(None, None, None),
        ):
            try:
                use()
                told.append("was let in")
            except Exception as fault:
                told.append(type(fault).__name__)
        coordinator.close()
        gc.collect()
        return told

    assert Forked(leave).answer()[1] == "ForkedProcess"
    # The child has ended, and the lock is the parent's all the same.
    with pytest.raises(LedgerUnavailable, match="locked"):
        _write(database)
    connection.execute(text("UPDATE purchases SET service = 'marked'"))
    transaction.__exit__(None, None, None)

    assert rows(database, "SELECT purpose, service FROM purchases") == [("marked", "marked")]
    assert ask(coordinator.agent("ada")).status == "approved"
    _write(database)
    assert_books_agree(database)


def test_a_child_forked_inside_a_transaction_may_not_open_the_same_sqlite_file(
    opener: Opener, database: str
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))

    with coordinator.wiring.database.write():
        answer = Forked(lambda: _count(database)).answer()

    if is_postgresql(database):
        assert answer == 1
    else:
        assert answer[0] == "ForkedProcess" and "fork again" in answer[1]
    assert Forked(lambda: _count(database)).answer() == 1


def _count(database: str) -> int:
    opened = open_database(url_of(database))
    with opened.read() as connection:
        return len(connection.execute(text("SELECT id FROM purchases")).all())


def _write(database: str) -> None:
    opened = open_database(url_of(database), lock_timeout_seconds=1)
    try:
        with opened.write() as connection:
            connection.execute(text("UPDATE purchases SET id = id"))
    finally:
        opened.close()


_ENDS = """
import os, pathlib, sys
from coordinator import Coordinator
coordinator = Coordinator.from_env(policy=sys.argv[1], network="simulated", act=False)
coordinator.limits()
folder = pathlib.Path(coordinator.wiring.database.name).parent
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(folder.exists())
coordinator.close()
print(folder.exists())
"""


def test_a_child_that_ends_as_programs_do_leaves_the_parents_folder(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    run = [sys.executable, "-c", _ENDS, str(root / "coordinator/cli/templates/policy.toml")]
    env = {**os.environ, "PYTHONPATH": str(root)}
    said = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert said.stdout.split() == [b"True", b"False"], said.stderr.decode()
