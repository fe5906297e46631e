"""What a network between the program and its database can do, and what is told of it."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from coordinator import ConfigurationError, Coordinator, LedgerUnavailable, Status
from coordinator.config import Settings
from coordinator.domain.errors import CommitUnknown
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store import postgresql as ours
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.opening import open_database
from tests.integration.ledger.deciding import (
    Clock,
    append,
    ask,
    assert_books_agree,
    contents,
    open_coordinator,
    policy,
    rows,
)
from tests.integration.ledger.postgresql_proxy import Cut, Proxy, messages, proxied
from tests.integration.ledger.test_concurrency import at_once
from tests.integration.stores import PostgresqlServer, Store, name_of, on_postgresql

pytestmark = on_postgresql
PASSWORD = "not-for-logs"


def assert_one_sentence(fault: BaseException, *parts: str) -> None:
    message = str(fault)
    assert "\n" not in message
    assert "sqlalche" not in message
    assert len(message) < 300
    for part in parts:
        assert part in message
    assert PASSWORD not in "".join(traceback.format_exception(fault))


@pytest.fixture
def other(database: str, coordinator: Coordinator) -> Iterator[Database]:
    """Another process's view of the coordinator's database."""
    opened = open_database(database, lock_timeout_seconds=1)
    yield opened
    opened.close()


@pytest.fixture
def proxy(postgresql: PostgresqlServer) -> Iterator[Proxy]:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        proxied(Path(folder), postgresql.socket) as made,
    ):
        yield made


# The connection


def test_a_server_that_was_restarted_is_used_again_at_once(
    coordinator: Coordinator, database: str, postgresql: PostgresqlServer
) -> None:
    bought = ask(coordinator.agent("ada"))
    with pytest.raises(LedgerUnavailable) as told, coordinator.wiring.database.write() as writing:
        append(coordinator.wiring, writing, 1, "paused", "organisation")
        postgresql.restart()

    assert told.value.money_moved is None
    assert coordinator.get(bought.id).status is Status.APPROVED
    assert ask(coordinator.agent("ada")).status is Status.APPROVED
    assert verify(coordinator.wiring.audit).ok
    assert rows(database, "SELECT count(*) FROM audit WHERE event = 'paused'") == [(0,)]
    assert_books_agree(database)


@pytest.mark.parametrize("use", ["read", "write", "now"])
def test_a_connection_that_was_cut_while_nobody_used_it_is_replaced(
    coordinator: Coordinator, database: str, postgresql: PostgresqlServer, use: str
) -> None:
    ask(coordinator.agent("ada"))
    books = coordinator.wiring.database
    postgresql.disconnect(name_of(database))

    if use == "now":
        assert books.now() > 0
    else:
        with getattr(books, use)() as connection:
            assert connection.execute(text("SELECT count(*) FROM purchases")).scalar() == 1


def test_a_connection_that_is_cut_in_the_middle_of_a_write_leaves_nothing_of_it(
    coordinator: Coordinator, database: str, postgresql: PostgresqlServer
) -> None:
    before, books = contents(database), coordinator.wiring.database

    with pytest.raises(LedgerUnavailable) as told, books.write() as connection:
        append(coordinator.wiring, connection, 1, "paused", "organisation")
        postgresql.disconnect(name_of(database))
        connection.execute(text("SELECT 1"))

    assert_one_sentence(told.value, books.name, "; nothing was written")
    assert contents(database) == before
    assert ask(coordinator.agent("ada")).status is Status.APPROVED


def test_a_server_that_is_not_there_is_told_in_one_sentence_without_the_password() -> None:
    url = f"postgresql://olga:{PASSWORD}@127.0.0.1:1/books"
    with pytest.raises(LedgerUnavailable) as told:
        open_coordinator(url, policy())

    assert_one_sentence(told.value, "127.0.0.1/books", "refused")
    assert told.value.money_moved is False
    assert PASSWORD not in repr(Settings.model_validate({"database_url": url}))


def test_a_database_that_is_not_there_is_unavailable(postgresql: PostgresqlServer) -> None:
    with pytest.raises(LedgerUnavailable) as told:
        open_coordinator(postgresql.url("nowhere"), policy())

    assert_one_sentence(told.value, 'database "nowhere" does not exist')


@pytest.mark.parametrize("form", ["postgresql", "postgres", "postgresql+psycopg"])
def test_each_way_of_writing_the_address_is_understood(
    coordinator: Coordinator, database: str, form: str
) -> None:
    opened = open_database(database.replace("postgresql", form, 1))
    with opened.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM identity")).scalar() == 1
    opened.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost",
        f"postgresql://olga:{PASSWORD}@host:port/books",
        f"postgresql://olga:a@{PASSWORD}@host/books",
        f"postgresql://olga:a/{PASSWORD}@b@host/books",
        f"postgresql://olga:{PASSWORD}@host/books?no_such_option=1",
        f"postgresql+asyncpg://olga:{PASSWORD}@host/books",
    ],
)
def test_an_address_that_can_not_be_meant_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="COORDINATOR_DATABASE_URL") as told:
        open_database(url)
    assert_one_sentence(told.value)


def test_an_older_server_is_refused(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "POSTGRESQL_VERSION_MIN", 99)
    with pytest.raises(ConfigurationError, match="99 is the oldest that is supported") as told:
        open_coordinator(store.make(database), policy())
    assert_one_sentence(told.value)


def test_a_server_that_can_not_write_its_log_panics_and_keeps_what_was_answered(
    coordinator: Coordinator, database: str, postgresql: PostgresqlServer
) -> None:
    """Its disk is full or fails under the log: it ends itself and recovers."""
    agent = coordinator.agent("ada")
    answered = ask(agent, idempotency_key="answered")
    postgresql.no_file_may_be_written()

    with pytest.raises(LedgerUnavailable) as told:
        ask(agent, "5.00", idempotency_key="lost")

    assert told.value.money_moved is None
    deadline = time.monotonic() + 60
    while True:
        # The processes that recover it may write again.
        try:
            found = ask(agent, "5.00", idempotency_key="lost")
            break
        except LedgerUnavailable:
            assert time.monotonic() < deadline
    assert found.status is Status.APPROVED
    assert coordinator.get(answered.id).status is Status.APPROVED
    assert rows(database, "SELECT count(*) FROM purchases") == [(2,)]
    assert verify(coordinator.wiring.audit).ok
    assert_books_agree(database)


# Commits


@pytest.fixture
def through(proxy: Proxy, database: str, coordinator: Coordinator) -> Iterator[Coordinator]:
    """A coordinator whose COMMITs the proxy can cut."""
    url = f"postgresql://postgres@/{name_of(database)}?host={proxy.folder}"
    opened = open_coordinator(url, policy(), clock=Clock())
    ask(opened.agent("ada"))
    yield opened
    opened.close()


def test_a_decision_is_two_messages(through: Coordinator, proxy: Proxy, database: str) -> None:
    terms = {"purpose": "100 % of 'it' is \\ said", "task": "t", "session": "s"}
    ask(through.agent("ada"), **terms)
    proxy.said.clear()
    bought = ask(through.agent("ada"), **terms)
    assert messages(proxy.said) == "QQ"
    assert through.get(bought.id).purpose == terms["purpose"]
    assert_books_agree(database)


@pytest.mark.parametrize("cut", [Cut.BEFORE_IT_ARRIVES, Cut.BEFORE_THE_ANSWER])
def test_a_commit_without_an_answer_is_unknown_and_the_same_key_finds_out(
    through: Coordinator, proxy: Proxy, database: str, cut: Cut
) -> None:
    agent = through.agent("ada")
    proxy.cut = cut

    with pytest.raises(CommitUnknown) as told:
        ask(agent, "5.00", idempotency_key="lost")

    assert_one_sentence(told.value, "may or may not have been written")
    assert "nothing was written" not in str(told.value)
    assert told.value.money_moved is None
    proxy.cut = Cut.NEVER
    again = ask(agent, "5.00", idempotency_key="lost")
    assert again.status is Status.APPROVED
    assert rows(database, "SELECT count(*) FROM purchases") == [(2,)]
    assert verify(through.wiring.audit).ok
    assert_books_agree(database)


def test_a_failed_statement_is_never_committed_though_its_fault_was_swallowed(
    coordinator: Coordinator, database: str
) -> None:
    before, books = contents(database), coordinator.wiring.database

    with pytest.raises(LedgerUnavailable, match="nothing was written"), books.write() as writing:
        append(coordinator.wiring, writing, 1, "paused", "organisation")
        with pytest.raises(DBAPIError):
            writing.execute(text("SELECT * FROM no_such_table"))

    assert contents(database) == before


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_every_write_is_on_disk_before_it_is_answered(
    coordinator: Coordinator, database: str, postgresql: PostgresqlServer, default: str, used: str
) -> None:
    postgresql.sql(f"ALTER DATABASE {name_of(database)} SET synchronous_commit = {default}")
    postgresql.disconnect(name_of(database))

    with coordinator.wiring.database.write() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == used


# The lock


def test_a_database_locked_for_longer_than_the_timeout_is_unavailable_and_unchanged(
    coordinator: Coordinator, database: str, other: Database
) -> None:
    bought = ask(coordinator.agent("ada"))
    impatient = open_coordinator(database, policy(), lock_timeout_seconds=1)
    ask(impatient.agent("ada"))
    with other.write():
        before = contents(database)
        with pytest.raises(LedgerUnavailable) as told:
            ask(impatient.agent("ada"))

        assert_one_sentence(told.value, "locked by another process for 1 s; nothing was written")
        assert contents(database) == before
        # Readers never wait for writers.
        assert coordinator.get(bought.id).status is Status.APPROVED
    assert ask(impatient.agent("ada")).status is Status.APPROVED
    impatient.close()


def test_a_host_that_vanished_gives_its_lock_back_within_seconds(
    coordinator: Coordinator, database: str, other: Database
) -> None:
    books = open_database(database)
    with pytest.raises(LedgerUnavailable, match="nothing was written"), books.write() as connection:
        found = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
        assert found == "10s"
        # What the server does then, sooner.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
        with other.write():
            pass
        connection.execute(text("SELECT 1"))
    books.close()


def test_a_snapshot_stands_still_while_others_write(
    coordinator: Coordinator, other: Database
) -> None:
    count = text("SELECT count(*) FROM purchases")
    with other.read() as connection:
        assert connection.execute(count).scalar() == 0
        ask(coordinator.agent("ada"))
        assert connection.execute(count).scalar() == 0
        with pytest.raises(DBAPIError, match="read-only"):
            connection.execute(text("DELETE FROM pauses"))


def test_a_process_takes_no_more_than_sixteen_connections(
    coordinator: Coordinator, database: str
) -> None:
    at_once(lambda _: ask(coordinator.agent("ada")), 60)

    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = ? AND application_name LIKE ?"
    ((count,),) = rows(database, query, name_of(database), f"coordinator {os.getpid()} %")
    assert 1 <= count <= 16
