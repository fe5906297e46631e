"""The tools: each asks the treasury over HTTP, and nothing is decided here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import getdoc
from typing import Annotated, Any, Final, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from coordinator_client import AsyncAgent
from coordinator_client.errors import CoordinatorError
from coordinator_client.mcp import answers as a
from coordinator_client.mcp.approvals import approval_of
from coordinator_client.mcp.sentences import denial, fault, next_step, not_recorded
from coordinator_client.mcp.server import Agents, Server
from coordinator_client.values import Answer, Purchase

Ctx = Context[Any, Any]
Reference = Annotated[
    str,
    Field(
        description="Your own name for this one thing, such as task-42/papers: 1 to 200 printable"
        " ASCII characters. The same reference never counts twice: repeat it after a lost answer."
    ),
]
Amount = Annotated[
    str, Field(description='USDC as a decimal string with at most 6 decimals, such as "25.00".')
]
Payee = Annotated[str, Field(description="A provider's name (list_providers) or address.")]
Purpose = Annotated[str, Field(description="What it is for; people read it, nothing obeys it.")]
Reason = Annotated[str, Field(description="Why; people read it, nothing obeys it.")]
Service = Annotated[str | None, Field(description="The provider's service, if it has several.")]
Category = Annotated[str | None, Field(description="A category of the policy.")]
Task = Annotated[str | None, Field(description="The task that it counts for.")]
Session = Annotated[str | None, Field(description="The session that it counts for.")]
PurchaseId = Annotated[str, Field(description="The purchase_id of an answer.")]
Wait = Annotated[
    float, Field(ge=0, le=45, description="Seconds to wait for it to be paid into escrow.")
]
_WAIT_SECONDS: Final = 15.0

_READS: Final = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
# Repeated with the same reference it has no further effect.
SPENDS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
_ASKS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_ENDS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


def add_tools(server: Server, agents: Agents) -> None:
    """Add every tool."""
    tools = Tools(agents)
    for tool, hints in (
        (tools.request_purchase, SPENDS),
        (tools.check_purchase, _READS),
        (tools.purchase_status, _READS),
        (tools.cancel_purchase, _ENDS),
        (tools.contest_delivery, _ASKS),
        (tools.budget_status, _READS),
        (tools.list_providers, _READS),
        (tools.request_limit_increase, _ASKS),
        (tools.record_cost, _ASKS),
    ):
        server.add_tool(tool, description=getdoc(tool), annotations=hints)


class Tools:
    """The tools of whichever agent a request speaks for."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def request_purchase(
        self,
        ctx: Ctx,
        reference: Reference,
        provider: Payee,
        amount: Amount,
        purpose: Purpose,
        service: Service = None,
        category: Category = None,
        task: Task = None,
        session: Session = None,
        again: Annotated[
            bool,
            Field(
                description="True only to buy once more what was bought in the last ten minutes"
                " (same provider, amount and service) under another reference."
            ),
        ] = False,
        wait_seconds: Wait = _WAIT_SECONDS,
    ) -> a.PurchaseTold:
        """Buy from a provider: the amount is paid into escrow if the treasury's policy allows it.

        The same reference never pays twice. What you bought in the last ten minutes with the same
        provider, amount and service is returned with duplicate_of instead of being bought a second
        time, unless again is true. A denial is an error that says what would be allowed.
        """
        async with self._asking(ctx, "request_purchase", reference) as agent:
            bought = await agent.purchase(
                provider=provider,
                amount=amount,
                purpose=purpose,
                service=service,
                category=category,
                task=task,
                session=session,
                idempotency_key=reference,
                unless_duplicate=not again,
                timeout_seconds=wait_seconds,
            )
            if bought.denied:
                raise denial(bought.reasons, bought.limits)
            told = purchase_told(agent, bought)
        if bought.idempotency_key != reference:
            told.duplicate_of = bought.id
            told.next_step = (
                "This call bought nothing: you bought the same under the reference"
                f" {bought.idempotency_key!r} in the last ten minutes. Use that purchase; only if"
                " you want it once more, call again with again=true and this reference."
            )
        return told

    async def check_purchase(
        self,
        ctx: Ctx,
        provider: Payee,
        amount: Amount,
        purpose: Purpose,
        service: Service = None,
        category: Category = None,
        task: Task = None,
        session: Session = None,
    ) -> a.CheckTold:
        """Ask what request_purchase would answer; nothing is written, held or promised."""
        async with self._asking(ctx, "check_purchase") as agent:
            found = await agent.check(
                provider=provider,
                amount=amount,
                purpose=purpose,
                service=service,
                category=category,
                task=task,
                session=session,
            )
            return a.CheckTold.of(found)

    async def purchase_status(
        self,
        ctx: Ctx,
        purchase_id: Annotated[str | None, Field(description="Its purchase_id, or …")] = None,
        reference: Annotated[str | None, Field(description="… its reference.")] = None,
        wait_seconds: Annotated[
            float, Field(ge=0, le=45, description="Seconds to wait until it got there.")
        ] = 0.0,
        until: Annotated[
            Literal["funded", "delivered", "final"], Field(description="Where to wait for it.")
        ] = "funded",
    ) -> a.PurchaseTold:
        """Look at a purchase of yours, by its id or reference."""
        if (purchase_id is None) == (reference is None):
            raise ToolError("Name a purchase_id or a reference, one of them; nothing was done.")
        async with self._asking(ctx, "purchase_status") as agent:
            found = await agent.get(purchase_id, idempotency_key=reference)
            if wait_seconds > 0:
                found = await agent.wait_for(found.id, until=until, timeout_seconds=wait_seconds)
            return purchase_told(agent, found)

    async def cancel_purchase(self, ctx: Ctx, purchase_id: PurchaseId) -> a.PurchaseTold:
        """Cancel a purchase of yours that is not on its way yet; what it held is free again."""
        async with self._asking(ctx, "cancel_purchase") as agent:
            return _ordered(agent, "Not cancelled", await agent.cancel(purchase_id))

    async def contest_delivery(
        self, ctx: Ctx, purchase_id: PurchaseId, reason: Reason
    ) -> a.PurchaseTold:
        """Say that what was delivered is not what you asked for, before it is paid out.

        It is not settled early any more, and people are told until when they can dispute it.
        """
        async with self._asking(ctx, "contest_delivery") as agent:
            return _ordered(agent, "Not contested", await agent.contest(purchase_id, reason=reason))

    async def budget_status(
        self,
        ctx: Ctx,
        category: Category = None,
        provider: Annotated[str | None, Field(description="With the limits of this one.")] = None,
        task: Task = None,
        session: Session = None,
    ) -> a.Budget:
        """Tell what you may still spend: every limit that touches you, what is left, its reset."""
        async with self._asking(ctx, "budget_status") as agent:
            states = await agent.limits(
                category=category, provider=provider, task=task, session=session
            )
            return a.Budget(
                agent=await agent.id,
                service_level=await agent.service_level,
                limits=[a.LimitTold.of(state) for state in states],
            )

    async def list_providers(self, ctx: Ctx) -> a.Providers:
        """List whom you may pay, the categories of spending, and above what people are asked."""
        async with self._asking(ctx, "list_providers") as agent:
            policy = await agent.policy()
        return a.Providers(
            providers=[a.Provider(**one) for one in policy["providers"]],
            categories=policy["categories"],
            default_category=policy["default_category"],
            approval_above_usdc=policy["approval_threshold"],
        )

    async def request_limit_increase(
        self,
        ctx: Ctx,
        reference: Reference,
        amount: Amount,
        reason: Reason,
        scope: Annotated[
            str | None,
            Field(description='The limit\'s scope, by default your own: "session:s-1" and so on.'),
        ] = None,
        window: Annotated[
            str, Field(description="hourly, daily, weekly, monthly, rolling_24h or total.")
        ] = "daily",
        lasts: Annotated[str, Field(description='For how long: "24h", "7d".')] = "24h",
    ) -> a.IncreaseTold:
        """Ask to raise one of your limits for a time; usually people decide."""
        async with self._asking(ctx, "request_limit_increase", reference) as agent:
            asked = await agent.request_increase(
                amount,
                reason=reason,
                scope=scope,
                window=window,
                lasts=lasts,
                idempotency_key=reference,
            )
            pending = approval_of(agent, asked.id, what="increases") if asked.waits else None
            say = "People have to approve it; call again with the same reference to see."
            step = say if asked.waits else "It is decided."
            return a.IncreaseTold.of(asked, approval=pending, next_step=step)

    async def record_cost(
        self,
        ctx: Ctx,
        reference: Reference,
        amount: Amount,
        category: Category = None,
        provider: Annotated[str | None, Field(description="Who was paid.")] = None,
        task: Task = None,
        session: Session = None,
        purpose: Annotated[str | None, Field(description="What it was for.")] = None,
    ) -> a.CostTold:
        """Record money that you spent elsewhere (a model call, an API's fee): it counts as used.

        The treasury pays nothing here. Beyond your limits it is refused: tell an operator.
        """
        async with self._asking(ctx, "record_cost", reference) as agent:
            cost = await agent.record(
                amount,
                category=category,
                provider=provider,
                task=task,
                session=session,
                purpose=purpose,
                idempotency_key=reference,
            )
            if cost.denied:
                raise not_recorded(cost.reasons, cost.limits)
            return a.CostTold.of(cost)

    @asynccontextmanager
    async def _asking(
        self, ctx: Ctx, tool: str, reference: str | None = None
    ) -> AsyncIterator[AsyncAgent]:
        """Open the agent of the request; its errors become the tool's."""
        try:
            async with self._agents(ctx) as agent:
                yield agent
        except ToolError:
            raise
        except CoordinatorError as error:
            raise fault(tool, error, reference) from None


def purchase_told(agent: AsyncAgent, found: Purchase) -> a.PurchaseTold:
    """Tell a purchase, with what a person must do where it waits for one."""
    waits = found.needs_approval and found.approval_id
    approval = approval_of(agent, str(found.approval_id)) if waits else None
    return a.PurchaseTold.of(found, approval=approval, next_step=next_step(found))


def _ordered(agent: AsyncAgent, otherwise: str, answer: Answer) -> a.PurchaseTold:
    if not answer.done and answer.reason is not None:
        code, said = answer.reason.code, answer.reason.message
        raise ToolError(f"{otherwise} ({code}): {said}. Nothing changed.")
    return purchase_told(agent, answer.purchase)
