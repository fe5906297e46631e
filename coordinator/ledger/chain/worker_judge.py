"""The worker's own judgement of what it is asked to sign: it believes no host.

Whoever decides on a host may write rows that are authentic and wrong. What people signed is checked
here again, and where the worker pins approvers, payee, amount and threshold are judged by the
policy that those have signed.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, select

from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.policy.credentials import CredentialKind
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.policy.payees import not_bound
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import Limits
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.proposal import ProposalKind
from coordinator.domain.statements.making import dispute_statement
from coordinator.domain.statements.signed import Signed, check_signed, signed_for
from coordinator.domain.typed_data import Trust
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.top_ups import TOP_UP
from coordinator.ledger.chain.top_up_rules import TopUpRules
from coordinator.ledger.chain.unasked import UnaskedToday
from coordinator.ledger.proofs.agreement import (
    expected_statement,
    proposal_agreement,
    purchase_agreement,
)
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase
from coordinator.ledger.proofs.evidence import Evidence, SafeWord, Seen
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.sums import exact_sum, read_sum

# A worker that stood still carries out what was agreed in time.
_LATE_SECONDS: Final = 86_400
OWN_LIMIT: Final = "the worker's own limit"
_SPENT: Final = ("link_signed", "dispute_signed", "x402_signed")


class WorkerJudge:
    """Judges by ``policy`` in one transaction; each answer is why not, None when it may."""

    def __init__(
        self,
        connection: Connection,
        evidence: Evidence,
        policy: Policy,
        trust: Trust | None,
        seen: Seen | None,
        *,
        now: int,
    ) -> None:
        self._now = now
        self._connection = connection
        self._evidence = evidence
        self._trust = trust
        self._seen = seen if seen is not None else Seen()
        self._in_force = policy
        self.policy = self._seen.policy or policy
        self._unasked = UnaskedToday(connection, evidence, self._seen, now=now)
        approvals = self.policy.approvals
        self.signs = any(map(approvals.has_to_sign, approvals.approvers))
        self._left: int | None = None
        self._top_ups = TopUpRules(connection, evidence.audit, self.policy, self._seen, now=now)
        #: Whether the last judgement lacks the word of a Safe that could not be asked.
        self.unanswered = False

    def purchase_not_approved(self, past: LoggedPurchase) -> str | None:
        """Say which approvals are missing for its create to be signed.

        They are asked about until it is mined: of one that never was, another is signed.
        """
        self.unanswered = False
        if not self._takes_approvals(past):
            return None
        last = (past.approval or {}).get("expires_at", self._now)
        if self._now > last + self.policy.escrow.create_within:
            return "what was signed has expired"
        agreed = purchase_agreement(self.policy, past, self._trust, still_signs=self._safe_signs)
        if agreed.met:
            return None
        over = self._unasked.over(self.policy, past) if self._seen.pinned else None
        return agreed.missing if over is None else f"{over}; {agreed.missing}"

    def purchase_is_ahead(self, past: LoggedPurchase) -> str | None:
        """Say that people decide it by a version that the worker does not believe.

        Whatever they sign by that version counts only once the worker believes it.
        """
        asked = (expected_statement(one, past) for one in (self.policy, self._in_force))
        if len({statement.rules for statement in asked}) == 1:
            return None
        return f"it is decided by policy {self._in_force.hash[:12]}…, and {self._believes}"

    @property
    def _believes(self) -> str:
        """Say which version the worker believes, and until when or why."""
        name = f"{self.policy.hash[:12]}…"
        return " ".join(filter(None, ("this worker believes", name, self._seen.behind)))

    def _behind(self, why: str) -> str:
        """Add to a refusal that it is of another version than the one in force."""
        same = self.policy.hash == self._in_force.hash
        return why if same else f"{why} ({self._believes})"

    def admit(self, past: LoggedPurchase) -> None:
        """Count a purchase that may be signed in what is judged next."""
        self._unasked.admit(past)

    def _takes_approvals(self, past: LoggedPurchase) -> bool:
        if self._seen.pinned:
            return self._asks(past)
        signed = any("signed" in said for said in past.decisions.values())
        return past.approval is not None and (self.signs or signed)

    def _asks(self, past: LoggedPurchase) -> bool:
        """Whether the policy that was signed asks people about such a purchase."""
        amount, tier = Usdc.from_base_units(past.amount), self.policy.approvals.lowest_tier
        threshold = self.policy.threshold(past.agent or "")
        above = threshold is not None and amount > threshold
        above |= tier is not None and amount > tier
        if past.x402 is not None and not_bound(self.policy, past.provider, past.x402["host"]):
            return True
        return (
            above or past.approval is not None or self._unasked.over(self.policy, past) is not None
        )

    def purchase_refused(self, past: LoggedPurchase, *, counted: bool) -> str | None:
        """Say why the signed policy or the worker's own limits, unless counted, refuse it."""
        why = self._not_in_policy(past) if self._seen.pinned else None
        if why is not None or counted:
            return why
        return self._over_limit(past.amount)

    def _not_in_policy(self, past: LoggedPurchase) -> str | None:
        policy = self._seen.policy
        if policy is None:
            return "no policy is signed by the approvers that this worker pins"
        why = _broken(policy, past)
        return None if why is None else self._behind(why)

    def _over_limit(self, amount: int) -> str | None:
        room = self._seen.room
        if room is None:
            return None
        if self._left is None:
            self._left = room - self._signed_since()
        if amount > self._left:
            left = Usdc.from_base_units(max(0, self._left))
            return f"{OWN_LIMIT} leaves {left} USDC to sign at present"
        self._left -= amount
        return None

    def _signed_since(self) -> int:
        """Add up what was allocated and what was signed since the worker's checkpoint."""
        s, a = t.steps.c, t.audit.c
        allocated = select(exact_sum(s.usdc)).where(
            s.kind.in_((StepKind.LINK.value, StepKind.DISPUTE.value)),
            s.status == StepStatus.ALLOCATED.value,
        )
        rows = select(a.subject).where(a.seq > self._seen.count, a.event.in_(_SPENT))
        total = read_sum(self._connection.execute(allocated).scalar_one())
        for subject in self._connection.execute(rows).scalars().all():
            for row in self._evidence.audit.proven(self._connection, subject, events=_SPENT):
                total += row.body.get("usdc", 0) if row.seq > self._seen.count else 0
        return total

    def order_refused(self, order: LoggedOrder) -> str | None:
        """Say why a withdrawal may not be signed: approvers did not sign just that.

        A top-up needs nobody's word: it goes to the worker's own wallet, within its window.
        """
        self.unanswered = False
        if order.kind == TOP_UP:
            amount = Usdc.from_base_units(order.body["amount"])
            return self.top_up_refused(order.body["recipient"], amount, order.id)
        if order.kind != "withdraw" or not self._proposals_are_signed():
            return None
        chain_id = self._trust.chain_id if self._trust is not None else 0
        unlisted = self.policy.withdrawal_refused(order.body["recipient"], chain_id)
        if unlisted is not None:
            return unlisted
        told = self._evidence.proposal(self._connection, order.id)
        terms = {name: order.body[name] for name in ("recipient", "amount")}
        if told is None or told.proposal.kind is not ProposalKind.WITHDRAW:
            return "no approver has signed it"
        if dict(told.proposal.terms) != terms:
            return f"approvers have signed {told.proposal.terms}, not {terms}"
        return self._proposal_missing(order.id)

    def top_up_refused(self, recipient: str, amount: Usdc, order_id: str = "") -> str | None:
        """Say why USDC may not go to the wallet for HTTP requests; of an order without an id, yet.

        None when it may, and nothing else in this transaction.
        """
        why = self._top_ups.refused(recipient, amount, order_id)
        return None if why is None else self._behind(why)

    def top_up_left(self) -> Usdc | None:
        """Return what may still go to the wallet; None where the policy has no limit for it."""
        return self._top_ups.left()

    def settle_refused(self, past: LoggedPurchase) -> str | None:
        """Say why it may not be settled early: neither its agent may, nor approvers signed it."""
        self.unanswered = False
        if not past.settle_wanted or not self._proposals_are_signed():
            return None
        amount, threshold = past.amount, self.policy.threshold(past.agent or "")
        own = past.settle_proposal is None and past.settle_by == past.agent
        if own and (threshold is None or amount <= threshold.base_units):
            return None
        if past.settle_proposal is None:
            return "no approver has signed that it is settled early"
        told = self._evidence.proposal(self._connection, past.settle_proposal)
        terms = {"purchase_id": past.id, "amount": amount}
        if told is None or told.proposal.kind is not ProposalKind.SETTLE:
            return "no approver has signed that it is settled early"
        if dict(told.proposal.terms) != terms:
            return f"approvers have signed {told.proposal.terms}, not {terms}"
        return self._proposal_missing(past.settle_proposal)

    def dispute_refused(self, past: LoggedPurchase) -> str | None:
        """Say why its bond may not be paid: no approver has signed the dispute."""
        self.unanswered = False
        said = past.dispute or {}
        name = said.get("by", "")
        if not self._proposals_are_signed():
            return self._over_limit(said["bond"])
        if (refusal := not_an_approver(self.policy, name)) is not None:
            return refusal.message
        if not self.policy.approvals.has_to_sign(name):
            return self._over_limit(said["bond"])
        try:
            signed = Signed.from_dict(said.get("signed") or {})
            expected = dispute_statement(
                self.policy,
                purchase_id=past.id,
                bond=Usdc.from_base_units(said["bond"]),
                window_ends=signed.statement.expires_at,
                reason=said.get("why") or "",
            )
            assert self._trust is not None
            approver = self.policy.approvals.approvers.get(name)
            check_signed(signed, expected, approver, name=name, trust=self._trust)
        except ValueError as fault:
            return f"{name} did not sign the dispute: {fault}"
        return self._safe_signs(signed) or self._over_limit(said["bond"])

    def _proposals_are_signed(self) -> bool:
        return self.signs or self._seen.pinned

    def _proposal_missing(self, proposal_id: str) -> str | None:
        told = self._evidence.proposal(self._connection, proposal_id)
        assert told is not None
        if self._now > told.proposal.expires_at + _LATE_SECONDS:
            return "what was signed has expired"
        agreed = proposal_agreement(
            self.policy,
            told.proposal,
            told.decisions,
            self._trust,
            still_signs=self._safe_signs,
        )
        return None if agreed.met else self._behind(agreed.missing)

    def _safe_signs(self, signed: Signed) -> str | None:
        if signed.credential.kind is not CredentialKind.SAFE:
            return None
        assert self._trust is not None
        digest = signed.digest(signed_for(signed, self._trust))
        answer = self._seen.safes.get(SafeWord(signed.credential.address, digest, signed.signature))
        if answer:
            return None
        self.unanswered |= answer is None
        return f"{signed.credential} does not say at the newest block that it signed it"


def _broken(policy: PolicyModel, past: LoggedPurchase) -> str | None:
    """Say what of the policy a purchase breaks, but for limits over a time."""
    agent = policy.agent(past.agent or "")
    name, provider = policy.provider(past.provider)
    if agent is None or not agent.enabled:
        return f"the signed policy has no agent {past.agent} that is enabled"
    listed = agent.providers
    if past.x402 is not None and (why := _request_refused(policy, past)) is not None:
        return why
    unlisted = past.x402 is not None and listed is None
    if (provider is None or name is None) and not unlisted:
        return f"the signed policy has no provider {past.provider}"
    if listed is not None and name not in {policy.provider(one)[0] for one in listed}:
        return f"the signed policy does not let {past.agent} pay {name}"
    category, named = past.words.get("category"), policy.categories.named
    if named and category not in named:
        return f"the signed policy has no category {category}"
    limited: list[Limits | None] = [agent, provider, policy.organisation]
    limited += [named.get(category or ""), agent.categories.get(category or "")]
    limited += [policy.pools[pool] for pool in policy.pools_of.get(past.agent or "", ())]
    for each in limited:
        most = each.per_purchase_limit if each is not None else None
        if isinstance(most, Usdc) and past.amount > most.base_units:
            return f"the signed policy allows at most {most} USDC a purchase"
    return None


def _request_refused(policy: PolicyModel, past: LoggedPurchase) -> str | None:
    """Say why the signed policy lets nobody pay for this HTTP request."""
    assert past.x402 is not None
    table, (_, provider) = policy.request_payments, policy.provider(past.provider)
    unbound = not_bound(policy, past.provider, past.x402["host"])
    if unbound is not None and table.unknown_payees != "ask":
        return f"by the signed policy {unbound}"
    price = provider.price if provider is not None else None
    for most in (table.per_request_limit, price):
        if isinstance(most, Usdc) and past.amount > most.base_units:
            return f"the signed policy allows at most {most} USDC for such a request"
    return None
