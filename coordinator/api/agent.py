"""The Python API of one agent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from coordinator.api.arguments import checked
from coordinator.api.hold import Hold
from coordinator.api.own_policy import own_policy
from coordinator.api.queries import limit_states, list_purchases
from coordinator.api.request_payments import RequestPayments
from coordinator.api.runtime import Runtime
from coordinator.api.session import Session
from coordinator.api.terms import CostTerms, PurchaseTerms, WaitTerms, check_terms
from coordinator.api.watcher import Wait
from coordinator.budgets.budgets import Budgets, share_scope
from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.limits.increase import Increase
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.limits.rules import SESSION, TASK
from coordinator.domain.purchase.cost import Cost, CostDecision, CostRequest
from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import Amount

log = logging.getLogger(__name__)
_NO_TERMS = ("idempotency_key", "unless_duplicate", "wait", "timeout_seconds")


@checked
class Agent(RequestPayments):
    """One agent's view: it requests, reads, waits and cancels; it holds no key, sets no policy."""

    def __init__(self, runtime: Runtime, agent_id: str) -> None:
        super().__init__(runtime, agent_id)
        self._level = ""
        self._level_told: list[Callable[[str, str], None]] = []

    def purchase(
        self,
        *,
        provider: str,
        amount: Amount,
        purpose: str,
        service: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        unless_duplicate: bool = False,
        wait: bool = True,
        timeout_seconds: float = 60,
    ) -> Purchase:
        """Request a purchase and wait until it is funded, final, awaiting approval, or timed out.

        ``amount`` is a decimal string of USDC or ``Usdc``. Give a key of your own to ask again
        safely: the same key never pays twice. With ``unless_duplicate``, a purchase of the last ten
        minutes with the same provider, amount and service is returned instead of a second one:
        its ``idempotency_key`` is another. Denials are returned, not raised. InvalidRequest for
        malformed input and IdempotencyConflict for a key with other terms write nothing.
        """
        purchase = self._ask(
            starting=wait,
            provider=provider,
            amount=amount,
            purpose=purpose,
            service=service,
            category=category,
            task=task,
            session=session,
            idempotency_key=idempotency_key,
            unless_duplicate=unless_duplicate,
        )
        if not wait or purchase.final or purchase.needs_approval:
            return purchase
        return self._runtime._wait(Wait(purchase.id, "funded", timeout_seconds), purchase)

    async def apurchase(self, **terms: Unpack[PurchaseTerms]) -> Purchase:
        """Await ``purchase``; cancelling the await does not cancel the purchase."""
        check_terms(terms, PurchaseTerms)
        asked: dict[str, Any] = dict(terms)
        wait, timeout_seconds = asked.pop("wait", True), asked.pop("timeout_seconds", 60)
        purchase = await self._runtime.off_loop(lambda: self._ask(starting=wait, **asked))
        if not wait or purchase.final or purchase.needs_approval:
            return purchase
        return await self._runtime._await(
            Wait(purchase.id, "funded", timeout_seconds), lambda: purchase
        )

    def _ask(
        self,
        *,
        starting: bool,
        idempotency_key: str | None = None,
        unless_duplicate: bool = False,
        **terms: Any,
    ) -> Purchase:
        request = self._request(**terms)
        if starting:
            self._runtime.start()
        purchase = self._runtime.wiring.treasury.request(
            request, key=idempotency_key, unless_duplicate=unless_duplicate
        )
        self._look_at_level()
        return purchase

    def check(self, **terms: Unpack[PurchaseTerms]) -> Decision:
        """Judge a purchase with these terms as a dry run; nothing is written or held."""
        check_terms(terms, PurchaseTerms)
        asked = {name: value for name, value in terms.items() if name not in _NO_TERMS}
        return self._runtime.wiring.treasury.check(self._request(**asked))

    def get(
        self, purchase_id: str | None = None, *, idempotency_key: str | None = None
    ) -> Purchase:
        """Return the agent's purchase by id or by its own key; UnknownId when there is none."""
        if (purchase_id is None) == (idempotency_key is None):
            raise InvalidRequest("name a purchase id or an idempotency key")
        if purchase_id is not None:
            found: Purchase | None = self._runtime.wiring.purchases.get(purchase_id)
        else:
            assert idempotency_key is not None
            found = self._runtime.wiring.purchases.find(self.id, idempotency_key)
        if found is None or found.agent != self.id:
            raise UnknownId(f"{self.id} has no such purchase")
        return found

    def purchases(
        self,
        *,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Return the agent's purchases, newest first."""
        return list_purchases(
            self._runtime.wiring,
            agent=self.id,
            status=status,
            since=since,
            limit=limit,
            after=after,
        )

    def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Return the proof of the agent's purchase as JSON: limits, approvals, transactions."""
        self.get(purchase_id)
        return self._runtime.wiring.reporter.receipt(purchase_id)

    def policy(self) -> dict[str, Any]:
        """Return what of the policy concerns the agent as JSON: limits, providers, categories."""
        return own_policy(self._runtime.wiring, self.id)

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Like ``Coordinator.wait_for``, for the agent's own purchase."""
        wait = Wait(purchase_id, until, timeout_seconds)
        return self._runtime._wait(wait, self.get(purchase_id))

    async def await_for(self, purchase_id: str, **terms: Unpack[WaitTerms]) -> Purchase:
        """Await ``wait_for`` without blocking the event loop."""
        check_terms(terms, WaitTerms)
        await self._runtime.off_loop(lambda: self.get(purchase_id))
        return await self._runtime.await_for(purchase_id, **terms)

    def cancel(self, purchase_id: str) -> Answer:
        """Cancel the agent's purchase while nothing is on its way; the hold is voided."""
        self.get(purchase_id)
        return self._runtime.wiring.treasury.cancel(purchase_id, by=self.id)

    def settle(self, purchase_id: str) -> Answer:
        """Pay the provider of the agent's delivered purchase early, up to its threshold."""
        self.get(purchase_id)
        self._runtime.look()
        return self._runtime.wiring.treasury.settle(purchase_id, agent=self.id)

    def contest(self, purchase_id: str, *, reason: str) -> Answer:
        """Say that the delivery of the agent's purchase is not what was asked for.

        It is not settled early any more, and approvers are told until when they can dispute it;
        without a dispute it is paid after its window.
        """
        self.get(purchase_id)
        self._runtime.look()
        return self._runtime.wiring.treasury.contest(purchase_id, agent=self.id, reason=reason)

    def hold(
        self,
        amount: Amount,
        *,
        expires_after: str | int = "15m",
        idempotency_key: str | None = None,
        **terms: Unpack[CostTerms],
    ) -> Hold:
        """Hold an amount for a cost without an escrow (a model call, an API's fee).

        ``terms``: category, provider, task, session, purpose, ``x402=True`` for a payment of one
        HTTP request. Refusals are returned: look at ``ok``. Post the actual, or void it; after
        ``expires_after`` ("15m" or seconds) an abandoned hold is posted in full. The same key with
        the same terms returns the same hold; IdempotencyConflict for other terms. InvalidRequest
        for malformed input; no money moves.
        """
        request = self._cost(amount, terms)
        self._runtime._check_policy_file()
        cost = self._budgets.hold(request, expires_after=expires_after, key=idempotency_key)
        self._look_at_level()
        return Hold(self._budgets, cost, self._look_at_level)

    def held(self, cost_id: str) -> Hold:
        """Return the agent's own cost by its id, to post or void it; UnknownId when it has none."""
        cost = self._budgets.costs.get(cost_id)
        if cost.request.agent != self.id:
            raise UnknownId(f"{self.id} has no such cost")
        return Hold(self._budgets, cost, self._look_at_level)

    def record(
        self,
        amount: Amount,
        *,
        idempotency_key: str | None = None,
        **terms: Unpack[CostTerms],
    ) -> Cost:
        """Record money already spent, with the terms and key of ``hold``; never refused.

        It counts in every limit, beyond it too, so that nothing else is admitted meanwhile.
        InvalidRequest for a task or session that was opened for another agent.
        """
        cost = self._budgets.record(self._cost(amount, terms), key=idempotency_key)
        self._look_at_level()
        return cost

    def check_hold(self, amount: Amount, **terms: Unpack[CostTerms]) -> CostDecision:
        """Judge a hold with these terms as a dry run; nothing is written."""
        return self._budgets.check(self._cost(amount, terms))

    def limits(
        self,
        *,
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Sequence[LimitState]:
        """Return every limit that the agent's spending touches, with what remains of each."""
        return limit_states(
            self._runtime.wiring, self.id, category, provider=provider, task=task, session=session
        )

    def open_session(self, session: str, limits: Mapping[str, Any] | None = None) -> Session:
        """Open a session for this agent, with the default limits or lower ones."""
        return self._open(SESSION, session, limits)

    def open_task(self, task: str, limits: Mapping[str, Any] | None = None) -> Session:
        """Open a task for this agent, with the default limits or lower ones."""
        return self._open(TASK, task, limits)

    def request_increase(
        self,
        amount: Amount,
        *,
        reason: str,
        scope: str | None = None,
        window: str = "daily",
        lasts: str | int = "24h",
        idempotency_key: str | None = None,
    ) -> Increase:
        """Ask to raise a limit by ``amount`` for a time; granted, refused, or waiting for approval.

        ``scope`` is the agent's own unless given ("agent_category:me/data", "session:s-1"). No
        word of the reason grants anything. The same key returns the same request.
        InvalidRequest when there is no such limit.
        """
        return self._budgets.ask_more(
            agent=self.id,
            scope=scope or f"agent:{self.id}",
            window=window,
            amount=amount,
            lasts=lasts,
            reason=reason,
            key=idempotency_key,
        )

    def request_emergency(
        self,
        amount: Amount,
        *,
        pool: str,
        reason: str,
        window: str = "daily",
        lasts: str | int = "24h",
        idempotency_key: str | None = None,
    ) -> Increase:
        """Ask for money that other agents of the pool have left, for a time; approvers decide."""
        return self._budgets.ask_more(
            agent=self.id,
            scope=share_scope(pool, self.id),
            window=window,
            amount=amount,
            lasts=lasts,
            reason=reason,
            emergency=True,
            key=idempotency_key,
        )

    @property
    def service_level(self) -> str:
        """The agent's service level: "full", "standard", "minimal" or "emergency"."""
        return self._budgets.level(self.id).name

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the policy names for its service level."""
        return self._budgets.level(self.id).features

    def on_service_level(self, changed: Callable[[str, str], None]) -> None:
        """Call ``changed(before, after)`` when a purchase or cost of this object changes the level.

        It is called after the decision and can't change it; what it raises is logged.
        """
        self._level = self.service_level
        self._level_told.append(changed)

    @property
    def _budgets(self) -> Budgets:
        return self._runtime.wiring.budgets

    def _cost(self, amount: Amount, terms: CostTerms) -> CostRequest:
        check_terms(terms, CostTerms)
        return CostRequest.of(agent=self.id, amount=amount, **terms)

    def _open(self, kind: str, name: str, limits: Mapping[str, Any] | None) -> Session:
        self._budgets.open(kind, name, agent=self.id, limits=limits, by=self.id, operator=False)
        return Session(self._runtime.wiring, kind, name, by=self.id)

    def _look_at_level(self) -> None:
        if not self._level_told:
            return
        before, self._level = self._level, self.service_level
        if before == self._level:
            return
        for changed in self._level_told:
            try:
                changed(before, self._level)
            except Exception:
                log.exception("service_level_callback_failed agent=%s", self.id)

    def _request(self, **terms: Any) -> Request:
        treasury = self._runtime.opened.treasury_address
        request = Request.of(agent=self.id, treasury_address=treasury, **terms)
        self._runtime._check_policy_file()
        return request
