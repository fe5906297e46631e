"""A coordinator that decides on a real database, and plain SQL to look behind its back.

It has the contracts that ship for Base Sepolia and no endpoint: deciding never asks a chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from coordinator.api.coordinator import Agent, Coordinator
from coordinator.config import Settings
from coordinator.domain.chain.escrow_key import audit_key
from coordinator.domain.limits.limits import Scope
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.limits.overlays import insert_overlay
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from coordinator.wiring import Wiring
from tests.integration.stores import all_rows, edit, is_postgresql, rows, tables, url_of

__all__ = ["edit", "rows", "tables"]

SIGNER_KEY = "0x" + "11" * 32
ID_SECRET = "22" * 32
HOST_KEY = "33" * 32
# 2026-01-01 12:00:00 UTC, in the middle of a day in every zone that the tests use.
NOON = 1_767_268_800
HOUR, DAY = 3600, 86_400
USDC = 10**6
PROVIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"

POLICY: Mapping[str, Any] = {
    "organisation": {"total_limit": "1000000", "daily_limit": "unlimited", "time_zone": "UTC"},
    "agents": {
        name: {
            "per_purchase_limit": "unlimited",
            "daily_limit": "unlimited",
            "approval_threshold": "50",
        }
        for name in ("ada", "bert", "cora", "dan")
    },
    "providers": {"paper-api": {"address": PROVIDER, "service": "papers"}},
    "categories": {"default": "other", "other": {}, "data": {}},
    "approvals": {"required": 1, "approvers": ["alice", "bob", "carol"], "expires_after": "1h"},
}


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def policy(changes: Mapping[str, Any] | None = None) -> Policy:
    """``POLICY`` with ``changes`` laid over it; a None removes a key."""
    return Policy.from_dict(_overlaid(POLICY, changes or {}))


def _overlaid(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in changes.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(made.get(key), Mapping):
            made[key] = _overlaid(made[key], value)
        else:
            made[key] = value
    return made


def open_coordinator(
    database: str | Path,
    policy: Policy | Path,
    *,
    clock: Clock | None = None,
    key: str | None = SIGNER_KEY,
    secret: str | None = ID_SECRET,
    host_key: str = HOST_KEY,
    lock_timeout_seconds: int = 120,
    **settings: Any,
) -> Coordinator:
    """A coordinator of the URL or file; its parts are built when they are first used."""
    url = url_of(database)
    values = {"network": "base-sepolia", "database_url": url, **settings}
    secrets = {
        "TREASURY_PRIVATE_KEY": key,
        "COORDINATOR_ID_SECRET": secret,
        "COORDINATOR_HOST_KEY": host_key,
    }
    wiring = Wiring(
        Settings.model_validate(values),
        {name: value for name, value in secrets.items() if value is not None},
        policy=policy,
        clock=clock or Clock(),
    )
    # Many threads on a slow machine wait longer in turn than a person would.
    wiring.database = open_database(url, lock_timeout_seconds=lock_timeout_seconds)
    coordinator = Coordinator(wiring, act=False)
    try:
        migrate(wiring.database)
    except BaseException:
        coordinator.close()
        raise
    return coordinator


def ask(agent: Agent, amount: str = "1.00", **terms: Any) -> Purchase:
    """Ask to buy from the one provider, and take the decision as the answer."""
    asked = {"provider": "paper-api", "purpose": "a paper", "wait": False, **terms}
    return agent.purchase(amount=amount, **asked)


def lay_over(
    coordinator: Coordinator,
    overlay_id: str,
    kind: str,
    scope: str,
    window: str | None = None,
    units: int | None = None,
    *,
    starts_at: int = NOON,
    ends_at: int | None = None,
    reason: str = "a test",
) -> None:
    """Lay a grant, a share or a disabled agent over the policy, with what the audit log tells."""
    whose = Scope.of(scope)
    values = {
        "scope": whose,
        "window": Window(window) if window else None,
        "amount": Usdc.from_base_units(units) if units is not None else None,
    }
    said: dict[str, Any] = {"by": "olga", "reason": reason, "window": window}
    if kind == "grant":
        event, subject = "limit_granted", overlay_id
        said |= {"of": None, "ends_at": ends_at, "scope": scope, "amount": units}
    elif kind == "allocation":
        event, (subject, _, agent) = "pool_shared", whose.id.partition("/")
        said |= {"shares": {agent: units}, "ids": {agent: overlay_id}}
    else:
        event, subject = f"agent_{kind}", whose.id
    wiring = coordinator.wiring
    with wiring.database.write() as connection:
        insert_overlay(
            connection,
            kind,
            author="olga",
            reason=reason,
            starts_at=starts_at,
            ends_at=ends_at,
            overlay_id=overlay_id,
            **values,
        )
        append(wiring, connection, starts_at, event, subject, **said)


def append(
    wiring: Wiring, connection: Connection, at: int, event: str, subject: str, **body: Any
) -> None:
    """Append to the audit log in a transaction that is open already."""
    tx = wiring.transactions.begin(connection)
    tx.record(at, event, subject, **body)
    tx.flush()


def contents(database: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table: equal contents mean that nothing was written."""
    names = tables(database)
    answers = all_rows(database, [f'SELECT * FROM "{name}"' for name in names])
    return {name: sorted(found, key=repr) for name, found in zip(names, answers, strict=True)}


def counters(database: str | Path) -> dict[tuple[Any, ...], tuple[int, int]]:
    """(held, spent) of every counter that is not zero."""
    query = 'SELECT scope_kind, scope_id, "window", start, held, spent FROM counters'
    return {tuple(r[:4]): (r[4], r[5]) for r in rows(database, query) if r[4] or r[5]}


def counter(
    database: str | Path, kind: str, of: str, window: str, start: int = 0
) -> tuple[int, int]:
    """(held, spent) of one counter; zeros where it was never charged."""
    return counters(database).get((kind, of, window, start), (0, 0))


def sums_of_holds(database: str | Path) -> dict[tuple[Any, ...], tuple[int, int]]:
    """What the counters have to say, added up from the holds that charged them."""
    query = """
        SELECT c.scope_kind, c.scope_id, c."window", c.start,
               sum(CASE h.status WHEN 'held' THEN h.amount ELSE 0 END), sum(h.posted)
        FROM hold_charges c JOIN holds h ON h.id = c.hold_id GROUP BY 1, 2, 3, 4
    """
    return {tuple(r[:4]): (r[4], r[5]) for r in rows(database, query) if r[4] or r[5]}


def assert_books_agree(database: str | Path) -> None:
    """Counters equal their holds; an open purchase has an open hold, a bound key and charges."""
    assert counters(database) == sums_of_holds(database)
    ended = "('denied', 'rejected', 'expired', 'cancelled', 'failed', 'settled')"
    assert not rows(
        database,
        f"""SELECT p.id, p.status, h.status FROM purchases p
            LEFT JOIN holds h ON h.purchase_id = p.id AND h.kind = 'purchase'
            WHERE p.status NOT IN {ended} AND coalesce(h.status, '') <> 'held'
               OR p.status = 'denied' AND h.id IS NOT NULL""",
    )
    assert not rows(
        database, "SELECT id FROM holds WHERE id NOT IN (SELECT hold_id FROM hold_charges)"
    )
    assert not rows(
        database,
        """SELECT id FROM purchases WHERE status <> 'denied' AND agent IS NOT NULL
           AND id NOT IN (SELECT purchase_id FROM idempotency_keys)""",
    )
    if is_postgresql(database):
        return
    assert rows(database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(database, "PRAGMA foreign_key_check") == []


def assert_log_is_whole(database: str | Path) -> None:
    """The audit log's chain stands, read as any process could."""
    opened = open_database(url_of(database))
    try:
        found = verify(AuditLog(opened, audit_key(bytes.fromhex(ID_SECRET))))
    finally:
        opened.close()
    assert not found.faults, found.faults
