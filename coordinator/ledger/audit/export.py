"""The audit log as a file: JSON lines that only hosts with the id secret can have made."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from coordinator.domain.address import checksummed
from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.typed_data import Trust

FORMAT: Final = "coordinator audit log 1"
GENESIS: Final = "0" * 64
_FIELDS: Final = {"seq", "at", "event", "subject", "body", "hash", "host", "signature"}
_HOST: Final = {
    *("id", "name", "public_key", "role", "after_row", "certified_at", "certificate"),
    *("last_row", "revoked_at", "revocation"),
}
_SEAL: Final = {"count", "hash", "at", "public_key", "signature"}

Digest = Callable[[str, int, int, str, str, str, str], str]
"""The hash of (previous hash, seq, at, event, subject, body's text, host)."""

IsSigned = Callable[[AuditRow], bool]
"""Whether the host that a row names has signed it."""


@dataclass(frozen=True, slots=True)
class Signers:
    """The hosts of a log and the seals of its workers, each as its row of the table."""

    hosts: Sequence[Mapping[str, Any]]
    seals: Sequence[Mapping[str, Any]]


MakeCheck = Callable[[Head, Signers, Trust | None], IsSigned]
"""The check of rows by the head, the signers and the treasury of an export."""


def first_line(head: Head, signers: Signers, trust: Trust | None) -> bytes:
    """Return the first line of an export: its format, its last row's head, hosts and seals.

    ``trust`` says for which treasury, chain and kernel everything in it was signed.
    """
    told: dict[str, Any] = {
        "audit_head": str(head),
        "format": FORMAT,
        "hosts": signers.hosts,
        "seals": signers.seals,
    }
    if trust is not None:
        told["signed_for"] = asdict(trust)
    return canonical_json(told) + b"\n"


def line_of(row: AuditRow) -> bytes:
    """One row as a line; InvalidRequest when its body can't have been written here."""
    try:
        body = json.loads(row.text)
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"row {row.seq} is not what was written: run `coordinator audit verify`"
        ) from None
    values = {"seq": row.seq, "at": row.at, "event": row.event, "subject": row.subject}
    signed = {"hash": row.hash, "host": row.host, "signature": row.signature}
    return canonical_json({**values, **signed, "body": body}) + b"\n"


def read_export(
    lines: Iterable[bytes], digest: Digest, make_check: MakeCheck, expected: Head | None = None
) -> ExportFile:
    """An export, its first line read; its rows are verified as they are taken."""
    found = iter(lines)
    head, signers, trust = _head_of(next(found, b""))
    is_signed = make_check(head, signers, trust)
    if expected is not None and expected.count > head.count:
        raise InvalidRequest(
            f"the export ends at row {head.count}, before the head {expected.count} given"
        )
    return ExportFile(head, signers, trust, _rows(found, head, digest, is_signed, expected))


@dataclass(frozen=True, slots=True)
class ExportFile:
    """The head that the file claims, and its rows: InvalidRequest at the first that is wrong.

    Only when all were taken is it known that the file is whole.
    """

    head: Head
    signers: Signers
    #: As the file says it: whoever made the file could say anything.
    trust: Trust | None
    rows: Iterator[AuditRow]


def _rows(
    lines: Iterator[bytes],
    head: Head,
    digest: Digest,
    is_signed: IsSigned,
    expected: Head | None,
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
        own = digest(previous.hash, row.seq, row.at, row.event, row.subject, row.text, row.host)
        if not hmac.compare_digest(own.encode(), row.hash.encode()):
            raise InvalidRequest(
                f"row {number} of the export was changed, or it is another id secret's log"
            )
        if not is_signed(row):
            raise InvalidRequest(f"row {number} of the export was not signed by {row.host}")
        previous = Head(row.seq, row.hash)
        if expected is not None and expected.count == number and expected.hash != row.hash:
            raise InvalidRequest(f"row {number} of the export is not the one of the head given")
        yield row
    if previous != head:
        raise InvalidRequest(
            f"the export says that it ends with row {head.count}, and ends with {previous.count}"
        )


def _head_of(line: bytes) -> tuple[Head, Signers, Trust | None]:
    try:
        found = json.loads(line)
        head, signers = Head.parse(found["audit_head"]), Signers(found["hosts"], found["seals"])
        known = _are(signers.hosts, _HOST) and _are(signers.seals, _SEAL)
        numbered = known and all(type(seal["count"]) is int for seal in signers.seals)
        trust = _trust_of(found["signed_for"]) if "signed_for" in found else None
        if numbered and line == first_line(head, signers, trust):
            return head, signers, trust
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    raise InvalidRequest("this is not an export of `coordinator audit export`")


def _trust_of(found: Any) -> Trust:
    trust = Trust(**{**found, "formers": tuple(found["formers"])})
    if type(trust.chain_id) is not int or trust.chain_id < 0:
        raise ValueError("a chain has a number")
    for address in (trust.treasury, trust.kernel, trust.signer, *trust.formers):
        if checksummed(address) != address:
            raise ValueError("an address has its checksum")
    return trust


def _are(found: Any, names: set[str]) -> bool:
    return type(found) is list and all(type(one) is dict and set(one) == names for one in found)


def _row_of(line: bytes) -> AuditRow | None:
    try:
        found = json.loads(line)
        if not isinstance(found, dict) or set(found) != _FIELDS:
            return None
        texts = tuple(found[name] for name in ("event", "subject", "hash", "host", "signature"))
        numbers = (found["seq"], found["at"])
        typed = all(type(n) is int for n in numbers) and all(type(s) is str for s in texts)
        if not typed or not isinstance(found["body"], dict) or not found["hash"].isascii():
            return None
        text = canonical_json(found["body"]).decode()
        event, subject, digest, host, signature = texts
        row = AuditRow(*numbers, event, subject, text, digest, host, signature)
        # One row has one line: another spelling of it is a changed file.
        return row if line == line_of(row) else None
    except (RecursionError, TypeError, ValueError):
        return None
