"""An agent of the service: it requests, reads, waits and cancels, with a key of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator_client import terms
from coordinator_client.calls import SESSION, TASK, Calls
from coordinator_client.exchange import Flow
from coordinator_client.extras import needs_extra
from coordinator_client.handles import Hold, Session
from coordinator_client.transport import Target, Threads
from coordinator_client.usdc import Amount

if TYPE_CHECKING:
    from coordinator_client.costs import Cost, CostDecision, Increase
    from coordinator_client.values import Answer, Decision, LimitState, PaymentAnswer, Purchase
    from coordinator_client.x402.requests_session import PayingSession

T = TypeVar("T")


class Agent:
    """One agent's view of the treasury, over HTTP; close it, or use it as a context manager.

    ``url`` is the service's, ``key`` an API key of role agent. http:// is for this host alone
    unless ``allow_http``. A call that does not wait for a purchase may take ``timeout_seconds``,
    retries included. Any number of threads may share one agent.
    """

    def __init__(
        self, url: str, key: str, *, timeout_seconds: float = 30, allow_http: bool = False
    ) -> None:
        target = Target(url, key, allow_http=allow_http)
        seconds = terms.seconds("timeout_seconds", timeout_seconds)
        self._threads = Threads(target)
        self._calls = Calls(target.exchange(), seconds)
        self._id: str | None = None
        self.url = target.url

    def __repr__(self) -> str:
        return f"Agent({self.url!r})"

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; what was asked goes on."""
        self._threads.close()

    @property
    def id(self) -> str:
        """The agent's name in the policy, asked once of the service."""
        if self._id is None:
            self._id = self._run(self._calls.name())
        return self._id

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
        safely: the same key never pays twice; without one a key is made, and is in the answer.
        With ``unless_duplicate``, a purchase of the last ten minutes with the same provider, amount
        and service is returned instead of a second one: its ``idempotency_key`` is another.
        Denials are returned, not raised. InvalidRequest for malformed input and
        IdempotencyConflict for a key with other terms write nothing. OutcomeUnknown when no
        answer ever came; it has the key.
        """
        body = terms.purchase_body(
            provider=provider,
            amount=amount,
            purpose=purpose,
            service=service,
            category=category,
            task=task,
            session=session,
        )
        return self._run(
            self._calls.purchase(
                body,
                idempotency_key=idempotency_key,
                unless_duplicate=unless_duplicate,
                wait=wait,
                timeout_seconds=timeout_seconds,
            )
        )

    def check(
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
    ) -> Decision:
        """Judge a purchase with the terms of ``purchase`` as a dry run; nothing is written."""
        body = terms.purchase_body(
            provider=provider,
            amount=amount,
            purpose=purpose,
            service=service,
            category=category,
            task=task,
            session=session,
        )
        return self._run(self._calls.check(body))

    def get(
        self, purchase_id: str | None = None, *, idempotency_key: str | None = None
    ) -> Purchase:
        """Return the agent's purchase by id or by its own key; UnknownId when there is none."""
        return self._run(self._calls.get(purchase_id, idempotency_key))

    def purchases(
        self,
        *,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Return the agent's purchases, newest first; ``after`` is the last id of a page before."""
        found = self._calls.purchases(status=status, since=since, limit=limit, after=after)
        return self._run(found)

    def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Return the proof of the agent's purchase as JSON: limits, approvals, transactions."""
        return self._run(self._calls.receipt(purchase_id))

    def policy(self) -> dict[str, Any]:
        """Return what of the policy concerns the agent as JSON: limits, providers, categories."""
        return self._run(self._calls.policy())

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Wait until the purchase is "funded", "delivered" or "final", or return it as it is.

        It never raises for time once the purchase was read.
        """
        return self._run(
            self._calls.wait_for(purchase_id, until=until, timeout_seconds=timeout_seconds)
        )

    def cancel(self, purchase_id: str) -> Answer:
        """Cancel the agent's purchase while nothing is on its way; the hold is voided."""
        return self._run(self._calls.order(purchase_id, "cancel"))

    def settle(self, purchase_id: str) -> Answer:
        """Pay the provider of the agent's delivered purchase early, up to its threshold."""
        return self._run(self._calls.order(purchase_id, "settle"))

    def contest(self, purchase_id: str, *, reason: str) -> Answer:
        """Say that the delivery of the agent's purchase is not what was asked for.

        It is not settled early any more, and approvers are told until when they can dispute it;
        without a dispute it is paid after its window.
        """
        body = {"reason": terms.text("reason", reason)}
        return self._run(self._calls.order(purchase_id, "contest", body))

    def authorise_x402(
        self,
        answer: Mapping[str, Any],
        *,
        url: str,
        idempotency_key: str,
        purpose: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        timeout_seconds: float = 10,
    ) -> PaymentAnswer:
        """Ask for the payment of a server's answer 402, which is given whole; judged, then signed.

        The same key gives the same payment, for ever. Waits at most ``timeout_seconds`` for the
        signature. Denials are returned, not raised. InvalidRequest where nothing in the answer
        can be paid and IdempotencyConflict for a key with another price, payee or host write
        nothing.
        """
        body = terms.x402_body(
            answer,
            url=url,
            purpose=purpose,
            category=category,
            task=task,
            session=session,
        )
        return self._run(
            self._calls.authorise_x402(
                body, idempotency_key=idempotency_key, timeout_seconds=timeout_seconds
            )
        )

    def x402_client(self, *, timeout_seconds: float = 60) -> PayingSession:
        """Return a ``requests.Session`` that pays x402 servers within this agent's limits.

        It needs the extra ``x402``. ``timeout_seconds`` is for requests that name none.
        """
        with needs_extra("x402", "x402_client"):
            from coordinator_client.x402.requests_session import PayingSession

        return PayingSession(self, timeout_seconds=timeout_seconds)

    def hold(
        self,
        amount: Amount,
        *,
        expires_after: str | int = "15m",
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
        purpose: str | None = None,
        x402: bool = False,
        idempotency_key: str | None = None,
    ) -> Hold:
        """Hold an amount for a cost without an escrow (a model call, an API's fee).

        Refusals are returned: look at ``ok``. Post the actual, or void it; after
        ``expires_after`` ("15m" or seconds) an abandoned hold is posted in full. InvalidRequest
        for malformed input; no money moves.
        """
        body = terms.cost_body(
            amount,
            x402=x402,
            category=category,
            provider=provider,
            task=task,
            session=session,
            purpose=purpose,
            expires_after=terms.span("expires_after", expires_after),
        )
        return Hold(self._threads, self._calls, self._run(self._calls.hold(body, idempotency_key)))

    def held(self, cost_id: str) -> Hold:
        """Return the agent's own cost by its id, to post or void it; UnknownId when it has none."""
        return Hold(self._threads, self._calls, self._run(self._calls.held(cost_id)))

    def record(
        self,
        amount: Amount,
        *,
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
        purpose: str | None = None,
        x402: bool = False,
        idempotency_key: str | None = None,
    ) -> Cost:
        """Record money already spent, with the terms of ``hold``; look at ``ok``.

        Beyond the agent's limits it is refused: tell an operator, who may record it all the same.
        """
        body = terms.cost_body(
            amount,
            x402=x402,
            category=category,
            provider=provider,
            task=task,
            session=session,
            purpose=purpose,
        )
        return self._run(self._calls.record(body, idempotency_key))

    def check_hold(
        self,
        amount: Amount,
        *,
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
        purpose: str | None = None,
        x402: bool = False,
    ) -> CostDecision:
        """Judge a hold with these terms as a dry run; nothing is written."""
        body = terms.cost_body(
            amount,
            x402=x402,
            category=category,
            provider=provider,
            task=task,
            session=session,
            purpose=purpose,
        )
        return self._run(self._calls.check_hold(body))

    def limits(
        self,
        *,
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Sequence[LimitState]:
        """Return every limit that the agent's spending touches, with what remains of each."""
        return self._run(
            self._calls.limits(category=category, provider=provider, task=task, session=session)
        )

    def open_session(self, session: str, limits: Mapping[str, Any] | None = None) -> Session:
        """Open a session for this agent, with the default limits or lower ones."""
        opened = self._run(self._calls.open_run(SESSION, session, limits))
        return Session(self._threads, self._calls, opened)

    def open_task(self, task: str, limits: Mapping[str, Any] | None = None) -> Session:
        """Open a task for this agent, with the default limits or lower ones."""
        opened = self._run(self._calls.open_run(TASK, task, limits))
        return Session(self._threads, self._calls, opened)

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

        ``scope`` is the agent's own unless given ("agent_category:me/data", "session:s-1").
        InvalidRequest when there is no such limit.
        """
        body = terms.increase_body(amount, reason=reason, window=window, lasts=lasts, scope=scope)
        return self._run(self._calls.increase(body, idempotency_key))

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
        body = terms.increase_body(amount, reason=reason, window=window, lasts=lasts, pool=pool)
        return self._run(self._calls.increase(body, idempotency_key))

    @property
    def service_level(self) -> str:
        """The agent's service level: "full", "standard", "minimal" or "emergency"."""
        return self._run(self._calls.service_level())

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the policy names for its service level."""
        return self._run(self._calls.features())

    def _run(self, flow: Flow[T]) -> T:
        return self._threads.run(flow)
