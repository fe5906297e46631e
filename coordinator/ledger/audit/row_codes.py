"""Codes of single rows: only a worker's key can have made them."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection

from coordinator.domain.canonical import canonical_json
from coordinator.domain.hosts import HostRole
from coordinator.ledger.audit.hosts import Hosts, OwnHost
from coordinator.ledger.audit.signatures import Signatures

Prove = Callable[[object, str, list[Any]], bool]
"""Whether a code, as it stands in the database, was made for a table and exactly these values."""


class RowCodes:
    """Makes and checks ``PUBLIC_KEY:SIGNATURE`` over a row's table and values."""

    def __init__(self, hosts: Hosts, own: Callable[[], OwnHost]) -> None:
        self._hosts = hosts
        self._own = own
        self._signatures = Signatures(b"coordinator row\0")

    def make(self, table: str, values: list[Any]) -> str:
        """Return the code to store beside the row."""
        key = self._own().key
        return f"{key.public_key}:{self._signatures.make(key, _digest(table, values))}"

    def proves(self, connection: Connection, code: object, table: str, values: list[Any]) -> bool:
        """Return whether a worker that was not revoked made ``code`` for exactly these values."""
        return self.prover(connection)(code, table, values)

    def prover(self, connection: Connection, *, revoked_too: bool = False) -> Prove:
        """Return the check of many rows in one transaction.

        With ``revoked_too`` codes of workers that were revoked since count as well: nothing may be
        signed on their word, and what was signed before is no fault.
        """
        workers = {
            host.certificate.public_key
            for host in self._hosts.all(connection).values()
            if host.certificate.role is HostRole.WORKER and (revoked_too or not host.revoked)
        }

        def proves(code: object, table: str, values: list[Any]) -> bool:
            if not isinstance(code, str):
                return False
            key, _, signature = code.partition(":")
            try:
                return key in workers and self._signatures.proves(
                    key, signature, _digest(table, values)
                )
            except (TypeError, ValueError):
                # SQLite keeps any type in any column: what can't be encoded was not written here.
                return False

        return proves


def _digest(table: str, values: list[Any]) -> str:
    return sha256(canonical_json(["row", table, values])).hexdigest()
