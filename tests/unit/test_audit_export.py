"""An export is taken whole, in order and unchanged, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.signers.signers import Signer
from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.ledger.audit.export import line_of, read_export
from coordinator.ledger.audit.host_key import HostKey
from coordinator.ledger.audit.hosts import OwnHost
from coordinator.ledger.audit.log import AuditEntry, AuditLog
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.tx.identity import Identity, IdentityBook

KEY = b"k" * 32


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    path = tmp_path_factory.mktemp("audit") / "audit.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    signer = Signer.of_key(b"t" * 32)
    own = OwnHost(HostKey(b"h" * 32), "box", signer.sign_typed)
    made = AuditLog(database, KEY, own=lambda: own)
    kernel = "0x" + "44" * 20
    claimed = Identity(31337, "", kernel, kernel, kernel, signer.address, signer.address, "mark")
    IdentityBook(database).claim(claimed)
    why = {"why": "zu groß – ⚡"}
    with database.write() as connection:
        for n in range(6):
            entry = AuditEntry.of(1_700_000_000 + n, "purchase_denied", f"pur_{n}", why)
            made.append_all(connection, [entry])
    return made


@pytest.fixture(scope="module")
def lines(log: AuditLog) -> list[bytes]:
    return list(log.export())


def taken(log: AuditLog, lines: list[bytes], expected: Head | None = None) -> list[AuditRow]:
    return list(log.read_export(lines, expected).rows)


def test_what_was_exported_is_read_again_row_by_row(log: AuditLog, lines: list[bytes]) -> None:
    rows = taken(log, lines)
    assert [(r.seq, r.at, r.event, r.subject, r.body, r.hash) for r in rows] == [
        (r["seq"], r["at"], r["event"], r["subject"], r["body"], r["hash"]) for r in log.rows()
    ]
    assert json.loads(lines[0])["audit_head"] == str(log.head())
    assert all(line == canonical_json(json.loads(line)) + b"\n" for line in lines)
    assert taken(log, lines, log.head()) == rows


@given(data=st.data())
def test_one_changed_byte_is_refused(
    log: AuditLog, lines: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(lines))
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[at]))
    whole[at] = byte
    with pytest.raises(InvalidRequest):
        taken(log, bytes(whole).splitlines(keepends=True))


@given(data=st.data())
def test_one_byte_less_or_more_is_refused(
    log: AuditLog, lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    more = data.draw(st.binary(max_size=1))
    changed = whole[:at] + more + whole[at + (0 if more else 1) :]
    with pytest.raises(InvalidRequest):
        taken(log, changed.splitlines(keepends=True))


ROWS = range(1, 8)


@pytest.mark.parametrize("row", range(8))
def test_another_spelling_of_the_same_row_is_refused(
    log: AuditLog, lines: list[bytes], row: int
) -> None:
    spaced = lines[row].replace(b":", b": ", 1)
    escaped = json.dumps(json.loads(lines[row]), sort_keys=True).encode() + b"\n"
    doubled = lines[row].replace(b"{", b'{"seq":1,', 1)
    for other in (spaced, escaped, doubled, lines[row].rstrip(b"\n")):
        with pytest.raises(InvalidRequest):
            taken(log, [*lines[:row], other, *lines[row + 1 :]])


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_is_missing_doubled_or_moved_is_refused(
    log: AuditLog, lines: list[bytes], row: int
) -> None:
    for changed in (
        lines[:row] + lines[row + 1 :],
        [*lines[: row + 1], *lines[row:]],
        [lines[0], *lines[row : row + 1], *lines[1:row], *lines[row + 1 :]] if row > 1 else [],
        lines[:row],
    ):
        with pytest.raises(InvalidRequest):
            taken(log, changed)


def test_a_log_that_does_not_begin_at_row_1_is_refused(log: AuditLog, lines: list[bytes]) -> None:
    with pytest.raises(InvalidRequest, match="row 2 where row 1 belongs"):
        taken(log, [lines[0], *lines[2:]])


def test_another_secrets_log_is_refused(log: AuditLog, lines: list[bytes]) -> None:
    other = AuditLog(log.database, b"x" * 32)
    with pytest.raises(InvalidRequest, match="another id secret"):
        taken(other, lines)


def test_a_cut_off_end_with_a_made_up_head_needs_a_head_noted_before(
    log: AuditLog, lines: list[bytes]
) -> None:
    last = json.loads(lines[4])
    first = json.loads(lines[0]) | {"audit_head": f"4:{last['hash']}"}
    cut = [canonical_json(first) + b"\n", *lines[1:5]]
    assert len(taken(log, cut)) == 4
    with pytest.raises(InvalidRequest, match="ends at row 4, before the head 7"):
        taken(log, cut, log.head())
    with pytest.raises(InvalidRequest, match="row 4 of the export is not the one of the head"):
        taken(log, cut, Head(4, "0" * 64))


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"{}", b"[]\n", b"null\n", b"\xff\xfe\n", b"SQLite format 3\x00", b"[" * 9999],
)
def test_what_is_no_export_is_refused_in_one_sentence(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not an export"):
        read_export([text], lambda *_: "", lambda *_: lambda _: True)


def test_a_body_that_is_not_json_is_not_exported() -> None:
    with pytest.raises(InvalidRequest, match="audit verify"):
        line_of(AuditRow(1, 0, "e", "s", "{broken", "0" * 64, "", ""))
