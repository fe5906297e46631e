"""API keys: made, rotated, revoked, and found by what a request shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, insert, select, update

from coordinator.domain.access.keys import ApiKey, NewKey, Role, new_token, read_token, same_digest
from coordinator.domain.errors import InvalidRequest, LedgerTampered, UnknownId
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_k: Final = t.api_keys.c
_ONE: Final = Prepared(select(t.api_keys).where(_k.id == bindparam("id_")))

CREATED, REVOKED, ROTATED = "api_key_created", "api_key_revoked", "api_key_rotated"


class ApiKeyBook:
    """The keys. A row proves nothing by itself: what it says must stand in the audit log."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def create(self, role: Role, name: str, *, expires_at: int | None, by: str, now: int) -> NewKey:
        """Make a key that speaks as ``name``; its token is in the answer and nowhere else."""
        with self._transactions.write() as tx:
            return _create(tx, role, name, expires_at, by, now)

    def rotate(self, key_id: str, *, old_until: int, by: str, now: int) -> NewKey:
        """Make another key for the same; the old one counts until ``old_until`` at most.

        The new one expires as long after now as the old one did after it was made. UnknownId when
        there is none, InvalidRequest when it does not count any more.
        """
        with self._transactions.write() as tx:
            old = _found(tx, key_id)
            if old.status(now) != "valid":
                raise InvalidRequest(f"the key {key_id} is {old.status(now)}: create another one")
            life = old.expires_at - old.created_at if old.expires_at is not None else None
            ends = None if life is None else now + life
            made = _create(tx, old.role, old.name, ends, by, now)
            until = old_until if old.expires_at is None else min(old_until, old.expires_at)
            _change(tx, key_id, expires_at=until, replaced_by=made.key.id)
            tx.record(now, ROTATED, key_id, by=by, expires_at=until, replaced_by=made.key.id)
            return made

    def revoke(self, key_id: str, *, by: str, now: int) -> ApiKey:
        """End the key at once; revoking it again changes nothing. UnknownId when there is none."""
        with self._transactions.write() as tx:
            if _found(tx, key_id).revoked_at is None:
                _change(tx, key_id, revoked_at=now, revoked_by=by)
                tx.record(now, REVOKED, key_id, by=by)
            return _found(tx, key_id)

    def list(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first, those that ended too."""
        query = select(t.api_keys).order_by(_k.created_at, _k.id)
        with self._transactions.database.read() as connection:
            return [_key_of(row) for row in connection.execute(query)]

    def authenticate(self, token: str, *, now: int) -> ApiKey | None:
        """Return the key that the token belongs to, if it counts now.

        LedgerTampered when its row is not what the audit log tells.
        """
        read = read_token(token)
        if read is None:
            return None
        key_id, digest = read
        with self._transactions.read() as tx:
            row = _ONE.one(tx.connection, {"id_": key_id})
            # A key that nobody has takes as long as one with another secret.
            stored = row[_DIGEST] if row else "0" * 64
            if not same_digest(stored, digest) or row is None:
                return None
            # At each request: a row that was proved once may be put back by SQL.
            if _logged(tx, key_id) != tuple(row[:_LOGGED]):
                raise LedgerTampered(f"API key {key_id}")
        key = _key_of(row)
        return key if key.status(now) == "valid" else None

    def counts(self, key_id: str, *, now: int) -> bool:
        """Return whether the key is there and counts now."""
        with self._transactions.database.read() as connection:
            row = _ONE.one(connection, {"id_": key_id})
        return row is not None and _key_of(row).status(now) == "valid"

    def note_uses(self, key_ids: Collection[str], *, now: int) -> None:
        """Store that the keys were used now."""
        with self._transactions.database.write() as connection:
            connection.execute(
                update(t.api_keys).where(_k.id.in_(sorted(key_ids))).values(last_used_at=now)
            )


_NAMES: Final = tuple(column.name for column in t.api_keys.columns)
_DIGEST: Final = _NAMES.index("digest")
# All but the last column are told by the log.
_LOGGED: Final = _NAMES.index("last_used_at")


def _logged(tx: Tx, key_id: str) -> tuple[Any, ...] | None:
    """Return the row's values as the log tells them."""
    told: dict[str, Any] = {}
    for row in tx.proven(key_id, events=(CREATED, REVOKED, ROTATED)):
        body: Mapping[str, Any] = row.body
        if row.event == CREATED:
            told = dict.fromkeys(_NAMES[:_LOGGED])
            told |= {name: body[name] for name in ("role", "name", "digest", "expires_at")}
            told |= {"id": key_id, "created_by": body["by"], "created_at": row.at}
        elif row.event == REVOKED:
            told |= {"revoked_at": row.at, "revoked_by": body["by"]}
        else:
            told |= {name: body[name] for name in ("expires_at", "replaced_by")}
    return tuple(told[name] for name in _NAMES[:_LOGGED]) if told else None


def _create(tx: Tx, role: Role, name: str, expires_at: int | None, by: str, now: int) -> NewKey:
    key_id, token, digest = new_token()
    key = ApiKey(key_id, role, name, by, now, expires_at)
    values = {
        "id": key_id,
        "role": role.value,
        "name": name,
        "digest": digest,
        "created_by": by,
        "created_at": now,
        "expires_at": expires_at,
    }
    with tx.written() as connection:
        connection.execute(insert(t.api_keys).values(values))
    told = {n: values[n] for n in ("role", "name", "digest", "expires_at")}
    tx.record(now, CREATED, key_id, by=by, **told)
    return NewKey(key, token)


def _change(tx: Tx, key_id: str, **values: Any) -> None:
    with tx.written() as connection:
        connection.execute(update(t.api_keys).where(_k.id == key_id).values(values))


def _found(tx: Tx, key_id: str) -> ApiKey:
    row = tx.connection.execute(select(t.api_keys).where(_k.id == key_id)).one_or_none()
    if row is None:
        raise UnknownId(f"there is no API key {key_id[:60]!r}")
    return _key_of(row)


def _key_of(row: Row[Any] | Sequence[Any]) -> ApiKey:
    found = dict(zip(_NAMES, row, strict=True))
    del found["digest"]
    return ApiKey(**{**found, "role": Role(found["role"])})
