"""Hosts as the database has them: each certificate is verified once, and trusted for no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from coordinator.domain.hosts import Certificate, HostRole, may_write
from coordinator.domain.signatures.ecdsa import any_signer
from coordinator.domain.typed_data import Trust, TypedData
from coordinator.ledger.audit.host_key import HostKey
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

_CACHED_MAX: Final = 1_000
_h = t.hosts.c
_BY_ID: Final = Prepared(select(t.hosts).where(_h.id == bindparam("id_")))
_IDENTITY: Final = Prepared(
    select(t.identity.c.treasury, t.identity.c.chain_id, t.identity.c.kernel, t.identity.c.signer)
)

SignTyped = Callable[[TypedData], str]
"""Sign as the treasury; the signature in hex."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host with a certificate that stands; rows above ``last_row`` count no more (None: all)."""

    certificate: Certificate
    last_row: int | None = None
    revoked_at: int | None = None

    @property
    def id(self) -> str:
        return self.certificate.id

    @property
    def revoked(self) -> bool:
        return self.last_row is not None

    def may_have_written(self, seq: int, event: str) -> bool:
        """Return whether its certificate covers such a row."""
        known = self.certificate
        late = self.last_row is not None and seq > self.last_row
        return known.after_row < seq and not late and may_write(known.role, event)


@dataclass(frozen=True, slots=True)
class OwnHost:
    """This host: its key, the name that it wants, and how it certifies itself (None: it can't)."""

    key: HostKey
    name: str
    sign: SignTyped | None = None


class Hosts:
    """Reads hosts of a database; only what the treasury's key signed is believed.

    ``treasury`` is the account that this process knows, ``signer`` the one that signs for it, by
    default the same; without them those of the database. ``formers`` are those that it knows the
    treasury had before.
    """

    def __init__(
        self,
        treasury: str | None = None,
        formers: Sequence[str] = (),
        *,
        signer: str | None = None,
    ) -> None:
        self.treasury = treasury
        self.signer = signer or treasury
        self.formers = tuple(formers)
        self._trust: Trust | None = None
        self._cached: dict[tuple[Any, ...], Host | None] = {}

    def trust(self, connection: Connection) -> Trust | None:
        """Return the root of trust; None while the database belongs to nobody."""
        if self._trust is None:
            row = _IDENTITY.one(connection)
            if row is not None:
                treasury = self.treasury or row[0]
                signer = self.signer or row[3]
                key = signer if signer != treasury else None
                self._trust = Trust(treasury, row[1], row[2], self.formers, key)
        return self._trust

    def find(self, connection: Connection, host_id: str, *state: Any) -> Host | None:
        """Return the host; None without a certificate that stands.

        ``state`` is its certificate and its revocation where the caller has read them already.
        """
        key = (host_id, *state)
        if not state or key not in self._cached:
            row = _BY_ID.one(connection, {"id_": host_id})
            return self._remember(key if state else None, self.read(connection, row))
        return self._cached[key]

    def all(self, connection: Connection) -> Mapping[str, Host]:
        """Return every host whose certificate stands, by id."""
        return self.of(connection, host_rows(connection))

    def of(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Host]:
        """Return the hosts of these rows of the table whose certificates stand, by id."""
        names = _h.keys()
        found = (self.read(connection, [row.get(name) for name in names]) for row in rows)
        return {host.id: host for host in found if host is not None}

    def read(self, connection: Connection, row: Iterable[Any] | None) -> Host | None:
        """Return the host of a row of the table; None where its certificate does not stand."""
        trust = self.trust(connection)
        if row is None or trust is None:
            return None
        values = tuple(row)
        if values not in self._cached:
            self._remember(values, verified_host(trust, dict(zip(_h.keys(), values, strict=True))))
        return self._cached[values]

    def _remember(self, key: tuple[Any, ...] | None, host: Host | None) -> Host | None:
        if key is not None:
            if len(self._cached) >= _CACHED_MAX:
                self._cached.clear()
            self._cached[key] = host
        return host


def host_rows(connection: Connection) -> list[dict[str, Any]]:
    """Return the table's rows, by id."""
    query = select(t.hosts).order_by(_h.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def hosts_of(trust: Trust, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Host]:
    """Return the hosts of an export whose certificates stand, by id."""
    found = (verified_host(trust, row) for row in rows)
    return {host.id: host for host in found if host is not None}


def verified_host(trust: Trust, row: Mapping[str, Any]) -> Host | None:
    """Return the host of a row of the table; None where ``trust``'s key has not signed it."""
    try:
        certificate = Certificate(
            name=row["name"],
            public_key=row["public_key"],
            role=HostRole(row["role"]),
            after_row=row["after_row"],
            certified_at=row["certified_at"],
        )
        if row["id"] != certificate.id:
            return None
        if signer_of(certificate.message(trust), row["certificate"]) != trust.signer:
            return None
        last, at = row["last_row"], row["revoked_at"]
        if last is None and at is None and row["revocation"] is None:
            return Host(certificate)
        message = certificate.revocation(trust, last_row=last, revoked_at=at)
        if signer_of(message, row["revocation"]) != trust.signer:
            # Whoever can write to the database can put a host out of use, and nothing more.
            return None
        return Host(certificate, last, at)
    except (AttributeError, OverflowError, TypeError, ValueError):
        # SQLite keeps any type in any column: what can't be read was not written here.
        return None


def signer_of(message: TypedData, signature: str) -> str | None:
    """Return the address of the account that signed; None when nobody did."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        if len(raw) != 65 or raw[64] not in (27, 28):
            return None
    except (AttributeError, TypeError, ValueError):
        return None
    return any_signer(message.digest, raw[:64] + bytes([raw[64] - 27]))
