"""Replay proposals: withdrawals, early settles and unpauses are only what approvers agreed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.recovery import RECOVERY_SECONDS, recovery_refused
from coordinator.domain.statements.statement import Statement
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.agreement import proposal_agreement
from coordinator.ledger.proofs.audit_fold import LoggedPurchase
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.proofs.replay.words import Words

_SAID: Final = frozenset({"proposal_approved_by", "proposal_rejected"})
_STEPS: Final = _SAID | {"proposal_made", "proposal_approved", "proposal_expired"}
_CARRIED_OUT: Final = {
    "withdraw_ordered": ProposalKind.WITHDRAW,
    "settle_wanted": ProposalKind.SETTLE,
    "unpaused": ProposalKind.UNPAUSE,
}
EVENTS: Final = _STEPS | set(_CARRIED_OUT)

FindPurchase = Callable[[str], LoggedPurchase | None]


class ReplayedProposals:
    """Follows proposals that wait, and what was carried out of those that were agreed to."""

    def __init__(self, words: Words, purchase: FindPurchase) -> None:
        self._words = words
        self._purchase = purchase
        self._waiting: dict[str, list[AuditRow]] = {}
        self._agreed: dict[str, tuple[LoggedProposal, list[str]]] = {}

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong at the row, and follow it."""
        if row.event in _CARRIED_OUT:
            yield from self._carried_out(row, _CARRIED_OUT[row.event])
            return
        if row.event == "proposal_made":
            self._waiting[row.subject] = [row]
            return
        told = LoggedProposal.of(self._waiting.get(row.subject, ()))
        if told is None:
            yield "nothing waited for approval"
            return
        if row.event in _SAID:
            yield from self._decided(row, told.proposal)
        if row.event == "proposal_approved_by":
            self._waiting[row.subject].append(row)
            return
        del self._waiting[row.subject]
        if row.event == "proposal_approved":
            policy, trust = self._words.in_force, self._words.trust
            agreed = proposal_agreement(policy, told.proposal, told.decisions, trust)
            if not agreed.met and not self._is_recovered(row, told.proposal):
                yield f"it was approved though {agreed.missing}"
                return
            names = list(agreed.names) if agreed.met else [told.proposal.by]
            if row.body["approved_by"] != names:
                yield f"{names} approved it, not {row.body['approved_by']}"
            self._agreed[row.subject] = (told, names)

    def agreed(self, row: AuditRow, kind: ProposalKind) -> LoggedProposal | None:
        """Return the proposal that the row carries out, once; None where none was agreed to."""
        return self._take_agreed(row, kind)[0]

    def _take_agreed(
        self, row: AuditRow, kind: ProposalKind
    ) -> tuple[LoggedProposal | None, list[str]]:
        told, names = self._agreed.pop(row.body.get("proposal") or "", (None, []))
        return (None, []) if told is None or told.proposal.kind is not kind else (told, names)

    def _is_recovered(self, row: AuditRow, proposal: Proposal) -> bool:
        """Whether the treasury's key has replaced the policy, in the time that this takes."""
        terms, trust = proposal.terms, self._words.trust
        if "recovery" not in terms or trust is None:
            return False
        refusals = [
            recovery_refused(
                one,
                id_=proposal.id,
                policy=terms["hash"],
                replaces=terms["before"],
                begun_at=proposal.created_at,
                signature=terms["recovery"],
            )
            for one in (trust, *trust.before())
        ]
        return None in refusals and row.at >= proposal.created_at + RECOVERY_SECONDS

    def _decided(self, row: AuditRow, proposal: Proposal) -> Iterator[str]:
        body = row.body
        reason = body["why"] if row.event == "proposal_rejected" else None

        def expected(policy: Policy) -> Statement:
            return proposal_statement(policy, proposal, reason=reason)

        yield from self._words.check(row, body["approver"], expected)

    def _carried_out(self, row: AuditRow, kind: ProposalKind) -> Iterator[str]:
        body = row.body
        if kind is ProposalKind.WITHDRAW:
            trust = self._words.trust
            chain_id = trust.chain_id if trust is not None else 0
            unlisted = self._words.in_force.withdrawal_refused(body["recipient"], chain_id)
            if unlisted is not None:
                yield unlisted
        if body.get("proposal") is None:
            yield from self._without(row, kind)
            return
        told, names = self._take_agreed(row, kind)
        if told is None:
            yield f"no approver has agreed to {body['proposal']}"
            return
        proposal = told.proposal
        if body["approved_by"] != names:
            yield f"{names} approved it, not {body['approved_by']}"
        done, terms = _terms(row, kind), dict(proposal.terms)
        if kind is ProposalKind.SETTLE:
            known = self._purchase(row.subject)
            done["amount"] = known.amount if known is not None else terms["amount"]
        elif body["reason"] != proposal.reason:
            yield f"its reason is {body['reason']!r}, not {proposal.reason!r}"
        if done != terms:
            yield f"approvers agreed to {terms}, not {done}"

    def _without(self, row: AuditRow, kind: ProposalKind) -> Iterator[str]:
        """Check what one approver may do alone, and an agent with its own purchase."""
        body, approvals = row.body, self._words.in_force.approvals
        units = body.get("amount")
        if kind is ProposalKind.SETTLE:
            known = self._purchase(row.subject)
            units = known.amount if known is not None else None
            if "approved_by" not in body:
                if known is not None and not self._is_agents(known, body["by"]):
                    yield f"{body['by']} may not settle it early"
                return
        names = body.get("approved_by", [body["by"]])
        for name in names:
            if name not in approvals.approvers:
                yield f"{name} was no approver of the policy in force"
            elif approvals.has_to_sign(name):
                yield f"{name} had to sign it and did not"
        required = approvals.quorum(None if units is None else Usdc.from_base_units(units)).required
        if len(set(names)) < required:
            yield f"{len(set(names))} of {required} approved it"

    def _is_agents(self, known: LoggedPurchase, name: str) -> bool:
        """Whether it is the agent's own purchase, and the threshold lets it settle it early."""
        threshold = self._words.in_force.threshold(name)
        below = threshold is None or Usdc.from_base_units(known.amount) <= threshold
        return known.agent == name and below


def _terms(row: AuditRow, kind: ProposalKind) -> dict[str, Any]:
    body: Mapping[str, Any] = row.body
    if kind is ProposalKind.WITHDRAW:
        return {"recipient": body["recipient"], "amount": body["amount"]}
    if kind is ProposalKind.SETTLE:
        return {"purchase_id": row.subject}
    scope, _, of = row.subject.partition(":")
    return {"scope_kind": scope, "scope_id": of}
