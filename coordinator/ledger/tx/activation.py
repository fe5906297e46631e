"""Put a version of the policy in force."""

from __future__ import annotations

import json

from sqlalchemy import insert, select

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.limits.rules import Rules
from coordinator.domain.notices import limits_changed
from coordinator.domain.policy.payees import Contracts, unpayable_providers
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.limits.recount import recount
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.notices import forget_due
from coordinator.ledger.tx.policies import ACTIVATED, SIGNED
from coordinator.ledger.tx.transaction import Tx


def activate_policy(
    tx: Tx,
    policy: Policy,
    *,
    contracts: Contracts,
    author: str,
    reason: str,
    now: int,
    only_first: bool = False,
    proposal: str | None = None,
) -> bool:
    """Make ``policy`` the one in force; False, and nothing written, when it already is.

    Where the one in force lets nobody decide without signing, ConfigurationError unless approvers
    have signed the ``proposal``; what is in force already is noted as signed.

    With ``only_first`` False too when any other was ever in force. Overlays stay.

    A version that adds a limit, a window or a member of a pool, or changes the zone, charges
    what is held and spent in the windows of the present to their counters in the same
    transaction. ConfigurationError when a provider is an address that can't be paid, such as
    the treasury's own or a contract of the rail.
    """
    unpayable = unpayable_providers(policy, contracts)
    faults = [f"providers.{name}.address: {why}" for name, why in unpayable]
    if faults:
        raise ConfigurationError(*faults)
    newest = select(t.policies.c.hash).order_by(t.policies.c.version.desc()).limit(1)
    before = tx.connection.execute(newest).scalar()
    if before == policy.hash and proposal is not None:
        tx.record(now, SIGNED, policy.hash, author=author, reason=reason, proposal=proposal)
    if before == policy.hash or (only_first and before is not None):
        return False
    old = tx.rules if before else None
    if old is not None and old.policy.approvals.signatures == "required" and proposal is None:
        raise ConfigurationError(
            "the policy in force lets nobody change it without signing: run"
            " `coordinator policy draft`, and have approvers sign the draft"
        )
    with tx.written() as connection:
        connection.execute(
            insert(t.policies).values(
                hash=policy.hash,
                author=author,
                reason=reason,
                activated_at=now,
                document=json.dumps(policy.document(), sort_keys=True),
            )
        )
        if old is not None:
            recount(connection, old, Rules(policy, old.overlays, contracts), now)
            if not old.policy.alerts.notify:
                forget_due(connection)
            short = policy.hash[:12]
            text = f"{author} put policy {short}… in force: {reason}"
            tx.notify([limits_changed(f"policy:{short}:{now}", "policy", text, now)])
    tx.record(
        now,
        ACTIVATED,
        policy.hash,
        author=author,
        reason=reason,
        before=before,
        proposal=proposal,
        document=policy.document(),
    )
    # The log proves which version is in force.
    tx.flush()
    tx.reread_rules()
    return True
