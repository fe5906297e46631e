"""A database that can't be used is told in one sentence; nothing is half-written, ever."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from coordinator import ConfigurationError, Coordinator, LedgerUnavailable, Status
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.prepared import Prepared
from tests.integration.ledger.child import Child, run
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    Clock,
    append,
    ask,
    assert_books_agree,
    contents,
    counters,
    edit,
    open_coordinator,
    policy,
    rows,
)


def assert_one_sentence(message: str, path: Path | str) -> None:
    assert str(path) in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert "sqlalche" not in message
    assert "rollback" not in message
    assert len(message) < 300


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="coordinator-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


# Locked


@pytest.mark.parametrize("how", ["hold_lock", "hold_transaction"])
def test_a_database_locked_for_longer_than_the_timeout_is_unavailable_and_unchanged(
    opener: Opener, path: Path, how: str
) -> None:
    coordinator = opener(lock_timeout_seconds=1)
    agent = coordinator.agent("ada")
    bought = ask(agent)
    with Child(how, database=path) as child:
        assert child.says() == "ready"
        assert child.go().says() == "locked"
        before = contents(path)

        with pytest.raises(LedgerUnavailable) as told:
            ask(agent)

        assert_one_sentence(str(told.value), path)
        assert "locked" in str(told.value)
        assert told.value.money_moved is False
        assert contents(path) == before
        # Readers never wait for writers.
        assert coordinator.get(bought.id).status is Status.APPROVED
        assert child.go().says() == "free"

    assert ask(agent).status is Status.APPROVED
    assert_books_agree(path)


def test_a_writer_that_gave_up_does_not_take_the_lock_later(opener: Opener, path: Path) -> None:
    impatient, patient = opener(lock_timeout_seconds=1), opener()
    with Child("hold_lock", database=path) as child:
        assert child.says() == "ready"
        assert child.go().says() == "locked"
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                ask(impatient.agent("ada"))
        assert child.go().says() == "free"

    for _ in range(3):
        assert ask(patient.agent("bert")).status is Status.APPROVED
        assert ask(impatient.agent("ada")).status is Status.APPROVED


# Not writable, and not a database


@pytest.mark.parametrize("what", ["file", "folder", "both"])
def test_a_database_that_this_user_may_not_write_is_unavailable_and_unchanged(
    public_folder: Path, clock: Clock, what: str
) -> None:
    path = public_folder / "coordinator.db"
    coordinator = open_coordinator(path, policy(), clock=clock)
    ask(coordinator.agent("ada"))
    coordinator.close()
    for file in public_folder.iterdir():
        file.chmod(0o666 if what == "folder" else 0o444)
    public_folder.chmod(0o777 if what == "file" else 0o555)
    before = contents(path)

    told = run("ask_as_nobody", database=path)

    assert told.get("error") == "LedgerUnavailable", told
    assert_one_sentence(told["message"], path)
    assert contents(path) == before
    public_folder.chmod(0o755)
    for file in public_folder.iterdir():
        file.chmod(0o644)
    again = open_coordinator(path, policy(), clock=clock)
    assert ask(again.agent("ada")).status is Status.APPROVED
    again.close()


def test_a_folder_where_no_file_may_be_made_is_unavailable(public_folder: Path) -> None:
    public_folder.chmod(0o555)

    told = run("ask_as_nobody", database=public_folder / "coordinator.db")

    assert told.get("error") == "LedgerUnavailable", told
    assert_one_sentence(told["message"], public_folder)
    assert list(public_folder.iterdir()) == []


def test_a_file_that_is_no_database_is_unavailable_and_kept_as_it_is(
    path: Path, clock: Clock
) -> None:
    path.write_bytes(b"a letter to grandmother\n" * 1000)
    before = path.read_bytes()

    with pytest.raises(LedgerUnavailable) as told:
        open_coordinator(path, policy(), clock=clock)

    assert_one_sentence(str(told.value), path)
    assert path.read_bytes() == before


def test_a_folder_in_the_place_of_the_file_is_unavailable(path: Path, clock: Clock) -> None:
    path.mkdir()

    with pytest.raises(LedgerUnavailable) as told:
        open_coordinator(path, policy(), clock=clock)

    assert_one_sentence(str(told.value), path)


def test_a_folder_that_does_not_exist_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "nowhere" / "coordinator.db"

    with pytest.raises(LedgerUnavailable) as told:
        open_coordinator(path, policy(), clock=clock)

    assert_one_sentence(str(told.value), path)
    assert not path.parent.exists()


def test_a_truncated_file_is_never_read_as_nothing_spent(opener: Opener, path: Path) -> None:
    coordinator = opener()
    for _ in range(30):
        ask(coordinator.agent("ada"))
    coordinator.close()
    path.write_bytes(path.read_bytes()[:20_000])

    with pytest.raises(LedgerUnavailable) as told:
        ask(opener().agent("ada"))
    assert_one_sentence(str(told.value), path)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/coordinator",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+other:///coordinator.db",
        "coordinator.db",
        "",
        "sqlite:/coordinator.db",
        "://",
        "sqlite:///coordinator.db?timeout=soon",
    ],
)
def test_an_address_that_names_no_file_of_sqlite_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="COORDINATOR_DATABASE_URL") as told:
        open_database(url)
    assert "\n" not in str(told.value)


# Which faults are which


def test_an_operational_error_is_ledger_unavailable(coordinator: Coordinator, path: Path) -> None:
    with pytest.raises(LedgerUnavailable), coordinator.wiring.database.write() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))
    edit(path, "DROP TABLE pauses")
    with pytest.raises(LedgerUnavailable) as told:
        ask(coordinator.agent("ada"))
    assert_one_sentence(str(told.value), path)


def test_an_integrity_error_is_not_taken_for_an_unavailable_database(
    coordinator: Coordinator, path: Path
) -> None:
    before = contents(path)
    duplicate = insert(t.counters).values(
        scope_kind="agent", scope_id="ada", window="total", start=0, held=1, spent=0
    )
    hold = insert(t.holds).values(
        purchase_id="nobody's", kind="purchase", amount=1, status="held", posted=0, placed_at=0,
        charges="[]",
    )  # fmt: skip

    for statements in (
        [duplicate, duplicate],
        [duplicate.values(held=-1)],
        [hold],
        [hold.values(purchase_id=None)],
    ):
        with (
            pytest.raises(IntegrityError),
            coordinator.wiring.database.write() as connection,
        ):
            for statement in statements:
                connection.execute(statement)
        assert contents(path) == before


def test_of_rows_that_are_written_together_a_faulty_one_leaves_none(
    coordinator: Coordinator, path: Path
) -> None:
    before = contents(path)
    row = {"scope_kind": "agent", "scope_id": "ada", "window": "total", "start": 0, "held": 1}
    together = Prepared(insert(t.counters), *row, "spent")

    with (
        pytest.raises(sqlite3.IntegrityError),
        coordinator.wiring.database.write() as connection,
    ):
        together.each(connection, [row | {"spent": 0}] * 2)

    assert contents(path) == before


def test_whatever_is_raised_inside_a_write_leaves_nothing_of_it(
    coordinator: Coordinator, path: Path
) -> None:
    before = contents(path)

    for fault in (ValueError("mine"), KeyboardInterrupt(), OSError(28, "No space", "elsewhere")):
        with (
            pytest.raises(type(fault)) as told,
            coordinator.wiring.database.write() as connection,
        ):
            append(coordinator.wiring, connection, 1, "paused", "organisation")
            raise fault
        assert told.value is fault
        assert contents(path) == before
    assert ask(coordinator.agent("ada")).status is Status.APPROVED


# A fresh file


@pytest.mark.campaign
def test_a_fresh_file_is_made_by_any_number_of_processes_at_once(tmp_path: Path) -> None:
    databases = [tmp_path / f"{number}.db" for number in range(400)]
    children = [Child("make_files", databases=databases) for _ in range(8)]
    try:
        assert [child.says() for child in children] == ["ready"] * 8
        for child in children:
            child.go()
        assert [child.says() for child in children] == [[]] * 8
    finally:
        for child in children:
            child.__exit__()


# Full disk


def test_a_file_that_may_not_grow_is_unavailable_and_whole(path: Path, opener: Opener) -> None:
    told = run("ask_on_full_disk", database=path, size_max=800_000)

    assert told["ids"], "nothing fitted: the test says nothing"
    for answer in (told["first"], told["second"]):
        assert answer["error"] == "LedgerUnavailable", answer
        assert_one_sentence(answer["message"], path)
    assert told["after"] == {"done": "approved"}
    ids = [found for (found,) in rows(path, "SELECT id FROM purchases ORDER BY seq")]
    assert ids[:-1] == told["ids"]
    assert verify(opener().wiring.audit).ok
    assert_books_agree(path)


@pytest.mark.parametrize("size_max", [0, 4_096, 40_000, 90_000])
def test_a_disk_that_is_full_at_the_first_start_leaves_a_file_that_the_next_start_completes(
    path: Path, opener: Opener, size_max: int
) -> None:
    told = run("ask_on_full_disk", database=path, size_max=size_max)

    assert told["ids"] == []
    assert told["first"]["error"] == "LedgerUnavailable", told
    assert_one_sentence(told["first"]["message"], path)
    assert told["after"] == {"done": "approved"}
    assert verify(opener().wiring.audit).ok
    assert_books_agree(path)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_a_full_file_system_is_unavailable_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    child = ("unshare", "--mount", "--propagation", "private")
    with Child("ask_on_small_disk", *child, folder=tmp_path, size_kib=900) as started:
        assert started.process.stdout
        if not started.process.stdout.readline():
            pytest.skip("this machine gives no mount namespace")
        told = started.go().says()
    if told == "no mount":
        pytest.skip("this machine mounts no tmpfs")

    assert told["ids"], "nothing fitted: the test says nothing"
    for answer in (told["first"], told["second"]):
        assert answer["error"] == "LedgerUnavailable", answer
        assert_one_sentence(answer["message"], tmp_path)
    assert told["after"] == {"done": "approved"}
    assert told["faults"] == []
    assert len(told["rows"]["purchases"]) == len(told["ids"]) + 1
    assert len(told["rows"]["holds"]) == len(told["ids"]) + 1


# A disk that fails


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
def test_a_sync_that_fails_answers_nothing_and_the_same_key_is_one_purchase(
    path: Path, opener: Opener, killed: bool
) -> None:
    with Child("ask_while_syncs_fail", database=path) as child:
        assert child.says() == "ready"
        told = child.go().says()
        if told == "no filter":
            pytest.skip("this machine lets no process filter its own calls")
        if killed:
            child.kill()
        else:
            child.go().process.wait()

    assert told["first"] == {"done": "approved"}
    for answer in told["lost"]:
        assert answer["error"] == "LedgerUnavailable", answer
        assert_one_sentence(answer["message"], path)
        # What reached the file without its sync may be found there after a crash.
        assert "nothing was written" not in answer["message"]
    agent = opener().agent("ada")
    again = ask(agent, "2.00", idempotency_key="lost")
    assert again.status is Status.APPROVED
    assert ask(agent, "2.00", idempotency_key="lost").id == again.id
    assert rows(path, "SELECT count(*) FROM purchases") == [(2,)]
    assert verify(opener().wiring.audit).ok
    assert_books_agree(path)


# Killed


def test_killed_again_and_again_nothing_answered_is_lost_and_nothing_is_half_written(
    path: Path, opener: Opener
) -> None:
    answered: dict[str, str] = {}
    for lines in (0, 1, 3, 8, 15):
        with Child("buy_until_killed", database=path, threads=3) as child:
            assert child.says() == "ready"
            child.go()
            told = [child.says() for _ in range(lines)]
            told += child.kill()
        answered |= {line["id"]: line["status"] for line in told}

        coordinator = opener()
        assert verify(coordinator.wiring.audit).faults == ()
        assert_books_agree(path)
        coordinator.close()

    stored = dict(rows(path, "SELECT id, status FROM purchases"))
    assert len(answered) >= 27
    assert {found: stored.get(found) for found in answered} == answered
    held = sum(amount for (amount,) in rows(path, "SELECT amount FROM holds WHERE status = 'held'"))
    assert counters(path)[("organisation", "", "total", 0)] == (held, 0)
    query = "SELECT count(*) FROM purchases WHERE id NOT IN (SELECT subject FROM audit)"
    assert rows(path, query) == [(0,)]
