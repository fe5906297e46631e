"""The audit log as a file: JSON lines that only the id secret can have made."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest

FORMAT: Final = "coordinator audit log 1"
GENESIS: Final = "0" * 64
_FIELDS: Final = {"seq", "at", "event", "subject", "body", "hash"}

Digest = Callable[[str, int, int, str, str, str], str]
"""The hash of (previous hash, seq, at, event, subject, body's text)."""


def first_line(head: Head) -> bytes:
    """Return the first line of an export: its format, and the head of its last row."""
    return canonical_json({"audit_head": str(head), "format": FORMAT}) + b"\n"


def line_of(row: AuditRow) -> bytes:
    """One row as a line; InvalidRequest when its body can't have been written here."""
    try:
        body = json.loads(row.text)
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"row {row.seq} is not what was written: run `coordinator audit verify`"
        ) from None
    values = {"seq": row.seq, "at": row.at, "event": row.event, "subject": row.subject}
    return canonical_json({**values, "body": body, "hash": row.hash}) + b"\n"


def read_export(lines: Iterable[bytes], digest: Digest, expected: Head | None = None) -> ExportFile:
    """An export, its first line read; its rows are verified as they are taken."""
    found = iter(lines)
    head = _head_of(next(found, b""))
    if expected is not None and expected.count > head.count:
        raise InvalidRequest(
            f"the export ends at row {head.count}, before the head {expected.count} given"
        )
    return ExportFile(head, _rows(found, head, digest, expected))


@dataclass(frozen=True, slots=True)
class ExportFile:
    """The head that the file claims, and its rows: InvalidRequest at the first that is wrong.

    Only when all were taken is it known that the file is whole.
    """

    head: Head
    rows: Iterator[AuditRow]


def _rows(
    lines: Iterator[bytes], head: Head, digest: Digest, expected: Head | None
) -> Iterator[AuditRow]:
    previous = Head(0, GENESIS)
    for line in lines:
        number = previous.count + 1
        row = _row_of(line)
        if row is None:
            raise InvalidRequest(f"line {number + 1} of the export is not row {number} of a log")
        if row.seq != number:
            raise InvalidRequest(
                f"the export has row {row.seq} where row {number} belongs: rows are missing or"
                " in another order"
            )
        own = digest(previous.hash, row.seq, row.at, row.event, row.subject, row.text)
        if not hmac.compare_digest(own.encode(), row.hash.encode()):
            raise InvalidRequest(
                f"row {number} of the export was changed, or it is another id secret's log"
            )
        previous = Head(row.seq, row.hash)
        if expected is not None and expected.count == number and expected.hash != row.hash:
            raise InvalidRequest(f"row {number} of the export is not the one of the head given")
        yield row
    if previous != head:
        raise InvalidRequest(
            f"the export says that it ends with row {head.count}, and ends with {previous.count}"
        )


def _head_of(line: bytes) -> Head:
    try:
        found = json.loads(line)
        head = Head.parse(found["audit_head"])
        if line == first_line(head):
            return head
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    raise InvalidRequest("this is not an export of `coordinator audit export`")


def _row_of(line: bytes) -> AuditRow | None:
    try:
        found = json.loads(line)
        if not isinstance(found, dict) or set(found) != _FIELDS:
            return None
        texts = (found["event"], found["subject"], found["hash"])
        numbers = (found["seq"], found["at"])
        typed = all(type(n) is int for n in numbers) and all(type(s) is str for s in texts)
        if not typed or not isinstance(found["body"], dict) or not found["hash"].isascii():
            return None
        text = canonical_json(found["body"]).decode()
        row = AuditRow(found["seq"], found["at"], found["event"], found["subject"], text, texts[2])
        # One row has one line: another spelling of it is a changed file.
        return row if line == line_of(row) else None
    except (RecursionError, TypeError, ValueError):
        return None
