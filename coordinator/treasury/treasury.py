"""Use cases of a purchase, for agents and people. Nothing here waits for the chain."""

from __future__ import annotations

import contextlib
import getpass
import logging
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from coordinator.domain.address import checksummed
from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.errors import InvalidRequest, LedgerTampered
from coordinator.domain.inputs import free_text, idempotency_key, identifier, positive_amount
from coordinator.domain.observed import Emit, decided, nobody_looks
from coordinator.domain.policy.payees import Contracts, not_payable
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, KillPoint, Reach
from coordinator.domain.purchase.approval import JudgedApproval
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.decision import OF_FUNDS, Decision, decide
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Amount, Usdc
from coordinator.ledger.spend.approvals import ApprovalBook, Approver
from coordinator.ledger.spend.bonds import BondBook
from coordinator.ledger.spend.proposals import ProposalBook
from coordinator.ledger.spend.purchases import PurchaseBook
from coordinator.ledger.spend.requests import NewRequest, ShortOfFunds
from coordinator.ledger.tx.operations import OperationsBook, Pause
from coordinator.ledger.tx.policies import PolicyBook

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Treasury:
    """Orders purchases: judges, holds, approves, cancels. ``wake`` tells the executor."""

    purchases: PurchaseBook
    approvals: ApprovalBook
    policies: PolicyBook
    operations: OperationsBook
    bonds: BondBook
    proposals: ProposalBook
    escrow_keys: EscrowKeys
    address: str
    contracts: Contracts
    minimum: Usdc
    clock: Clock
    reach: Reach
    wake: Callable[[], None]
    # Reads the treasury's balances anew; False where this process can't, or not in time.
    read_balances: Callable[[], bool]
    emit: Emit = nobody_looks

    def request(self, request: Request, *, key: str | None = None) -> Purchase:
        """The purchase, decided and held in one transaction: denied, waiting, or approved.

        The same key with the same terms gives the purchase that it is bound to; with other terms
        IdempotencyConflict. No money moves here.
        """
        given = key is not None
        key = idempotency_key(key) if key is not None else self._made_key()
        asked = NewRequest(
            request=request,
            key=key,
            key_is_new=not given,
            escrow_key=self.escrow_keys.key(request.agent, key),
            minimum=self.minimum,
            treasury=self.address,
            now=self.clock(),
            judge=decide,
        )
        purchase = self.purchases.request(asked)
        if isinstance(purchase, ShortOfFunds):
            # A deposit may be younger than the balances that it was judged by.
            self.read_balances()
            purchase = self.purchases.request(
                replace(asked, now=self.clock(), funds_are_fresh=True)
            )
        assert not isinstance(purchase, ShortOfFunds)
        self.reach(KillPoint.REQUEST_COMMITTED)
        log.info("purchase_%s purchase_id=%s", purchase.status, purchase.id)
        if purchase.status is Status.APPROVED:
            self.wake()
        return purchase

    def _made_key(self) -> str:
        # In the order of time, so that keys made one after the other lie side by side.
        return f"auto-{self.clock():08x}{secrets.token_hex(12)}"

    def check(self, request: Request) -> Decision:
        """Decide on a request as a dry run; nothing is written or held."""
        decision = self._judge(request)
        if decision.short_of_funds and self.read_balances():
            decision = self._judge(request)
        self.emit(decided("check", request, decision, self.clock()))
        return decision

    def _judge(self, request: Request) -> Decision:
        return self.purchases.judge_only(
            request,
            minimum=self.minimum,
            treasury=self.address,
            now=self.clock(),
            judge=decide,
        )

    def judge_approval(self, approval_id: str, *, approver: str | None = None) -> JudgedApproval:
        """Return what approving would find at this moment; nothing is written."""
        return self.approvals.judge(
            approval_id,
            None if approver is None else _approver(approver),
            minimum=self.minimum,
            treasury=self.address,
            now=self.clock(),
            judge=decide,
        )

    def approve(self, approval_id: str, *, approver: str) -> Answer:
        """Count the approver's yes; the last one needed sends the purchase on its way."""
        answer = self._approve(approval_id, approver)
        if answer.reason is not None and answer.reason.code in OF_FUNDS and self.read_balances():
            answer = self._approve(approval_id, approver)
        if answer.done and answer.purchase.status is Status.APPROVED:
            self.wake()
        return answer

    def _approve(self, approval_id: str, approver: str) -> Answer:
        with self._pausing_if_tampered(approval_id):
            return self.approvals.approve(
                approval_id,
                _approver(approver),
                minimum=self.minimum,
                treasury=self.address,
                now=self.clock(),
                judge=decide,
            )

    @contextlib.contextmanager
    def _pausing_if_tampered(self, subject: str) -> Iterator[None]:
        try:
            yield
        except LedgerTampered as fault:
            self.operations.report_tampering(subject, fault.what, now=self.clock())
            raise

    def reject(self, approval_id: str, *, approver: str, reason: str) -> Answer:
        """End the purchase by the approver's no; its hold is voided."""
        reason = free_text("reason", reason, 2000)
        with self._pausing_if_tampered(approval_id):
            return self.approvals.reject(
                approval_id, _approver(approver), reason=reason, now=self.clock()
            )

    def cancel(self, purchase_id: str, *, by: str) -> Answer:
        """Cancel the purchase; its hold is voided even when the escrow was never created.

        Not possible once its transactions are on their way or it is funded: then only the
        provider or the deadline give the USDC back.
        """
        with self._pausing_if_tampered(purchase_id):
            answer = self.purchases.cancel(purchase_id, by=by, now=self.clock())
        self.wake()
        return answer

    def settle(
        self, purchase_id: str, *, agent: str | None = None, approver: str | None = None
    ) -> Answer:
        """Pay the provider of a delivered purchase before its dispute window ends.

        An agent may settle its own up to its threshold; above it an approver has to. Nobody may
        while the provider is paused. The executor signs it.
        """
        purchase = self.purchases.get(purchase_id)
        if purchase.status is Status.SETTLED:
            return Answer(True, purchase)
        if purchase.status is not Status.DELIVERED:
            text = f"only a delivered purchase can be settled; it is {purchase.status}"
            return Answer(False, purchase, Reason(ReasonCode.NOT_SETTLEABLE, text))
        policy = self.policies.current()
        refusal = (
            self._agent_may_not_settle(policy, purchase, agent)
            if approver is None
            else not_an_approver(policy, identifier("approver", approver))
        ) or self._provider_paused(purchase)
        if refusal is not None:
            return Answer(False, purchase, refusal)
        if approver is None:
            settled = self.purchases.order_settle(purchase_id, by=agent or "", now=self.clock())
            self.wake()
            return Answer(True, settled)
        amount = purchase.amount.base_units
        terms: Mapping[str, str | int] = {"purchase_id": purchase_id, "amount": amount}
        _, refusal = self._propose(ProposalKind.SETTLE, terms, approver, "settled early")
        return Answer(refusal is None, self.purchases.get(purchase_id), refusal)

    def dispute(self, purchase_id: str, *, approver: str, reason: str, bond: Usdc) -> Answer:
        """Contest a delivered purchase inside its window; ``bond`` is held for the organisation.

        The bond comes back when the provider is found at fault and is lost otherwise. One approver
        is enough; a bond above the policy's ``dispute_bond_limit`` is refused.
        """
        reason = free_text("reason", reason, 2000)
        purchase = self.purchases.get(purchase_id)
        most = self.policies.current().approvals.dispute_bond_limit
        refusal = not_an_approver(self.policies.current(), identifier("approver", approver))
        if refusal is None and purchase.status is Status.DISPUTED:
            return Answer(True, purchase)
        if refusal is None and purchase.status is not Status.DELIVERED:
            text = f"only a delivered purchase can be disputed; it is {purchase.status}"
            refusal = Reason(ReasonCode.NOT_SETTLEABLE, text)
        now = self.clock()
        if refusal is None and purchase.window_ends is not None and now > purchase.window_ends:
            refusal = Reason(ReasonCode.DISPUTE_WINDOW_CLOSED, "its dispute window is over")
        if refusal is None and bond > most:
            text = f"its bond is {bond} USDC, above approvals.dispute_bond_limit, {most}"
            refusal = Reason(ReasonCode.ORGANISATION_LIMIT, text)
        if refusal is None:
            refusal = self.bonds.hold(purchase_id, bond, by=approver, why=reason, now=now)
        if refusal is not None:
            return Answer(False, purchase, refusal)
        self.wake()
        return Answer(True, self.purchases.get(purchase_id))

    def unpause(
        self, reason: str, *, approver: str, scope: str = "organisation", of: str = ""
    ) -> Reason | None:
        """Allow spending again, once as many approvers as the policy requires have said so.

        None when it is done; otherwise why not: the person may not, or others have to say so too.
        """
        reason = free_text("reason", reason, 2000)
        refusal = not_an_approver(self.policies.current(), identifier("approver", approver))
        paused = {(p.scope_kind, p.scope_id) for p in self.operations.pauses()}
        of = of if (scope, of) in paused else named_in_policy(self.policies, scope, of)
        if refusal is None and (scope, of) in paused:
            terms = {"scope_kind": scope, "scope_id": of}
            _, refusal = self._propose(ProposalKind.UNPAUSE, terms, approver, reason)
        return refusal

    def approve_proposal(
        self, proposal_id: str, *, approver: str
    ) -> tuple[Proposal, Reason | None]:
        """Count the approver's yes; the last one needed carries it out. Why not, otherwise."""
        with self._pausing_if_tampered(proposal_id):
            decided = self.proposals.approve(proposal_id, _approver(approver), now=self.clock())
        self.wake()
        return decided.proposal, decided.refusal

    def reject_proposal(
        self, proposal_id: str, *, approver: str, reason: str
    ) -> tuple[Proposal, Reason | None]:
        """End the proposal by the approver's no."""
        reason = free_text("reason", reason, 2000)
        who = _approver(approver)
        decided = self.proposals.reject(proposal_id, who, reason=reason, now=self.clock())
        return decided.proposal, decided.refusal

    def _propose(
        self, kind: ProposalKind, terms: Mapping[str, str | int], approver: str, reason: str
    ) -> tuple[Proposal, Reason | None]:
        decided = self.proposals.propose(
            kind, terms, _approver(approver), reason=reason, now=self.clock()
        )
        self.wake()
        return decided.proposal, decided.refusal

    def check_withdrawal(
        self, *, to: str, amount: Amount, approver: str, reason: str
    ) -> Reason | None:
        """Return the reason against this withdrawal, or None; InvalidRequest if malformed.

        It may not be of more than the treasury has beside what purchases on their way need.
        """
        asked = positive_amount(amount)
        free_text("reason", reason, 2000)
        self._recipient(to)
        refusal = not_an_approver(self.policies.current(), identifier("approver", approver))
        return refusal or self._more_than_is_free(asked)

    def _more_than_is_free(self, amount: Usdc) -> Reason | None:
        self.read_balances()
        funds = self.operations.funds(self.address, self.clock())
        if funds is None or amount <= funds.usdc_free:
            return None
        return Reason(
            ReasonCode.INSUFFICIENT_USDC,
            f"the treasury has {funds.usdc_free} USDC that is not promised ({funds.as_of}):"
            f" {amount} can't be withdrawn",
        )

    def withdraw(self, *, to: str, amount: Amount, approver: str, reason: str) -> Order:
        """Order USDC out of the treasury, in approvers' names; the executor sends it.

        Its status is ``awaiting_approval`` while others have to approve the amount too.
        """
        if refusal := self.check_withdrawal(to=to, amount=amount, approver=approver, reason=reason):
            raise InvalidRequest(refusal.message, code=refusal.code.value)
        terms: Mapping[str, str | int] = {
            "recipient": self._recipient(to),
            "amount": positive_amount(amount).base_units,
        }
        proposal, _ = self._propose(ProposalKind.WITHDRAW, terms, approver, reason)
        return self.operations.order(proposal)

    def mint(self, amount: Amount, *, by: str) -> Order:
        """Order test tokens for the treasury, where the token lets everybody mint."""
        by, asked = identifier("by", by), positive_amount(amount)
        now = self.clock()
        order = self.operations.place_mint(recipient=self.address, amount=asked, by=by, now=now)
        self.wake()
        return order

    def _recipient(self, to: str) -> str:
        try:
            address = checksummed(to)
        except ValueError as fault:
            raise InvalidRequest(str(fault), code="invalid_recipient") from None
        if (why := not_payable(address, self.contracts)) is not None:
            raise InvalidRequest(why, code="invalid_recipient")
        return address

    def _provider_paused(self, purchase: Purchase) -> Reason | None:
        paused = {(p.scope_kind, p.scope_id) for p in self.operations.pauses()}
        if ("provider", purchase.provider_name) not in paused:
            return None
        return Reason(ReasonCode.PROVIDER_PAUSED, f"{purchase.provider_name} is paused")

    def _agent_may_not_settle(
        self, policy: Policy, purchase: Purchase, agent: str | None
    ) -> Reason | None:
        if agent is not None and purchase.agent != agent:
            return Reason(ReasonCode.NOT_SETTLEABLE, f"it belongs to {purchase.agent}")
        threshold = policy.threshold(purchase.agent or "")
        if threshold is not None and purchase.amount > threshold:
            text = f"{purchase.amount} USDC is above the threshold, {threshold}: name an approver"
            return Reason(ReasonCode.APPROVAL_REQUIRED, text)
        return None


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
    return operations.pause(Pause(scope, named_in_policy(policies, scope, of), reason, by, now))


def named_in_policy(policies: PolicyBook, scope: str, of: str) -> str:
    """Return the name by which decisions know an agent, pool or provider of the policy in force.

    InvalidRequest if they know none.
    """
    if scope == "organisation":
        return of
    policy = policies.current()
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


def _approver(name: str) -> Approver:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return Approver(identifier("approver", name), socket.gethostname(), user)
