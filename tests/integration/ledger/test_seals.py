"""What a worker has sealed is not checked again, and nothing below it can be changed unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from coordinator import Coordinator, InvalidRequest
from coordinator.domain.audit import Head
from coordinator.domain.errors import LedgerTampered
from coordinator.executor import checkpoint
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.signed_rules import SignedRules
from coordinator.ledger.audit import host_key, signatures
from coordinator.ledger.audit.host_key import HostKey
from coordinator.ledger.audit.seals import NO_SEAL, Seal, make_seal
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both


@pytest.fixture
def sealed(lived: Coordinator) -> Coordinator:
    """A coordinator whose worker has sealed the log, with two decisions after the seal."""
    w = lived.wiring
    w.checkpoints.seal(w.audit.head(), now=w.clock())
    for _ in range(2):
        ask(lived.agent("bert"))
    return lived


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The digests whose signatures are really verified, from here on."""
    found: list[str] = []

    def counted(public_key: str, signature: str, message: bytes) -> bool:
        found.append(message.decode(errors="replace"))
        return host_key.is_signed(public_key, signature, message)

    monkeypatch.setattr(signatures, "is_signed", counted)
    yield found


def faults(coordinator: Coordinator) -> list[str]:
    return list(verify(coordinator.wiring.audit).faults)


def compared(coordinator: Coordinator) -> list[str]:
    return coordinator.wiring.evidence.row_faults(coordinator.wiring.database)


def test_rows_below_a_seal_are_proved_without_their_signatures(
    sealed: Coordinator, opener: Opener, verified: list[str]
) -> None:
    other = opener()
    other.wiring  # noqa: B018 - reads the policy
    verified.clear()

    assert faults(other) == compared(other) == []

    seal = other.wiring.checkpoints.sealed()
    assert len(verified) == other.wiring.audit.head().count - seal.count > 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("body = replace(body, '10000000', '20000000')", "event = 'purchase_approved'"),
        ("host = host || 'x'", "event = 'purchase_funded'"),
        ("at = at + 1", "event = 'journal_written'"),
        ("subject = 'pur_x'", "event = 'lane_opened' OR event = 'journal_written'"),
    ],
)
def test_a_sealed_row_that_was_edited_is_found_by_whoever_compares(
    sealed: Coordinator, database: str, change: str, where: str
) -> None:
    assert faults(sealed) == compared(sealed) == []
    seq = f"(SELECT min(seq) FROM audit WHERE {where})"

    assert edit(database, f"UPDATE audit SET {change} WHERE seq = {seq}")

    assert faults(sealed)
    assert compared(sealed)


def test_a_sealed_history_written_anew_with_the_id_secret_is_found(
    sealed: Coordinator, database: str
) -> None:
    """A decider has the chain's key: without signatures it could chain other rows."""
    log, last = sealed.wiring.audit, Head(0, "0" * 64)
    query = "SELECT seq, at, event, subject, body, host FROM audit ORDER BY seq"
    for seq, at, event, subject, body, host in rows(database, query):
        changed = body.replace("10000000", "20000000")
        digest = log.checks.digest(last.hash, seq, at, event, subject, changed, host)
        edit(database, "UPDATE audit SET body = ?, hash = ? WHERE seq = ?", changed, digest, seq)
        last = Head(seq, digest)

    count = sealed.wiring.checkpoints.sealed().count
    assert f"row {count} is not the one that was sealed" in faults(sealed)
    assert any(f.startswith(f"row {count} ") for f in compared(sealed))
    with pytest.raises(LedgerTampered):
        list(log.after(Head(0, "0" * 64)))


def test_a_log_that_ends_before_a_seal_is_refused(sealed: Coordinator, database: str) -> None:
    count = sealed.wiring.checkpoints.sealed().count
    edit(database, "DELETE FROM audit WHERE seq >= ?", count)

    assert f"row {count}, which was sealed, is gone" in faults(sealed)
    assert f"row {count} of the audit log is missing" in compared(sealed)
    with pytest.raises(LedgerTampered, match="which was sealed, is gone"):
        list(sealed.wiring.audit.after(Head(0, "0" * 64)))
    with pytest.raises(InvalidRequest, match=f"and row {count} was sealed"):
        sealed.wiring.audit.read_export(list(sealed.wiring.audit.export()))


def _decider(_: Seal, w: Coordinator) -> Seal:
    key = HostKey(b"d" * 32)
    w.wiring.hosts.add("server", key.public_key, by="olga", now=0)
    return make_seal(key, w.wiring.audit.head(), 0)


def _stranger(_: Seal, w: Coordinator) -> Seal:
    return make_seal(HostKey(b"s" * 32), w.wiring.audit.head(), 0)


def _edited(seal: Seal, w: Coordinator) -> Seal:
    head = w.wiring.audit.head()
    return Seal(**{**seal.as_row(), "count": head.count, "hash": head.hash})


@pytest.mark.parametrize("forge", [_decider, _stranger, _edited])
def test_a_seal_that_no_worker_made_hides_nothing(
    sealed: Coordinator, database: str, forge: Callable[[Seal, Coordinator], Seal]
) -> None:
    honest = sealed.wiring.checkpoints.sealed()
    forged = forge(honest, sealed).as_row()
    names, marks = ", ".join(forged), ", ".join("?" * len(forged))

    edit(
        database,
        f"INSERT INTO seals ({names}) VALUES ({marks})".replace("count,", '"count",'),
        *forged.values(),
    )

    assert sealed.wiring.checkpoints.sealed() == honest
    assert faults(sealed) == [f"the seal of row {forged['count']} was made by no worker"]


def test_seals_travel_with_an_export(sealed: Coordinator, verified: list[str]) -> None:
    log = sealed.wiring.audit
    lines = list(log.export())

    assert len(list(log.read_export(lines).rows)) == log.head().count
    assert b'"seals":[{' in lines[0]


def test_the_worker_seals_after_so_many_rows(
    lived: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SEAL_ROWS", 3)
    w = lived.wiring
    kept = Checkpoint(None, w.audit, w.checkpoints, SignedRules(w.checkpoints))
    assert w.checkpoints.sealed() == NO_SEAL

    assert kept.advance(now=w.clock())
    first = w.checkpoints.sealed()
    assert first.head == w.audit.head()
    ask(lived.agent("bert"))
    assert kept.advance(now=w.clock())
    assert w.checkpoints.sealed() == first
    for _ in range(2):
        ask(lived.agent("bert"))
    assert kept.advance(now=w.clock())
    assert w.checkpoints.sealed().head == w.audit.head()
    assert faults(lived) == []


def test_the_worker_seals_what_is_an_hour_old(lived: Coordinator) -> None:
    w = lived.wiring
    kept = Checkpoint(None, w.audit, w.checkpoints, SignedRules(w.checkpoints))
    assert kept.advance(now=w.clock())
    assert w.checkpoints.sealed() == NO_SEAL

    assert kept.advance(now=w.clock() + checkpoint.SEAL_SECONDS)

    assert w.checkpoints.sealed().head == w.audit.head()
