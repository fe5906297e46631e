"""The rules that a worker takes from people's signatures and its own settings, and no host."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from coordinator.domain.audit import AuditRow
from coordinator.domain.policy.delays import change_delay, delayed_changes
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import ProposalKind, ProposalStatus
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.pins import Pins
from coordinator.domain.statements.recovery import RECOVERY_SECONDS, recovery_refused
from coordinator.domain.statements.signed import Signed
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.agreement import proposal_agreement
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.tx.checkpoints import CheckpointBook

DAY: Final = 86_400
SPENDS: Final = frozenset({"link_signed", "dispute_signed", "x402_signed"})
POLICY_EVENTS: Final = frozenset({"policy_activated", "policy_signed"})


class PolicyChange(NamedTuple):
    """A row of the log by which a version came into force, and the draft it names."""

    seq: int
    event: str
    hash: str
    proposal: str | None


@dataclass(frozen=True, slots=True)
class SignedRules:
    """Pins and limits of this worker. ``daily_limit`` counts the last 24 hours of what it signed,
    ``total_limit`` all that the audit log tells it ever signed; each allows equal, None all.
    ``wallet`` is its account for HTTP requests, None where it has none.
    """

    book: CheckpointBook
    pins: Pins | None = None
    daily_limit: Usdc | None = None
    total_limit: Usdc | None = None
    wallet: str | None = None
    _policies: dict[str, Policy] = field(default_factory=dict)

    def policy(self, policy_hash: str | None) -> Policy | None:
        """Return the version with this hash; LedgerTampered when its document is gone."""
        if policy_hash is None:
            return None
        if policy_hash not in self._policies:
            self._policies[policy_hash] = self.book.policy(policy_hash)
        return self._policies[policy_hash]

    def room(self, day: int, total: int) -> int | None:
        """Return what may still be signed, in base units; None without limits."""
        left = [
            limit.base_units - spent
            for limit, spent in ((self.daily_limit, day), (self.total_limit, total))
            if limit is not None
        ]
        return min(left, default=None)

    def policy_refused(self, change: PolicyChange, accepted: str | None) -> str | None:
        """Say why a version that came into force is not one that approvers have signed."""
        assert self.pins is not None
        told = self._proposal(change.proposal, ProposalKind.POLICY)
        if isinstance(told, str):
            return told
        terms = told.proposal.terms
        if terms["hash"] != change.hash:
            return "another version was signed"
        if told.proposal.status is ProposalStatus.REJECTED:
            return "an approver rejected it"
        if accepted is None:
            return self._not_pinned(told)
        if change.hash == accepted:
            return None
        if terms["before"] != accepted:
            return f"it was signed to replace {terms['before']}, not {accepted}"
        if "recovery" in terms and self._recovery_refused(told) is None:
            return None
        return self._missing(told, self.policy(accepted))

    def effective_at(self, change: PolicyChange, accepted: str | None, seen_at: int) -> int:
        """Return from when on a signed version counts, by this worker's clock.

        ``seen_at`` is when it saw the draft first: what hosts say of times proves nothing.
        """
        told = self._proposal(change.proposal, ProposalKind.POLICY)
        if not isinstance(told, str) and "recovery" in told.proposal.terms:
            return seen_at + RECOVERY_SECONDS
        old, new, trust = self.policy(accepted), self.policy(change.hash), self.book.trust()
        if old is None or new is None or trust is None:
            return seen_at
        late = next(delayed_changes(old, new), None)
        return seen_at + (change_delay(old, trust.chain_id) if late is not None else 0)

    def unpause_refused(
        self, row: AuditRow, policy: Policy | None, used: Container[str], not_before: int
    ) -> str | None:
        """Say why an unpause is not one that approvers have signed; None where they need not.

        ``used``: those that were carried out; ``not_before``: the row is no older, as it may say.
        """
        if policy is None and self.pins is None:
            return None
        if policy is None:
            return "no policy is signed by the approvers that this worker pins"
        approvals = policy.approvals
        if not any(map(approvals.has_to_sign, approvals.approvers)):
            return None
        told = self._proposal(row.body.get("proposal"), ProposalKind.UNPAUSE)
        if isinstance(told, str):
            return told
        terms = told.proposal.terms
        if ":".join(filter(None, (terms["scope_kind"], terms["scope_id"]))) != row.subject:
            return "another scope was signed"
        if told.proposal.id in used:
            return "it was signed for an earlier pause"
        if max(row.at, not_before) >= told.proposal.expires_at:
            return "what was signed has expired"
        return self._missing(told, policy)

    def _proposal(self, proposal_id: str | None, kind: ProposalKind) -> LoggedProposal | str:
        told = self.book.proposal(proposal_id) if proposal_id is not None else None
        if told is None or told.proposal.kind is not kind:
            return "no approver has signed it"
        return told

    def _missing(self, told: LoggedProposal, policy: Policy | None) -> str | None:
        assert policy is not None
        agreed = proposal_agreement(policy, told.proposal, told.decisions, self.book.trust())
        return None if agreed.met else agreed.missing

    def _recovery_refused(self, told: LoggedProposal) -> str | None:
        """Say why the treasury's key has not recovered the policy."""
        terms, trust = told.proposal.terms, self.book.trust()
        assert trust is not None
        return recovery_refused(
            trust,
            id_=told.proposal.id,
            policy=terms["hash"],
            replaces=terms["before"],
            begun_at=told.proposal.created_at,
            signature=terms["recovery"],
        )

    def _not_pinned(self, told: LoggedProposal) -> str | None:
        assert self.pins is not None
        trust = self.book.trust()
        if trust is None:
            return "it is not known for which treasury it was signed"
        given = []
        for said in told.decisions.values():
            try:
                given.append(Signed.from_dict(said.get("signed") or {}))
            except ValueError:
                continue
        if not given:
            return "no approver has signed it"
        # Whoever signed the first version signed it under rules that are not believed yet.
        expected = proposal_statement(self.book.policy(told.proposal.terms["hash"]), told.proposal)
        return self.pins.missing(expected, given, trust)
