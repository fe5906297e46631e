"""Certify this host at its first write, and say what to run where it can't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.hosts import NAME_MAX, Certificate, HostRole
from coordinator.ledger.audit.hosts import Host, Hosts, OwnHost
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

_h = t.hosts.c
# Prepared, as all that may be sent together with a commit.
_OF_KEY: Final = Prepared(select(_h.id).where(_h.public_key == bindparam("key_")))
_TAKEN: Final = Prepared(select(_h.name).where(_h.revocation.is_(None)))
_COLUMNS: Final = (
    *("id", "name", "public_key", "role"),
    *("after_row", "certified_at", "certificate"),
)
_PUT: Final = Prepared(insert(t.hosts), *_COLUMNS)


@dataclass(frozen=True, slots=True)
class Certified:
    """A host with a new certificate, and (event, subject, body) of the row that tells it."""

    host: Host
    told: tuple[str, str, Mapping[str, Any]]


def certify(
    connection: Connection, hosts: Hosts, own: OwnHost, after_row: int, now: int
) -> Certified:
    """Certify this host as a worker, in the caller's transaction, which holds the treasury's key.

    ConfigurationError, which says what to run, when it doesn't, or the host's key was revoked.
    """
    known = _OF_KEY.one(connection, {"key_": own.key.public_key})
    if known is not None:
        raise ConfigurationError(
            f"the certificate of this host, {known[0]}, does not stand for this treasury: nothing"
            " was written; give the host another key (COORDINATOR_HOST_KEY_FILE)"
        )
    if own.sign is None:
        raise uncertified(own)
    certificate = Certificate(
        name=_free_name(connection, own.name),
        public_key=own.key.public_key,
        role=HostRole.WORKER,
        after_row=after_row,
        certified_at=now,
    )
    return put_certificate(connection, hosts, own, certificate, by="worker")


def put_certificate(
    connection: Connection, hosts: Hosts, own: OwnHost, certificate: Certificate, *, by: str
) -> Certified:
    """Sign and store a certificate; the caller appends the row that tells it."""
    trust = hosts.trust(connection)
    assert trust is not None and own.sign is not None, "a database is claimed before it is written"
    values = (
        *(certificate.id, certificate.name, certificate.public_key, certificate.role.value),
        *(certificate.after_row, certificate.certified_at, own.sign(certificate.message(trust))),
    )
    _PUT.each(connection, [dict(zip(_COLUMNS, values, strict=True))])
    body = {
        "name": certificate.name,
        "public_key": certificate.public_key,
        "role": certificate.role.value,
        "by": by,
    }
    return Certified(Host(certificate), ("host_added", certificate.id, body))


def uncertified(own: OwnHost) -> ConfigurationError:
    """Return the refusal of a host that nobody certified and that can't do it itself."""
    return ConfigurationError(
        f"this host, {own.name}, is not certified to write: on a host with the treasury's key"
        f" run `coordinator hosts add {own.name} {own.key.public_key}`"
    )


def refused(host: Host, event: str) -> ConfigurationError:
    """Return the refusal of a row that only a worker may write."""
    return ConfigurationError(
        f"this host, {host.id}, may decide and not act ({event}): run this on a host with the"
        " treasury's key"
    )


def revoked(host: Host) -> ConfigurationError:
    """Return the refusal of any row of a revoked host."""
    return ConfigurationError(
        f"the key of this host, {host.id}, was revoked, and nothing was written: give the host"
        " another key (COORDINATOR_HOST_KEY_FILE)"
    )


def _free_name(connection: Connection, wanted: str) -> str:
    """Return the name, with a number where another key that was not revoked has it."""
    taken = {row[0] for row in _TAKEN.rows(connection)}
    names = (wanted, *(f"{wanted[: NAME_MAX - 4]}-{n}" for n in range(2, 1000)))
    return next(name for name in names if name not in taken)
