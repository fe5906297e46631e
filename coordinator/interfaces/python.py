"""The Python API for agents and operators."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from coordinator.config import environment, load_settings
from coordinator.domain.address import checksummed
from coordinator.domain.decision import Decision, purchase_scopes
from coordinator.domain.errors import (
    ConfigurationError,
    CoordinatorError,
    InvalidRequest,
    UnknownId,
)
from coordinator.domain.limits import LimitState, check_limits, counters_touched
from coordinator.domain.policy import Policy
from coordinator.domain.purchase import (
    ESCROWED,
    Answer,
    Purchase,
    Request,
    Status,
    free_text,
    identifier,
    positive_amount,
)
from coordinator.domain.reasons import Reason
from coordinator.domain.reconciliation import Reconciliation
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.approvals import PendingApproval
from coordinator.ledger.operations import Order
from coordinator.reconciler import Progress
from coordinator.reporting import GasReport, Report
from coordinator.treasury import not_an_approver
from coordinator.wiring import Wiring, wire

_UNTIL: Final = {
    "funded": frozenset(ESCROWED),
    "delivered": frozenset({Status.DELIVERED, Status.DISPUTED, Status.SETTLED}),
    "final": frozenset[Status](),
}
_POLL_SECONDS: Final = 0.1


class Coordinator:
    """One treasury: its agents, approvals, limits, books and executor.

    Made by ``from_env``. The first purchase starts the executor in a background thread; leaving
    the ``with`` block stops it after its present round and loses nothing.
    """

    def __init__(self, wiring: Wiring, *, act: bool = True) -> None:
        self.wiring = wiring
        self._act = act
        self._changed = threading.Condition()
        wiring.on_change(self._tell)

    @classmethod
    def from_env(
        cls,
        *,
        policy: str | Path | Policy | None = None,
        env_file: str | Path | None = None,
        act: bool = True,
        **settings: str,
    ) -> Coordinator:
        """The coordinator of the environment and ``.env``.

        ``policy`` is a path or a Policy built in code; ``settings`` override by field name
        (``rpc_url="…"``); with ``act=False`` this process only decides and leaves the chain to a
        worker. ConfigurationError lists every fault.
        """
        env = environment(Path(env_file) if env_file else None)
        env |= {f"COORDINATOR_{name.upper()}": value for name, value in settings.items()}
        source = Path(policy) if isinstance(policy, str) else policy
        return cls(wire(env, load_settings(env), policy=source), act=act)

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop acting and close the database; what is open goes on at the next start."""
        self.wiring.close()

    def agent(self, agent_id: str) -> Agent:
        """The agent's own view; an unregistered one is denied when it asks."""
        return Agent(self, agent_id)

    def agents(self) -> Sequence[dict[str, Any]]:
        """Every registered agent with its limits and what remains of them."""
        policy = self.wiring.policies.current()
        found = []
        for agent_id in sorted(policy.agents):
            agent = policy.agent(agent_id)
            assert agent is not None
            found.append(
                {
                    "agent": agent_id,
                    "name": agent.name or agent_id,
                    "enabled": agent.enabled,
                    "role": agent.role,
                    "approval_threshold": str(agent.approval_threshold or ZERO),
                    "limits": self.limits(agent_id),
                }
            )
        return found

    def purchases(
        self,
        *,
        agent: str | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Purchases, newest first; ``after`` is the last id of the page before."""
        if not 1 <= limit <= 10_000:
            raise InvalidRequest("limit must be 1 to 10000")
        return self.wiring.purchases.list(
            agent=agent, statuses=_statuses(status), since=_second(since), limit=limit, after=after
        )

    def get(self, purchase_id: str) -> Purchase:
        """The purchase; UnknownId (an InvalidRequest) when there is none."""
        return self.wiring.purchases.get(purchase_id)

    def limits(self, agent: str | None = None, category: str | None = None) -> Sequence[LimitState]:
        """The organisation's limits and, where named, the agent's and the category's."""
        w = self.wiring
        policy, now = w.policies.current(), w.clock()
        counters = counters_touched(purchase_scopes(agent, category), now, policy.zone)
        usage = w.purchases.usage(counters)
        return check_limits(policy.limits(agent, category), usage, ZERO, now, policy.zone)

    def approvals(self) -> Sequence[PendingApproval]:
        """Purchases that wait for people, oldest first."""
        return self.wiring.approvals.pending(self.wiring.clock())

    def approve(self, approval_id: str, *, approver: str) -> Answer:
        """Approve it in the approver's name; judged anew, and refused when it does not fit."""
        return self.wiring.treasury.approve(approval_id, approver=approver)

    def reject(self, approval_id: str, *, approver: str, reason: str) -> Answer:
        """Reject it; the hold is voided."""
        return self.wiring.treasury.reject(approval_id, approver=approver, reason=reason)

    def dispute(self, purchase_id: str, *, approver: str, reason: str) -> Answer:
        """Contest a delivered purchase inside its window; the bond is held meanwhile."""
        self.start()
        purchase = self.get(purchase_id)
        bond = ZERO
        if purchase.escrow_id is not None:
            bond = self.wiring.chain.escrow(purchase.escrow_id).bond
        return self.wiring.treasury.dispute(
            purchase_id, approver=approver, reason=reason, bond=bond
        )

    def settle(self, purchase_id: str, *, approver: str) -> Answer:
        """Pay the provider of a delivered purchase early, in an approver's name."""
        self.start()
        return self.wiring.treasury.settle(purchase_id, approver=approver)

    def cancel(self, purchase_id: str, *, by: str) -> Answer:
        """Cancel what is not on its way and not funded; the hold is voided."""
        return self.wiring.treasury.cancel(purchase_id, by=by)

    def pause(
        self, reason: str, *, by: str, agent: str | None = None, provider: str | None = None
    ) -> bool:
        """Stop new spending: all, one agent's, or to one provider; False if it was stopped."""
        scope, of = _scope(agent, provider)
        return self.wiring.treasury.pause(reason, by=by, scope=scope, of=of)

    def unpause(
        self, reason: str, *, by: str, agent: str | None = None, provider: str | None = None
    ) -> bool:
        """Allow spending again; False when ``by`` is not an approver, and nothing changed."""
        scope, of = _scope(agent, provider)
        return self.wiring.treasury.unpause(reason, approver=by, scope=scope, of=of) is None

    def gas(self) -> GasReport:
        """ETH for gas, what it was spent on, and how many purchases are left."""
        return self.wiring.reporter.gas()

    def report(
        self, *, since: datetime | int | None = None, until: datetime | int | None = None
    ) -> Report:
        """Where the USDC went in [since, until), by the books, and what is open."""
        return self.wiring.reporter.report(since=_second(since), until=_second(until))

    def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Everything that proves one purchase: who, why, limits, approvals, transactions."""
        return self.wiring.reporter.receipt(purchase_id)

    def reconcile(self, *, progress: Progress | None = None) -> Reconciliation:
        """Bring the books to the chain's newest believed block and compare; signs nothing."""
        return self.wiring.reconciler.reconcile(progress=progress)

    def rebuild(self, *, progress: Progress | None = None) -> Reconciliation:
        """A fresh database from the chain and the id secret; signs nothing.

        Funded escrows of ours get purchases without an agent, counted against the organisation,
        until an agent asks with its key again and adopts its own. Spending stays paused until an
        approver unpauses. ConfigurationError when the database has followed the chain already.
        """
        w = self.wiring
        if w.books.cursor() is not None:
            raise ConfigurationError(
                "rebuild needs a fresh database; this one has a journal: use another"
                " COORDINATOR_DATABASE_URL, or `coordinator recover`"
            )
        w.treasury.pause("rebuilt from the chain: check it, then unpause", by="rebuild")
        w.reconciler.advance(w.chain.observe().readable, adopt_unknown=True, progress=progress)
        return w.reconciler.reconcile(progress=progress)

    def refresh(self, *, progress: Progress | None = None) -> None:
        """Read the chain's present, so that gas and report tell it; signs nothing.

        The books are brought up to date only where they were opened before: opening them is for
        the first purchase, `reconcile` or `rebuild`.
        """
        w = self.wiring
        seen = w.chain.observe()
        w.operations.store_balances(w.signer.address, seen, now=w.clock())
        if w.books.cursor() is not None:
            w.reconciler.advance(seen.readable, progress=progress)

    def check_withdrawal(
        self, *, to: str, amount: str | Usdc, approver: str, reason: str
    ) -> Reason | None:
        """Why this withdrawal may not be ordered, None when it may; InvalidRequest if malformed."""
        positive_amount(amount)
        free_text("reason", reason, 2000)
        refusal = not_an_approver(self.wiring.policies.current(), approver)
        if refusal is None:
            self._recipient(to)
        return refusal

    def withdraw(
        self,
        *,
        to: str,
        amount: str | Usdc,
        approver: str,
        reason: str,
        timeout_seconds: float = 60,
    ) -> Order:
        """Send USDC out of the treasury; the order as it is when done, failed, or timed out.

        InvalidRequest also when ``approver`` is none: ask ``check_withdrawal`` before.
        """
        if refusal := self.check_withdrawal(to=to, amount=amount, approver=approver, reason=reason):
            raise InvalidRequest(refusal.message, code=refusal.code.value)
        self.start()
        order = self.wiring.operations.place_order(
            "withdraw",
            recipient=self._recipient(to),
            amount=positive_amount(amount),
            by=approver,
            reason=reason,
            now=self.wiring.clock(),
        )
        return self._wait_for_order(order, timeout_seconds)

    def mint(self, amount: str | Usdc, *, by: str, timeout_seconds: float = 60) -> Order:
        """Mint a test network's token for the treasury; the order when done, failed or timed out.

        Only a token that lets everybody mint does it; ConfigurationError on base.
        """
        if self.wiring.network.name == "base":
            raise ConfigurationError("on base USDC is real: nobody can mint it")
        self.start()
        order = self.wiring.operations.place_order(
            "mint",
            recipient=self.wiring.signer.address,
            amount=positive_amount(amount),
            by=identifier("by", by),
            reason="funded for tests",
            now=self.wiring.clock(),
        )
        return self._wait_for_order(order, timeout_seconds)

    def audit(self, *, after: int = 0) -> Iterable[dict[str, Any]]:
        """The audit log's rows after a sequence number, oldest first."""
        return self.wiring.audit.rows(after)

    def start(self) -> None:
        """Check the endpoint and start the executor, unless this process only decides."""
        if self._act:
            # An endpoint that is down or wrong is told before anything is held.
            self.wiring.chain  # noqa: B018
            self.wiring.executor.start()

    def recover(self, *, timeout_seconds: float = 60) -> bool:
        """Finish what a crash left; True when nothing is in flight or waits any more."""
        self.start()
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._changed:
                self._raise_fault()
                if self.wiring.executor.acting and self.wiring.executor.idle():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _POLL_SECONDS))

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """The purchase once it is ``funded``, ``delivered`` or ``final``, or at the timeout.

        Returns at once when it can't get there by itself: final, or waiting for people. Never
        raises for time and never cancels.
        """
        if until not in _UNTIL:
            raise InvalidRequest(f"until is one of {', '.join(_UNTIL)}")
        deadline = time.monotonic() + timeout_seconds
        while True:
            purchase = self.get(purchase_id)
            left = deadline - time.monotonic()
            if purchase.final or purchase.status in _UNTIL[until] or left <= 0:
                return purchase
            if purchase.needs_approval:
                return purchase
            self._raise_fault()
            with self._changed:
                self._changed.wait(min(left, _POLL_SECONDS))

    def _wait_for_order(self, order: Order, timeout_seconds: float) -> Order:
        deadline = time.monotonic() + timeout_seconds
        while True:
            order = next(o for o in self.wiring.operations.orders() if o.id == order.id)
            left = deadline - time.monotonic()
            if order.status != "approved" or left <= 0:
                return order
            self._raise_fault()
            with self._changed:
                self._changed.wait(min(left, _POLL_SECONDS))

    def _recipient(self, to: str) -> str:
        try:
            address = checksummed(to)
        except ValueError as fault:
            raise InvalidRequest(str(fault), code="invalid_recipient") from None
        d = self.wiring.deployment
        if address in (self.wiring.signer.address, d.usdc, d.vault, d.kernel):
            raise InvalidRequest(
                f"{address} is the treasury or one of its contracts: USDC sent there is lost or"
                " goes nowhere",
                code="invalid_recipient",
            )
        return address

    def _raise_fault(self) -> None:
        if "executor" in self.wiring.__dict__ and (fault := self.wiring.executor.fault):
            if isinstance(fault, CoordinatorError):
                raise fault
            raise CoordinatorError(f"the executor stopped: {fault}") from fault

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Agent:
    """What one agent may do: ask, look, wait, cancel. It holds no key and sets no policy."""

    def __init__(self, coordinator: Coordinator, agent_id: str) -> None:
        self._coordinator = coordinator
        self.id = agent_id

    def purchase(
        self,
        *,
        provider: str,
        amount: str | Usdc,
        purpose: str,
        service: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout_seconds: float = 60,
    ) -> Purchase:
        """Ask to buy; the purchase as it is when funded, final, waiting for people, or timed out.

        ``amount`` is a decimal string of USDC or ``Usdc``. Give a key of your own to ask again
        safely: the same key never pays twice. Denials are returned, not raised. InvalidRequest
        for malformed input and IdempotencyConflict for a key with other terms write nothing.
        """
        request = self._request(
            provider=provider,
            amount=amount,
            purpose=purpose,
            service=service,
            category=category,
            task=task,
            session=session,
        )
        if wait:
            self._coordinator.start()
        purchase = self._coordinator.wiring.treasury.request(request, key=idempotency_key)
        if not wait or purchase.final or purchase.needs_approval:
            return purchase
        return self._coordinator.wait_for(purchase.id, timeout_seconds=timeout_seconds)

    async def apurchase(self, **terms: Any) -> Purchase:
        """``purchase`` off the event loop; cancelling the await does not cancel the purchase."""
        return await asyncio.to_thread(self.purchase, **terms)

    def check(self, **terms: Any) -> Decision:
        """What ``purchase`` of the same terms would decide; nothing is written or held."""
        for ignored in ("idempotency_key", "wait", "timeout_seconds"):
            terms.pop(ignored, None)
        return self._coordinator.wiring.treasury.check(self._request(**terms))

    def get(
        self, purchase_id: str | None = None, *, idempotency_key: str | None = None
    ) -> Purchase:
        """The agent's purchase by id or by its own key; UnknownId when there is none."""
        if (purchase_id is None) == (idempotency_key is None):
            raise InvalidRequest("name a purchase id or an idempotency key")
        if purchase_id is not None:
            found: Purchase | None = self._coordinator.get(purchase_id)
        else:
            assert idempotency_key is not None
            found = self._coordinator.wiring.purchases.find(self.id, idempotency_key)
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
        """The agent's purchases, newest first."""
        return self._coordinator.purchases(
            agent=self.id, status=status, since=since, limit=limit, after=after
        )

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Like ``Coordinator.wait_for``, for the agent's own purchase."""
        self.get(purchase_id)
        self._coordinator.start()
        return self._coordinator.wait_for(purchase_id, until=until, timeout_seconds=timeout_seconds)

    async def await_for(self, purchase_id: str, **terms: Any) -> Purchase:
        """``wait_for`` off the event loop."""
        return await asyncio.to_thread(self.wait_for, purchase_id, **terms)

    def cancel(self, purchase_id: str) -> Answer:
        """Cancel the agent's purchase while nothing is on its way; the hold is voided."""
        self.get(purchase_id)
        return self._coordinator.cancel(purchase_id, by=self.id)

    def settle(self, purchase_id: str) -> Answer:
        """Pay the provider of the agent's delivered purchase early, up to its threshold."""
        self.get(purchase_id)
        self._coordinator.start()
        return self._coordinator.wiring.treasury.settle(purchase_id, agent=self.id)

    def limits(self) -> Sequence[LimitState]:
        """The agent's and the organisation's limits, with what remains of each."""
        return self._coordinator.limits(self.id)

    def _request(self, **terms: Any) -> Request:
        address = self._coordinator.wiring.signer.address
        return Request.of(agent=self.id, treasury_address=address, **terms)


def _statuses(status: str | Iterable[str] | None) -> list[Status]:
    if status is None:
        return []
    names = [status] if isinstance(status, str) else list(status)
    try:
        return [Status(name) for name in names]
    except ValueError:
        known = ", ".join(Status)
        raise InvalidRequest(f"a status is one of {known}") from None


def _second(at: datetime | int | None) -> int | None:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidRequest("a time needs its zone: datetime(…, tzinfo=UTC)")
        return int(at.timestamp())
    return at


def _scope(agent: str | None, provider: str | None) -> tuple[str, str]:
    if agent is not None and provider is not None:
        raise InvalidRequest("pause an agent or a provider, one at a time")
    if agent is not None:
        return "agent", agent
    return ("provider", provider) if provider is not None else ("organisation", "")
