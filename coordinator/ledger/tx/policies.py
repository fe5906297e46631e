"""Policy versions and their overlays: the newest of both is in force."""

from __future__ import annotations

import json
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, func, literal_column, select

from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import ConfigurationError, LedgerTampered
from coordinator.domain.limits.rules import Opening, Rules
from coordinator.domain.policy.payees import Contracts
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.limits.overlays import list_overlays, read_overlays
from coordinator.ledger.proofs.row_proofs import opening_fault, overlay_faults
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared

_p, _o = t.policies.c, t.overlays.c
# Hash and id beside the numbers, which a database that was restored may give a second time.
_VERSION: Final = Prepared(
    select(
        select(func.max(_p.version)).scalar_subquery(),
        select(_p.hash).order_by(_p.version.desc()).limit(literal_column("1")).scalar_subquery(),
        select(_o.id).order_by(_o.seq.desc()).limit(literal_column("1")).scalar_subquery(),
    )
)


ACTIVATED: Final = "policy_activated"
# The version in force, which approvers have signed after it was applied.
SIGNED: Final = "policy_signed"


class PolicyBook:
    """Reads the versions: the newest is in force."""

    def __init__(
        self, database: Database, audit: AuditLog, contracts: Contracts = MappingProxyType({})
    ) -> None:
        self._database = database
        self._audit = audit
        self._contracts = contracts
        self._cached: tuple[int, str, str | None, Rules] | None = None

    def current(self) -> Policy:
        """The policy in force; ConfigurationError when none was ever applied."""
        return self.current_rules().policy

    def current_rules(self) -> Rules:
        """The policy in force with its overlays; ConfigurationError when none was ever applied."""
        with self._database.read() as connection:
            return self.rules(connection)

    def overlays(self, *, at: int) -> list[dict[str, Any]]:
        """List the overlays, each with author and reason, as JSON shows them at ``at``."""
        with self._database.read() as connection:
            return [overlay.as_dict(at=at) for overlay in list_overlays(connection)]

    def any_applied(self) -> bool:
        """Whether any version was ever put in force."""
        with self._database.read() as connection:
            return connection.execute(select(t.policies.c.version).limit(1)).first() is not None

    def rules(self, connection: Connection, *, changed: bool = False) -> Rules:
        """The rules in force, read in the caller's transaction.

        With ``changed``, by that very transaction, they are read anew and not remembered.
        """
        found = _VERSION.one(connection)
        assert found is not None
        version, policy_hash, newest_overlay = found
        if version is None:
            raise ConfigurationError("no policy was applied yet: run `coordinator policy apply`")
        # A local name: another thread with an older snapshot may change the attribute.
        cached = self._cached
        if changed or cached is None or cached[:3] != (version, policy_hash, newest_overlay):
            same = cached is not None and cached[:2] == (version, policy_hash)
            policy = cached[3].policy if cached and same else self._proved(connection, version)
            # What this very transaction laid over it is not in the log yet.
            if not changed:
                self._require_overlays(connection, policy)
            rules = Rules(policy, read_overlays(connection), self._contracts)
            cached = (version, policy_hash, newest_overlay, rules)
            # What came before the change would be believed again if its rows were deleted.
            self._cached = None if changed else cached
        return cached[3]

    def opening(self, connection: Connection, kind: str, name: str) -> Opening | None:
        """The task or session that was opened by name; LedgerTampered where its row differs."""
        fault = opening_fault(connection, self._audit, kind, name)
        if fault is not None:
            raise LedgerTampered(fault)
        return read_opening(connection, kind, name)

    def _require_overlays(self, connection: Connection, policy: Policy) -> None:
        """LedgerTampered when one was made up, or taken from an agent or a pool of the policy."""
        of = (*policy.agents, *policy.pools)
        fault = next(overlay_faults(connection, self._audit, of=of), None)
        if fault is not None:
            raise LedgerTampered(fault)

    def _proved(self, connection: Connection, version: int) -> Policy:
        """Return a version's policy; LedgerTampered unless the audit log tells that it is newest.

        The document is what its hash says, and the hash is what was last put in force.
        """
        row = connection.execute(select(t.policies).where(_p.version == version)).one()
        document = json.loads(row.document)
        told = self._audit.proven(connection, events=(ACTIVATED,), newest=1)
        if sha256(canonical_json(document)).hexdigest() != row.hash:
            raise LedgerTampered(f"the document of policy {row.hash[:12]}…")
        if not told or told[-1].subject != row.hash:
            raise LedgerTampered(f"policy {row.hash[:12]}… is not the one last put in force")
        return Policy.from_dict(document)
