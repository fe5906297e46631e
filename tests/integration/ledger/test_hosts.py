"""A row counts when a certified host signed it, whoever has the id secret and the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator import ConfigurationError, Coordinator, InvalidRequest
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.audit import AuditRow
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import LedgerTampered, UnknownId
from coordinator.domain.hosts import Certificate, HostRole, may_write
from coordinator.ledger.audit.host_key import HostKey
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, contents, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both

SERVER_KEY = "44" * 32
THIEF_KEY = "0x" + "66" * 32


@pytest.fixture
def worker(opener: Opener) -> Coordinator:
    """A process with the treasury's key that has written."""
    opened: Coordinator = opener(host_name="worker")
    return opened


@pytest.fixture
def make_server(opener: Opener, worker: Coordinator) -> Callable[[], Coordinator]:
    """Opens a process that has the treasury's address alone."""
    address = worker.wiring.signer.address

    def make() -> Coordinator:
        opened: Coordinator = opener(
            key=None, signer=f"address:{address}", host_key=SERVER_KEY, host_name="server"
        )
        return opened

    return make


@pytest.fixture
def server(worker: Coordinator, make_server: Callable[[], Coordinator]) -> Coordinator:
    """A certified process that decides."""
    certify(worker)
    return make_server()


def certify(worker: Coordinator, name: str = "server", key: str = SERVER_KEY) -> str:
    public = HostKey(bytes.fromhex(key)).public_key
    return worker.wiring.hosts.add(name, public, by="olga", now=worker.wiring.clock()).id


def revoke(worker: Coordinator, name: str = "server") -> None:
    w = worker.wiring
    w.hosts.revoke(name, reason="stolen", by="olga", now=w.clock())


def forge(
    coordinator: Coordinator,
    database: str,
    host: str,
    key: str,
    event: str = "paused",
    subject: str = "organisation",
) -> int:
    """Append a row as somebody with the id secret, the database and one host's key can."""
    log = coordinator.wiring.audit
    head = log.head()
    seq, at, text = head.count + 1, 0, canonical_json({"by": "eve"}).decode()
    digest = log.checks.digest(head.hash, seq, at, event, subject, text, host)
    signature = HostKey(bytes.fromhex(key)).sign(b"coordinator audit row\0" + digest.encode())
    row = AuditRow(seq, at, event, subject, text, digest, host, signature)
    edit(
        database,
        "INSERT INTO audit (seq, at, event, subject, body, hash, host, signature)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(row.seq, row.at, row.event, row.subject, row.text, row.hash, row.host, row.signature),
    )
    return seq


def check_not_proved(coordinator: Coordinator, seq: int) -> None:
    """Every way to read the log refuses the row."""
    log = coordinator.wiring.audit
    assert [f for f in verify(log).faults if f.startswith(f"row {seq} ")]
    with coordinator.wiring.database.read() as connection:
        with pytest.raises(LedgerTampered, match=f"audit row {seq} "):
            log.proven(connection)
        assert seq not in {row.seq for row in log.proven(connection, skip=True)}
    with pytest.raises(LedgerTampered, match=f"audit row {seq} "):
        list(log.after(type(log.head())(0, "0" * 64)))


def host_id(database: str, name: str) -> str:
    ((found,),) = rows(database, "SELECT id FROM hosts WHERE name = ?", name)
    return str(found)


def test_who_has_the_treasurys_key_certifies_its_host_at_its_first_write(
    worker: Coordinator, database: str
) -> None:
    ask(worker.agent("ada"))

    (first, *_) = rows(database, "SELECT event, subject, host FROM audit ORDER BY seq")
    (host,) = worker.wiring.hosts.list()
    assert first == ("host_added", host.id, host.id)
    assert (host.name, host.role, host.status) == ("worker", "worker", "valid")
    assert {h for (h,) in rows(database, "SELECT host FROM audit")} == {host.id}
    assert verify(worker.wiring.audit).ok


def test_a_host_that_is_not_certified_writes_nothing_and_says_what_to_run(
    make_server: Callable[[], Coordinator], database: str
) -> None:
    server = make_server()
    before = contents(database)
    key = HostKey(bytes.fromhex(SERVER_KEY)).public_key

    with pytest.raises(ConfigurationError, match=f"coordinator hosts add server {key}"):
        ask(server.agent("ada"))

    assert contents(database) == before


def test_what_a_certified_host_decides_stands(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    purchase = ask(server.agent("ada"), "10.00")

    query = "SELECT host FROM audit WHERE subject = ?"
    assert rows(database, query, purchase.id) == [(host_id(database, "server"),)]
    assert worker.get(purchase.id).status == "approved"
    with worker.wiring.database.read() as connection:
        assert worker.wiring.evidence.purchase(connection, purchase.id).amount == 10_000_000
    assert verify(worker.wiring.audit).ok


def test_a_row_in_the_workers_name_needs_the_workers_key(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    seq = forge(server, database, host_id(database, "worker"), SERVER_KEY)

    check_not_proved(worker, seq)


def test_a_row_made_with_the_id_secret_alone_is_nobodys(worker: Coordinator, database: str) -> None:
    own = HostKey(bytes.fromhex("77" * 32))

    check_not_proved(worker, forge(worker, database, f"x:{own.public_key[:8]}", "77" * 32))


def test_a_decider_writes_no_event_of_the_chain(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    seq = forge(server, database, host_id(database, "server"), SERVER_KEY, "purchase_funded", "p")
    check_not_proved(worker, seq)
    edit(database, "DELETE FROM audit WHERE seq = ?", seq)
    before = contents(database)

    with (
        pytest.raises(ConfigurationError, match=r"may decide and not act \(order_done\)"),
        server.wiring.transactions.write() as tx,
    ):
        tx.record(0, "order_done", "wdr_x")

    assert contents(database) == before


def test_rows_of_a_revoked_host_count_up_to_its_revocation(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    ask(server.agent("ada"))
    revoke(worker)
    assert verify(worker.wiring.audit).ok
    before = contents(database)

    with pytest.raises(ConfigurationError, match="was revoked"):
        ask(server.agent("ada"))
    assert contents(database) == before
    check_not_proved(worker, forge(server, database, host_id(database, "server"), SERVER_KEY))


def test_a_revocation_that_was_taken_out_is_found(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    ask(server.agent("ada"))
    revoke(worker)
    edit(database, "UPDATE hosts SET last_row = NULL, revoked_at = NULL, revocation = NULL")

    (fault,) = verify(worker.wiring.audit).faults
    assert fault == f"host {host_id(database, 'server')}: its revocation is gone"


@pytest.mark.parametrize(
    "change",
    [
        "role = 'worker'",
        "after_row = 0",
        "certified_at = certified_at + 1",
        "last_row = 1",
        "last_row = 10000, revoked_at = 0, revocation = certificate",
    ],
)
def test_a_certificate_that_was_edited_stands_for_nothing(
    worker: Coordinator, server: Coordinator, database: str, change: str
) -> None:
    ask(server.agent("ada"))
    assert verify(worker.wiring.audit).ok

    edit(database, f"UPDATE hosts SET {change} WHERE name = 'server'")

    assert verify(worker.wiring.audit).faults
    by_name = {host.name: host.status for host in worker.wiring.hosts.list()}
    assert by_name == {"worker": "valid", "server": "invalid"}


def test_a_certificate_by_another_account_is_worth_nothing(
    worker: Coordinator, database: str
) -> None:
    thief = load_signer("env:KEY", {"KEY": THIEF_KEY})
    key = HostKey(bytes.fromhex("77" * 32))
    made = Certificate(
        name="eve", public_key=key.public_key, role=HostRole.WORKER, after_row=0, certified_at=0
    )
    with worker.wiring.database.read() as connection:
        trust = worker.wiring.audit.hosts.trust(connection)
    assert trust is not None
    edit(
        database,
        "INSERT INTO hosts (id, name, public_key, role, after_row, certified_at, certificate)"
        " VALUES (?, ?, ?, 'worker', 0, 0, ?)",
        *(made.id, "eve", key.public_key, thief.sign_typed(made.message(trust))),
    )

    check_not_proved(worker, forge(worker, database, made.id, "77" * 32))


def test_a_treasury_of_the_databases_own_is_not_believed(
    worker: Coordinator, database: str
) -> None:
    """Whoever writes to the database may name another root of trust there."""
    thief = load_signer("env:KEY", {"KEY": THIEF_KEY})
    edit(database, "UPDATE identity SET treasury = ?", thief.address)

    worker.wiring.audit.hosts._trust = None
    assert verify(worker.wiring.audit).ok


def test_a_name_has_one_key_until_it_is_revoked(worker: Coordinator, database: str) -> None:
    first = certify(worker)
    assert certify(worker) == first

    with pytest.raises(InvalidRequest, match="server has another key already"):
        certify(worker, key="88" * 32)
    with pytest.raises(InvalidRequest, match="this key is that of server"):
        certify(worker, name="other")
    revoke(worker)
    with pytest.raises(InvalidRequest, match="is revoked: give the host another one"):
        certify(worker)
    second = certify(worker, key="88" * 32)

    assert first != second
    assert [host.status for host in worker.wiring.hosts.list()] == ["valid", "revoked", "valid"]
    assert verify(worker.wiring.audit).ok


def test_another_process_with_the_treasurys_key_gets_a_name_of_its_own(
    worker: Coordinator, opener: Opener, database: str
) -> None:
    other = opener(host_name="worker", host_key="99" * 32)
    ask(other.agent("ada"))

    assert {host.name for host in worker.wiring.hosts.list()} == {"worker", "worker-2"}


def test_only_the_treasurys_key_certifies_and_revokes(
    worker: Coordinator, server: Coordinator
) -> None:
    for act in (lambda: certify(server, name="another", key="88" * 32), lambda: revoke(server)):
        with pytest.raises(ConfigurationError, match="run this on a host that has it"):
            act()
    with pytest.raises(UnknownId):
        revoke(worker, "nobody")
    with pytest.raises(InvalidRequest, match="is this host"):
        revoke(worker, "worker")


def test_an_exported_log_carries_the_certificates_that_prove_it(
    worker: Coordinator, server: Coordinator, database: str
) -> None:
    ask(server.agent("ada"))
    log, lines = worker.wiring.audit, list(worker.wiring.audit.export())
    assert len(list(log.read_export(lines).rows)) == log.head().count

    forge(server, database, host_id(database, "worker"), SERVER_KEY)
    with pytest.raises(InvalidRequest, match="was not signed by worker"):
        list(log.read_export(list(log.export())).rows)


def test_what_only_a_worker_may_write_is_told_in_one_place() -> None:
    found: dict[str, Any] = {
        event: (may_write(HostRole.WORKER, event), may_write(HostRole.DECIDER, event))
        for event in ("purchase_approved", "purchase_funded", "create_signed", "host_added")
    }
    assert found == {
        "purchase_approved": (True, True),
        "purchase_funded": (True, False),
        "create_signed": (True, False),
        "host_added": (True, False),
    }


def test_a_second_process_with_the_treasurys_key_is_certified_before_it_acts(
    worker: Coordinator, opener: Opener, database: str
) -> None:
    other = opener(host_name="spare", host_key="99" * 32)

    other.wiring.checkpoints.join(now=other.wiring.clock())
    other.wiring.checkpoints.join(now=other.wiring.clock())

    assert {host.name for host in worker.wiring.hosts.list()} == {"spare", "worker"}
    assert verify(worker.wiring.audit).ok
