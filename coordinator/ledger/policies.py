"""Policy versions: the one in force is the newest in the database."""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, insert, select

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.limits import COUNTED_WINDOWS, CounterKey, Scope, ScopeKind, window_bounds
from coordinator.domain.policy import Policy
from coordinator.ledger import schema as t
from coordinator.ledger.audit import AuditLog
from coordinator.ledger.counters import charge
from coordinator.ledger.database import Database


class PolicyBook:
    """Reads and activates versions."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit
        self._cached: tuple[int, Policy] | None = None

    def current(self) -> Policy:
        """The policy in force; ConfigurationError when none was ever applied."""
        with self._database.read() as connection:
            return self.in_force(connection)

    def any_applied(self) -> bool:
        """Whether any version was ever put in force."""
        with self._database.read() as connection:
            return connection.execute(select(t.policies.c.version).limit(1)).first() is not None

    def in_force(self, connection: Connection) -> Policy:
        """The policy in force, read in the caller's transaction."""
        version = connection.execute(select(func.max(t.policies.c.version))).scalar()
        if version is None:
            raise ConfigurationError("no policy was applied yet: run `coordinator policy apply`")
        # A local name: another thread with an older snapshot may change the attribute.
        cached = self._cached
        if cached is None or cached[0] != version:
            query = select(t.policies.c.document).where(t.policies.c.version == version)
            document = json.loads(connection.execute(query).scalar_one())
            cached = self._cached = (version, Policy.from_dict(document))
        return cached[1]

    def activate(
        self,
        policy: Policy,
        *,
        treasury: str,
        author: str,
        reason: str,
        now: int,
        only_first: bool = False,
    ) -> bool:
        """Make ``policy`` the one in force; False, and nothing written, when it already is.

        With ``only_first`` False too when any other was ever in force.

        A change of the time zone charges today's open and posted holds to the new day's counters
        in the same transaction. ConfigurationError when it would let the treasury pay itself.
        """
        name, _ = policy.provider(treasury)
        if name is not None:
            raise ConfigurationError(
                f"providers.{name}.address is the treasury's own: it can't pay itself"
            )
        with self._database.write() as connection:
            newest = select(t.policies.c.hash).order_by(t.policies.c.version.desc()).limit(1)
            before = connection.execute(newest).scalar()
            if before == policy.hash or (only_first and before is not None):
                return False
            old_zone = self.in_force(connection).zone if before else policy.zone
            connection.execute(
                insert(t.policies).values(
                    hash=policy.hash,
                    author=author,
                    reason=reason,
                    activated_at=now,
                    document=json.dumps(policy.document(), sort_keys=True),
                )
            )
            if old_zone.key != policy.zone.key:
                _recount(connection, policy, now)
            self._audit.append(
                connection,
                now,
                "policy_activated",
                policy.hash,
                author=author,
                reason=reason,
                before=before,
            )
        return True


def _recount(connection: Connection, policy: Policy, now: int) -> None:
    for window in COUNTED_WINDOWS:
        start, end = window_bounds(window, now, policy.zone)
        if end is None:
            continue
        holds = connection.execute(
            select(t.holds).where(t.holds.c.placed_at >= start, t.holds.c.placed_at < end)
        ).all()
        for hold in holds:
            charges = select(t.hold_charges).where(t.hold_charges.c.hold_id == hold.id)
            charged = list(connection.execute(charges))
            keys = {CounterKey(_scope(row), window, start) for row in charged}
            present = {CounterKey(_scope(row), row.window, row.start) for row in charged}
            held = hold.amount if hold.status == "held" else 0
            charge(connection, hold.id, sorted(keys - present), held=held, spent=hold.posted)


def _scope(row: object) -> Scope:
    return Scope(ScopeKind(row.scope_kind), row.scope_id)  # type: ignore[attr-defined]
