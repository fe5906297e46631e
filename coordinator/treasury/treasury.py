"""The treasury's verbs, each run in one transaction; nothing here waits for a chain."""

from __future__ import annotations

import contextlib
import getpass
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.errors import IdempotencyConflict, InvalidRequest, LedgerTampered
from coordinator.domain.inputs import free_text, idempotency_key, identifier, positive_amount
from coordinator.domain.observed import Emit, decided, nobody_looks
from coordinator.domain.policy.payees import Contracts
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, KillPoint, Reach
from coordinator.domain.purchase.approval import Approver, JudgedApproval
from coordinator.domain.purchase.decision import OF_FUNDS, Decision
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.proposal import PREFIXES, Proposal, ProposalKind
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import Amount, Usdc
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.spend.approvals import read_approval
from coordinator.ledger.spend.proposals import read_proposal
from coordinator.ledger.spend.requests import NewRequest
from coordinator.ledger.spend.words import Word, Words, signing_request
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.approve import approve, judge_approval, reject, statement_of
from coordinator.treasury.cancel import cancel
from coordinator.treasury.contest import contest
from coordinator.treasury.dispute import dispute, dispute_request
from coordinator.treasury.draft import draft_policy
from coordinator.treasury.judge import Judge
from coordinator.treasury.pause import unpause
from coordinator.treasury.propose import Proposed, approve_proposal, propose, reject_proposal
from coordinator.treasury.request import ShortOfFunds
from coordinator.treasury.request import request as decide_request
from coordinator.treasury.settle import settle_for_agent, settle_for_approver
from coordinator.treasury.withdraw import may_not_withdraw, order_mint, recipient_address

log = logging.getLogger(__name__)


def _nobody_measures(seconds: float) -> None:
    """Take no note: nobody measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treasury:
    """Runs the verbs for one treasury. ``wake`` lets the executor look for something to do."""

    group_commit: GroupCommit
    operations: OperationsBook
    evidence: Evidence
    escrow_keys: EscrowKeys
    words: Words
    address: str
    contracts: Contracts
    minimum: Usdc
    clock: Clock
    reach: Reach
    wake: Callable[[], None]
    # Reads the treasury's balances anew; False where this process can't, or not in time.
    read_balances: Callable[[], bool]
    emit: Emit = nobody_looks
    # Told how many seconds each decision on a request took, its commit included.
    measure: Callable[[float], object] = _nobody_measures

    def request(self, request: Request, *, key: str | None = None) -> Purchase:
        """Decide on a request and hold its amount, in one transaction: denied, waiting or approved.

        The same key with the same terms gives the purchase that it is bound to; with other terms
        IdempotencyConflict. No money moves here.
        """
        began = time.monotonic()
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
        )
        answer = self.group_commit.run(lambda tx: decide_request(tx, asked))
        if isinstance(answer, ShortOfFunds):
            # A deposit may be younger than the balances that it was judged by.
            self.read_balances()
            asked = replace(asked, now=self.clock(), funds_are_fresh=True)
            answer = self.group_commit.run(lambda tx: decide_request(tx, asked))
        if isinstance(answer, IdempotencyConflict):
            raise answer
        assert not isinstance(answer, ShortOfFunds)
        self.reach(KillPoint.REQUEST_COMMITTED)
        self.measure(time.monotonic() - began)
        log.info("purchase_%s purchase_id=%s", answer.status, answer.id)
        if answer.status is Status.APPROVED:
            self.wake()
        return answer

    def _made_key(self) -> str:
        # In the order of time, so that keys made one after the other lie side by side.
        return f"auto-{self.clock():08x}{secrets.token_hex(12)}"

    def check(self, request: Request) -> Decision:
        """Decide on a request as a dry run; nothing is written or held."""
        decision = self.group_commit.read(partial(self._decide, request))
        if decision.short_of_funds and self.read_balances():
            decision = self.group_commit.read(partial(self._decide, request))
        self.emit(decided("check", request, decision, self.clock()))
        return decision

    def _decide(self, request: Request, tx: Tx) -> Decision:
        return self._judge.decide(tx, request, self.clock())

    @property
    def _judge(self) -> Judge:
        return Judge(self.minimum, self.address)

    def judge_approval(self, approval_id: str, *, approver: str | None = None) -> JudgedApproval:
        """Return what approving would find at this moment; nothing is written."""
        name = None if approver is None else identifier("approver", approver)
        now = self.clock()
        return self.group_commit.read(
            lambda tx: judge_approval(tx, approval_id, name, judge=self._judge, now=now)
        )

    def statement(self, subject_id: str, *, reason: str | None = None) -> SigningRequest:
        """Return what an approver of a purchase or proposal signs at this moment.

        With a ``reason`` it is rejected. UnknownId when there is no such approval.
        """
        return self.group_commit.read(self._request(subject_id, reason))

    def _request(self, subject_id: str, reason: str | None) -> Callable[[Tx], SigningRequest]:
        def make(tx: Tx) -> SigningRequest:
            if subject_id.startswith(tuple(PREFIXES.values())):
                proposal = read_proposal(tx, subject_id)
                return signing_request(tx, proposal_statement(tx.policy, proposal, reason=reason))
            row, purchase = read_approval(tx, subject_id)
            return signing_request(
                tx, statement_of(tx.policy, purchase, row.expires_at, reason=reason)
            )

        return make

    def _word(
        self, subject_id: str, approver: str, given: GivenSignature | None, reason: str | None
    ) -> Word:
        return self.words.of(given, approver, self._request(subject_id, reason))

    def approve(
        self, approval_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> Answer:
        """Record the approver's yes; the last one needed approves the purchase."""
        word = self._word(approval_id, approver, signature, None)
        answer = self._approve(approval_id, approver, word)
        if answer.reason is not None and answer.reason.code in OF_FUNDS and self.read_balances():
            answer = self._approve(approval_id, approver, word)
        if answer.done and answer.purchase.status is Status.APPROVED:
            self.wake()
        return answer

    def _approve(self, approval_id: str, approver: str, word: Word) -> Answer:
        who, now = _approver(approver), self.clock()
        with self._pausing_if_tampered(approval_id):
            return self.group_commit.run(
                lambda tx: approve(
                    tx,
                    approval_id,
                    who,
                    judge=self._judge,
                    evidence=self.evidence,
                    now=now,
                    word=word,
                )
            )

    @contextlib.contextmanager
    def _pausing_if_tampered(self, subject: str) -> Iterator[None]:
        try:
            yield
        except LedgerTampered as fault:
            self.operations.report_tampering(subject, fault.what, now=self.clock())
            raise

    def reject(
        self,
        approval_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> Answer:
        """Reject the purchase in the approver's name; its hold is voided."""
        reason = free_text("reason", reason, 2000)
        word = self._word(approval_id, approver, signature, reason)
        who, now = _approver(approver), self.clock()
        with self._pausing_if_tampered(approval_id):
            return self.group_commit.run(
                lambda tx: reject(tx, approval_id, who, reason=reason, now=now, word=word)
            )

    def cancel(self, purchase_id: str, *, by: str) -> Answer:
        """Cancel the purchase; its hold is voided even when the escrow was never created.

        Not possible once its transactions are on their way or it is funded: then only the
        provider or the deadline give the USDC back.
        """
        now = self.clock()
        with self._pausing_if_tampered(purchase_id):
            answer = self.group_commit.run(lambda tx: cancel(tx, purchase_id, by=by, now=now))
        self.wake()
        return answer

    def settle(
        self, purchase_id: str, *, agent: str | None = None, approver: str | None = None
    ) -> Answer:
        """Pay the provider of a delivered purchase before its dispute window ends.

        An agent may settle its own up to its threshold; above it an approver has to. Nobody may
        while the provider is paused. The executor signs it.
        """
        now = self.clock()
        if approver is None:
            name = agent or ""
            answer = self.group_commit.run(
                lambda tx: settle_for_agent(tx, purchase_id, name, now=now)
            )
        else:
            who = _approver(approver)
            answer = self.group_commit.run(
                lambda tx: settle_for_approver(tx, purchase_id, who, now=now)
            )
        self.wake()
        return answer

    def contest(self, purchase_id: str, *, agent: str, reason: str) -> Answer:
        """Stop the early settling of an agent's delivered purchase; approvers are told."""
        reason, now = free_text("reason", reason, 2000), self.clock()
        return self.group_commit.run(
            lambda tx: contest(tx, purchase_id, agent=agent, reason=reason, now=now)
        )

    def dispute(
        self,
        purchase_id: str,
        *,
        approver: str,
        reason: str,
        bond: Usdc,
        signature: GivenSignature | None = None,
    ) -> Answer:
        """Dispute a delivered purchase within its window; ``bond`` is held for the organisation.

        The bond comes back when the provider is found at fault and is lost otherwise. One approver
        is enough; a bond above the policy's ``dispute_bond_limit`` is refused.
        """
        reason, approver = free_text("reason", reason, 2000), identifier("approver", approver)

        def request(tx: Tx) -> SigningRequest:
            return dispute_request(tx, purchase_id, reason=reason, bond=bond)

        word, now = self.words.of(signature, approver, request), self.clock()
        answer = self.group_commit.run(
            lambda tx: dispute(
                tx, purchase_id, approver=approver, reason=reason, bond=bond, now=now, word=word
            )
        )
        self.wake()
        return answer

    def dispute_statement(self, purchase_id: str, *, reason: str, bond: Usdc) -> SigningRequest:
        """Return what the approver signs who disputes a purchase for a ``reason``."""
        reason = free_text("reason", reason, 2000)
        return self.group_commit.read(
            lambda tx: dispute_request(tx, purchase_id, reason=reason, bond=bond)
        )

    def unpause(
        self, reason: str, *, approver: str, scope: str = "organisation", of: str = ""
    ) -> Reason | None:
        """Allow spending again, once as many approvers as the policy requires have agreed.

        None when it is done; otherwise why not: the person may not, or others have to say so too.
        """
        reason = free_text("reason", reason, 2000)
        who, now = _approver(approver), self.clock()
        refusal = self.group_commit.run(
            lambda tx: unpause(tx, scope, of, who, reason=reason, now=now)
        )
        self.wake()
        return refusal

    def approve_proposal(
        self, proposal_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> tuple[Proposal, Reason | None]:
        """Record the approver's yes; the last one needed carries it out. Refusals say why."""
        word = self._word(proposal_id, approver, signature, None)
        who, now = _approver(approver), self.clock()
        with self._pausing_if_tampered(proposal_id):
            found = self.group_commit.run(
                lambda tx: approve_proposal(tx, proposal_id, who, now=now, word=word)
            )
        self.wake()
        return found.proposal, found.refusal

    def reject_proposal(
        self,
        proposal_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> tuple[Proposal, Reason | None]:
        """Reject the proposal in the approver's name."""
        reason = free_text("reason", reason, 2000)
        word = self._word(proposal_id, approver, signature, reason)
        who, now = _approver(approver), self.clock()
        found = self.group_commit.run(
            lambda tx: reject_proposal(tx, proposal_id, who, reason=reason, now=now, word=word)
        )
        return found.proposal, found.refusal

    def draft_policy(self, policy: Policy, *, by: str, reason: str) -> Proposal:
        """Propose a version of the policy, which approvers sign; nothing is in force by that."""
        reason, name, now = free_text("reason", reason, 2000), identifier("by", by), self.clock()
        return self.group_commit.run(
            lambda tx: draft_policy(
                tx, policy, contracts=self.contracts, by=name, reason=reason, now=now
            )
        )

    def check_withdrawal(
        self, *, to: str, amount: Amount, approver: str, reason: str
    ) -> Reason | None:
        """Return the reason against this withdrawal, or None; InvalidRequest if malformed.

        It may not be of more than the treasury has beside what purchases on their way need.
        """
        asked = positive_amount(amount)
        free_text("reason", reason, 2000)
        recipient_address(to, self.contracts)
        name = identifier("approver", approver)
        self.read_balances()
        now = self.clock()
        return self.group_commit.read(
            lambda tx: may_not_withdraw(tx, asked, name, treasury=self.address, now=now)
        )

    def withdraw(self, *, to: str, amount: Amount, approver: str, reason: str) -> Order:
        """Order USDC out of the treasury, in approvers' names; the executor sends it.

        Its status is ``awaiting_approval`` while others have to approve the amount too.
        """
        if refusal := self.check_withdrawal(to=to, amount=amount, approver=approver, reason=reason):
            raise InvalidRequest(refusal.message, code=refusal.code.value)
        terms: Mapping[str, str | int] = {
            "recipient": recipient_address(to, self.contracts),
            "amount": positive_amount(amount).base_units,
        }
        who, now = _approver(approver), self.clock()

        def order(tx: Tx) -> Proposed:
            return propose(tx, ProposalKind.WITHDRAW, terms, who, reason=reason, now=now)

        proposed = self.group_commit.run(order)
        self.wake()
        return self.operations.order(proposed.proposal)

    def mint(self, amount: Amount, *, by: str) -> Order:
        """Order test tokens for the treasury; the token must let anybody mint."""
        by, asked, now = identifier("by", by), positive_amount(amount), self.clock()
        order = self.group_commit.run(
            lambda tx: order_mint(tx, recipient=self.address, amount=asked, by=by, now=now)
        )
        self.wake()
        return order


def _approver(name: str) -> Approver:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return Approver(identifier("approver", name), socket.gethostname(), user)
