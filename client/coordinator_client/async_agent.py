"""``Agent`` for an event loop: the same methods, awaited."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator_client import terms
from coordinator_client.async_handles import AsyncHold, AsyncSession
from coordinator_client.calls import SESSION, TASK, Calls
from coordinator_client.exchange import Flow
from coordinator_client.extras import needs_extra
from coordinator_client.transport import Coroutines, Target
from coordinator_client.usdc import Amount

if TYPE_CHECKING:
    import httpx

    from coordinator_client.costs import Cost, CostDecision, Increase
    from coordinator_client.values import Answer, Decision, LimitState, PaymentAnswer, Purchase
    from coordinator_client.x402.httpx_client import PayingClient

T = TypeVar("T")


class AsyncAgent:
    """``Agent`` with coroutines: ``await agent.purchase(…)``, ``async with await agent.hold(…)``.

    ``url`` is the service's, ``key`` an API key of role agent. http:// is for this host alone
    unless ``allow_http``. A call that does not wait for a purchase may take ``timeout_seconds``,
    retries included. Cancelling an await does not cancel the purchase. Its connections belong to
    the event loop that uses it. ``transport`` carries its requests in place of the network, such as
    ``httpx.ASGITransport(app)`` within the service's own process.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = 30,
        allow_http: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        target = Target(url, key, allow_http=allow_http)
        seconds = terms.seconds("timeout_seconds", timeout_seconds)
        self._coroutines = Coroutines(target, transport)
        self._calls = Calls(target.exchange(), seconds)
        self._id: str | None = None
        self.url = target.url

    def __repr__(self) -> str:
        return f"AsyncAgent({self.url!r})"

    async def __aenter__(self) -> AsyncAgent:
        return self

    async def __aexit__(self, *fault: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections; what was asked goes on."""
        await self._coroutines.close()

    @property
    def id(self) -> Coroutine[Any, Any, str]:
        """The agent's name in the policy, asked once of the service: ``await agent.id``."""
        return self._name()

    async def purchase(
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
        return await self._run(
            self._calls.purchase(
                body,
                idempotency_key=idempotency_key,
                unless_duplicate=unless_duplicate,
                wait=wait,
                timeout_seconds=timeout_seconds,
            )
        )

    async def check(
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
        return await self._run(self._calls.check(body))

    async def get(
        self, purchase_id: str | None = None, *, idempotency_key: str | None = None
    ) -> Purchase:
        """Return the agent's purchase by id or by its own key; UnknownId when there is none."""
        return await self._run(self._calls.get(purchase_id, idempotency_key))

    async def purchases(
        self,
        *,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Return the agent's purchases, newest first; ``after`` is the last id of a page before."""
        found = self._calls.purchases(status=status, since=since, limit=limit, after=after)
        return await self._run(found)

    async def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Return the proof of the agent's purchase as JSON: limits, approvals, transactions."""
        return await self._run(self._calls.receipt(purchase_id))

    async def policy(self) -> dict[str, Any]:
        """Return what of the policy concerns the agent as JSON: limits, providers, categories."""
        return await self._run(self._calls.policy())

    async def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Wait until the purchase is "funded", "delivered" or "final", or return it as it is.

        It never raises for time once the purchase was read.
        """
        return await self._run(
            self._calls.wait_for(purchase_id, until=until, timeout_seconds=timeout_seconds)
        )

    async def cancel(self, purchase_id: str) -> Answer:
        """Cancel the agent's purchase while nothing is on its way; the hold is voided."""
        return await self._run(self._calls.order(purchase_id, "cancel"))

    async def settle(self, purchase_id: str) -> Answer:
        """Pay the provider of the agent's delivered purchase early, up to its threshold."""
        return await self._run(self._calls.order(purchase_id, "settle"))

    async def contest(self, purchase_id: str, *, reason: str) -> Answer:
        """Say that the delivery of the agent's purchase is not what was asked for.

        It is not settled early any more, and approvers are told until when they can dispute it;
        without a dispute it is paid after its window.
        """
        body = {"reason": terms.text("reason", reason)}
        return await self._run(self._calls.order(purchase_id, "contest", body))

    async def authorise_x402(
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
        return await self._run(
            self._calls.authorise_x402(
                body, idempotency_key=idempotency_key, timeout_seconds=timeout_seconds
            )
        )

    def x402_client(self, *, timeout_seconds: float = 60) -> PayingClient:
        """Return an ``httpx.AsyncClient`` that pays x402 servers within this agent's limits.

        It needs the extra ``x402``. ``timeout_seconds`` is for requests that name none.
        """
        with needs_extra("x402", "x402_client"):
            from coordinator_client.x402.httpx_client import PayingClient

        return PayingClient(self, timeout=timeout_seconds)

    async def hold(
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
    ) -> AsyncHold:
        """AsyncHold an amount for a cost without an escrow (a model call, an API's fee).

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
        return AsyncHold(
            self._coroutines, self._calls, await self._run(self._calls.hold(body, idempotency_key))
        )

    async def held(self, cost_id: str) -> AsyncHold:
        """Return the agent's own cost by its id, to post or void it; UnknownId when it has none."""
        return AsyncHold(self._coroutines, self._calls, await self._run(self._calls.held(cost_id)))

    async def record(
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
        return await self._run(self._calls.record(body, idempotency_key))

    async def check_hold(
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
        return await self._run(self._calls.check_hold(body))

    async def limits(
        self,
        *,
        category: str | None = None,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Sequence[LimitState]:
        """Return every limit that the agent's spending touches, with what remains of each."""
        return await self._run(
            self._calls.limits(category=category, provider=provider, task=task, session=session)
        )

    async def open_session(
        self, session: str, limits: Mapping[str, Any] | None = None
    ) -> AsyncSession:
        """Open a session for this agent, with the default limits or lower ones."""
        opened = await self._run(self._calls.open_run(SESSION, session, limits))
        return AsyncSession(self._coroutines, self._calls, opened)

    async def open_task(self, task: str, limits: Mapping[str, Any] | None = None) -> AsyncSession:
        """Open a task for this agent, with the default limits or lower ones."""
        opened = await self._run(self._calls.open_run(TASK, task, limits))
        return AsyncSession(self._coroutines, self._calls, opened)

    async def request_increase(
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
        return await self._run(self._calls.increase(body, idempotency_key))

    async def request_emergency(
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
        return await self._run(self._calls.increase(body, idempotency_key))

    @property
    def service_level(self) -> Coroutine[Any, Any, str]:
        """The agent's service level, as ``await agent.service_level``."""
        return self._run(self._calls.service_level())

    @property
    def features(self) -> Coroutine[Any, Any, tuple[str, ...]]:
        """The features that the policy names for its service level."""
        return self._run(self._calls.features())

    async def _name(self) -> str:
        if self._id is None:
            self._id = await self._run(self._calls.name())
        return self._id

    async def _run(self, flow: Flow[T]) -> T:
        return await self._coroutines.run(flow)
