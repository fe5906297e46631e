"""Stop new spending in a scope, and allow it again."""

from __future__ import annotations

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.inputs import free_text, identifier
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import Approver
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.proposal import ProposalKind
from coordinator.domain.reasons import Reason
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.tx.pausing import Pause
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.propose import propose


def pause_spending(
    operations: OperationsBook,
    policies: PolicyBook,
    *,
    scope: str,
    of: str,
    reason: str,
    by: str,
    now: int,
) -> bool:
    """Stop new spending in a scope, for every process at once; False if it is stopped already.

    Funded escrows are followed, settled and reclaimed all the same. It needs the database alone:
    stopping everything works before any policy was applied.
    """
    reason, by = free_text("reason", reason, 2000), identifier("by", by)
    if scope not in ("organisation", "x402"):
        of = named_in_policy(policies.current(), scope, of)
    return operations.pause(Pause(scope, of, reason, by, now))


def unpause(
    tx: Tx, scope: str, of: str, approver: Approver, *, reason: str, now: int
) -> Reason | None:
    """Propose to allow spending again; the last approver that the policy requires does so.

    None when it is done, or was not stopped; otherwise why not.
    """
    paused = tx.treasury_state.paused
    if (scope, of) not in paused and scope != "organisation":
        of = named_in_policy(tx.policy, scope, of)
    refusal = not_an_approver(tx.policy, approver.name)
    if refusal is not None or (scope, of) not in paused:
        return refusal
    terms = {"scope_kind": scope, "scope_id": of}
    return propose(tx, ProposalKind.UNPAUSE, terms, approver, reason=reason, now=now).refusal


def named_in_policy(policy: Policy, scope: str, of: str) -> str:
    """Return the name by which decisions know an agent, pool or provider of the policy.

    InvalidRequest if they know none.
    """
    if not isinstance(of, str):
        raise InvalidRequest(f"the {scope} must be named by text, not {type(of).__name__}")
    if scope == "agent" and of not in policy.agents:
        raise InvalidRequest(f"{of[:60]!r} is not an agent of the policy")
    if scope == "pool" and of not in policy.pools:
        raise InvalidRequest(f"{of[:60]!r} is not a pool of the policy")
    if scope != "provider":
        return of
    name, _ = policy.provider(of)
    if name is None:
        raise InvalidRequest(f"{of[:60]!r} is not a provider of the policy")
    return name
