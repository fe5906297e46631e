"""The treasury's verbs, each run in one transaction; nothing here waits for a chain."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.errors import IdempotencyConflict, InvalidRequest
from coordinator.domain.inputs import free_text, idempotency_key, identifier, positive_amount
from coordinator.domain.observed import Emit, decided, nobody_looks
from coordinator.domain.ports import KillPoint, Reach
from coordinator.domain.purchase.approval import JudgedApproval
from coordinator.domain.purchase.decision import OF_FUNDS, Decision
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.proposal import ProposalKind
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import Amount, Usdc
from coordinator.domain.x402.request import PaymentRequest
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.spend.requests import NewRequest, OfferTaken
from coordinator.ledger.spend.words import Word
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.approve import approve, judge_approval, reject
from coordinator.treasury.cancel import cancel
from coordinator.treasury.contest import contest
from coordinator.treasury.dispute import dispute, dispute_request
from coordinator.treasury.judge import Judge
from coordinator.treasury.proposal_verbs import ProposalVerbs, approver_of
from coordinator.treasury.propose import (
    Proposed,
    propose,
)
from coordinator.treasury.request import ShortOfFunds
from coordinator.treasury.request import request as decide_request
from coordinator.treasury.settle import settle_for_agent, settle_for_approver
from coordinator.treasury.top_up import order_top_up
from coordinator.treasury.withdraw import may_not_withdraw, order_mint, recipient_address

log = logging.getLogger(__name__)


def _nobody_measures(seconds: float) -> None:
    """Take no note: nobody measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treasury(ProposalVerbs):
    """Runs the verbs for one treasury. ``wake`` lets the executor look for something to do."""

    evidence: Evidence
    escrow_keys: EscrowKeys
    address: str
    # The account that pays for HTTP requests; None where there is none.
    wallet: str | None
    minimum: Usdc
    reach: Reach
    # Reads the treasury's balances anew; False where this process can't, or not in time.
    read_balances: Callable[[], bool]
    # Whether the treasury is a Safe, which the worker's key takes nothing out of.
    owners_withdraw: bool = False
    emit: Emit = nobody_looks
    # Told how many seconds each decision on a request took, its commit included.
    measure: Callable[[float], object] = _nobody_measures

    def request(
        self,
        request: Request,
        *,
        key: str | None = None,
        unless_duplicate: bool = False,
        taken: OfferTaken | None = None,
    ) -> Purchase:
        """Decide on a request and hold its amount, in one transaction: denied, waiting or approved.

        The same key with the same terms gives the purchase that it is bound to; with other terms
        IdempotencyConflict. ``unless_duplicate``: where the agent has a purchase of the last ten
        minutes with the same provider, amount and service under another key, that one is returned.
        No money moves here.
        """
        began = time.monotonic()
        given = key is not None
        key = idempotency_key(key) if key is not None else self._made_key()
        asked = NewRequest(
            request=request,
            key=key,
            key_is_new=not given,
            unless_duplicate=unless_duplicate,
            escrow_key=self.escrow_keys.key(request.agent, key),
            minimum=self.minimum,
            payer=(self.wallet or "") if request.is_x402 else self.address,
            now=self.clock(),
            taken=taken,
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

    def pay_request(
        self,
        asked: PaymentRequest,
        *,
        key: str,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Purchase:
        """Decide on the payment for one HTTP request, as ``request`` does on a purchase.

        InvalidRequest where there is no wallet for such payments.
        """
        self._request_wallet  # noqa: B018 - there has to be one
        request = Request.of(
            agent=asked.agent,
            provider=asked.offer.payee,
            amount=asked.offer.amount,
            purpose=asked.purpose,
            category=category,
            task=task,
            session=session,
            host=asked.host,
            treasury_address=self.address,
        )
        return self.request(request, key=key, taken=OfferTaken(asked.url, asked.offer))

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
        return Judge(self.minimum, self.address, self.wallet)

    def judge_approval(self, approval_id: str, *, approver: str | None = None) -> JudgedApproval:
        """Return what approving would find at this moment; nothing is written."""
        name = None if approver is None else identifier("approver", approver)
        now = self.clock()
        return self.group_commit.read(
            lambda tx: judge_approval(tx, approval_id, name, judge=self._judge, now=now)
        )

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
        who, now = approver_of(approver), self.clock()
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
        who, now = approver_of(approver), self.clock()
        with self._pausing_if_tampered(approval_id):
            return self.group_commit.run(
                lambda tx: reject(
                    tx,
                    approval_id,
                    who,
                    reason=reason,
                    evidence=self.evidence,
                    now=now,
                    word=word,
                )
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
            who = approver_of(approver)
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

    def check_withdrawal(
        self, *, to: str, amount: Amount, approver: str, reason: str
    ) -> Reason | None:
        """Return the reason against this withdrawal, or None; InvalidRequest if malformed.

        It may not be of more than the treasury has beside what purchases on their way need.
        """
        if self.owners_withdraw:
            raise InvalidRequest(
                "the treasury is a Safe, and its owners alone withdraw from it: they sign a"
                " transfer in the Safe"
            )
        asked = positive_amount(amount)
        free_text("reason", reason, 2000)
        address = recipient_address(to, self.contracts)
        name = identifier("approver", approver)
        self.read_balances()
        now = self.clock()
        return self.group_commit.read(
            lambda tx: may_not_withdraw(tx, asked, name, to=address, treasury=self.address, now=now)
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
        who, now = approver_of(approver), self.clock()

        def order(tx: Tx) -> Proposed:
            return propose(tx, ProposalKind.WITHDRAW, terms, who, reason=reason, now=now)

        proposed = self.group_commit.run(order)
        self.wake()
        return self.operations.order(proposed.proposal)

    def top_up(self, amount: Amount, *, by: str, reason: str) -> Order:
        """Order USDC to the wallet that pays for HTTP requests; the executor sends it.

        InvalidRequest where there is no such wallet, and for what the policy's daily limit, a
        pause or the treasury's balance leave no room for.
        """
        by, asked, now = identifier("by", by), positive_amount(amount), self.clock()
        reason, wallet = free_text("reason", reason, 2000), self._request_wallet
        self.read_balances()
        order = self.group_commit.run(
            lambda tx: order_top_up(
                tx,
                wallet=wallet,
                treasury=self.address,
                amount=asked,
                by=by,
                reason=reason,
                now=now,
            )
        )
        self.wake()
        return order

    @property
    def _request_wallet(self) -> str:
        if self.wallet is None:
            raise InvalidRequest(
                "this treasury has no wallet that pays for HTTP requests: an operator sets"
                " COORDINATOR_X402_SIGNER",
                code="x402_unavailable",
            )
        return self.wallet

    def mint(self, amount: Amount, *, by: str) -> Order:
        """Order test tokens for the treasury; the token must let anybody mint."""
        by, asked, now = identifier("by", by), positive_amount(amount), self.clock()
        order = self.group_commit.run(
            lambda tx: order_mint(tx, recipient=self.address, amount=asked, by=by, now=now)
        )
        self.wake()
        return order
