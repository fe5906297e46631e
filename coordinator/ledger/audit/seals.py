"""Seals: a worker's signed word that it has checked every row of the log up to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, select

from coordinator.domain.audit import Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.hosts import HostRole
from coordinator.ledger.audit.export import GENESIS
from coordinator.ledger.audit.host_key import HostKey, is_signed
from coordinator.ledger.audit.hosts import Host
from coordinator.ledger.store import schema as t

_PURPOSE: Final = b"coordinator seal\0"
_s = t.seals.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A checkpoint of the log: the head up to which each row was checked, with its signature."""

    count: int
    hash: str
    at: int
    public_key: str
    signature: str = ""

    @property
    def head(self) -> Head:
        return Head(self.count, self.hash)

    def as_row(self) -> dict[str, Any]:
        """Return the row of the table."""
        return asdict(self)

    @property
    def message(self) -> bytes:
        """The bytes that its worker signs."""
        values = [self.count, self.hash, self.at]
        return _PURPOSE + canonical_json(values)

    def stands(self, hosts: Iterable[Host]) -> bool:
        """Return whether a worker that was not revoked has signed it."""
        try:
            return any(
                host.certificate.public_key == self.public_key
                and host.certificate.role is HostRole.WORKER
                and not host.revoked
                and is_signed(self.public_key, self.signature, self.message)
                for host in hosts
            )
        except (TypeError, ValueError):
            # SQLite keeps any type in any column: what can't be encoded was not written here.
            return False


NO_SEAL: Final = Seal(count=0, hash=GENESIS, at=0, public_key="")


def make_seal(key: HostKey, head: Head, at: int) -> Seal:
    """Return a seal by this key."""
    unsigned = Seal(
        count=head.count,
        hash=head.hash,
        at=at,
        public_key=key.public_key,
    )
    return replace(unsigned, signature=key.sign(unsigned.message))


def seal_rows(connection: Connection) -> list[dict[str, Any]]:
    """Return the table's rows, oldest first."""
    found = connection.execute(select(t.seals).order_by(_s.count)).mappings()
    return [dict(row) for row in found]


def newest_seal(rows: Iterable[Mapping[str, Any]], hosts: Iterable[Host]) -> Seal:
    """Return the newest seal that stands; NO_SEAL without any."""
    known = list(hosts)
    for row in sorted(rows, key=lambda row: row["count"], reverse=True):
        seal = Seal(**row)
        if seal.stands(known):
            return seal
    return NO_SEAL
