"""Certify and revoke hosts, each with its row in the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, select, update

from coordinator.domain.errors import ConfigurationError, InvalidRequest, UnknownId
from coordinator.domain.hosts import Certificate, HostRole, ListedHost
from coordinator.ledger.audit.certifying import put_certificate
from coordinator.ledger.audit.hosts import OwnHost
from coordinator.ledger.audit.log import read_head
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_h = t.hosts.c


class HostBook:
    """The hosts that may write; only who has the treasury's key changes them."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def list(self) -> Sequence[ListedHost]:
        """Return all hosts, oldest first, those that were revoked too."""
        query = select(t.hosts).order_by(_h.certified_at, _h.id)
        with self._transactions.read() as tx:
            return [_listed(tx, row) for row in tx.connection.execute(query)]

    def add(self, name: str, public_key: str, *, by: str, now: int) -> ListedHost:
        """Certify a key to decide as ``name``; again with the same key, nothing changes.

        InvalidRequest while the name has another key, or the key was revoked or has another name;
        ConfigurationError without the treasury's key.
        """
        with self._transactions.write() as tx:
            own = _with_key(tx)
            for row in tx.connection.execute(select(t.hosts)):
                if row.public_key == public_key:
                    return _same(tx, row, name)
                if row.name == name and row.revocation is None:
                    raise InvalidRequest(
                        f"{name} has another key already, {row.public_key}: revoke it first"
                        f" (`coordinator hosts revoke {name}`), or give the host another name"
                    )
            certificate = Certificate(
                name=name,
                public_key=public_key,
                role=HostRole.DECIDER,
                after_row=read_head(tx.connection).count,
                certified_at=now,
            )
            made = put_certificate(tx.connection, tx.audit.hosts, own, certificate, by=by)
            event, subject, body = made.told
            tx.record(now, event, subject, **body)
            return _found(tx, certificate.id)

    def revoke(self, name: str, *, reason: str, by: str, now: int) -> ListedHost:
        """Let no later row of the host count, anywhere, and nothing be signed for its earlier ones.

        UnknownId when no host has the name, InvalidRequest for the key that this host itself signs
        with; ConfigurationError without the treasury's key.
        """
        with self._transactions.write() as tx:
            own = _with_key(tx)
            query = select(t.hosts).where(_h.name == name, _h.revocation.is_(None))
            row = tx.connection.execute(query).first()
            if row is None:
                raise UnknownId(f"no host that counts is named {name[:60]!r}")
            if row.public_key == own.key.public_key:
                raise InvalidRequest(
                    f"{name} is this host, whose key would sign that it is revoked: give this host"
                    " another key (COORDINATOR_HOST_KEY_FILE), then run it again"
                )
            host = tx.audit.hosts.read(tx.connection, row)
            if host is None:
                raise InvalidRequest(f"the certificate of {name} does not stand: it counts nowhere")
            last = read_head(tx.connection).count
            trust = tx.audit.hosts.trust(tx.connection)
            assert trust is not None and own.sign is not None
            message = host.certificate.revocation(trust, last_row=last, revoked_at=now)
            ended = {"last_row": last, "revoked_at": now, "revocation": own.sign(message)}
            tx.connection.execute(update(t.hosts).where(_h.id == host.id).values(ended))
            told = {"name": name, "public_key": row.public_key, "last_row": last}
            tx.record(now, "host_revoked", host.id, **told, by=by, reason=reason)
            return _found(tx, host.id)

    def written(self, host_id: str) -> Mapping[str, int]:
        """Count the rows of a host by event."""
        a = t.audit.c
        query = select(a.event, func.count()).where(a.host == host_id).group_by(a.event)
        with self._transactions.read() as tx:
            found = tx.connection.execute(query.order_by(a.event)).all()
        return {event: int(count) for event, count in found}


def _with_key(tx: Tx) -> OwnHost:
    own = tx.audit.own_host()
    if own.sign is None:
        raise ConfigurationError(
            "hosts are certified and revoked with the treasury's key, which is not here: run this"
            " on a host that has it"
        )
    return own


def _same(tx: Tx, row: Row[Any], name: str) -> ListedHost:
    found = _listed(tx, row)
    if row.name != name:
        raise InvalidRequest(f"this key is that of {row.name}: a host has a key of its own")
    if found.status != "valid":
        raise InvalidRequest(f"this key of {name} is {found.status}: give the host another one")
    return found


def _found(tx: Tx, host_id: str) -> ListedHost:
    return _listed(tx, tx.connection.execute(select(t.hosts).where(_h.id == host_id)).one())


def _listed(tx: Tx, row: Row[Any]) -> ListedHost:
    host = tx.audit.hosts.read(tx.connection, row)
    return ListedHost(
        id=row.id,
        name=row.name,
        public_key=row.public_key,
        role=row.role,
        status="invalid" if host is None else "revoked" if host.revoked else "valid",
        certified_at=row.certified_at,
        revoked_at=row.revoked_at,
    )
