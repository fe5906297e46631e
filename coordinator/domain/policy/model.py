"""The policy's tables, with look-ups."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

from coordinator.domain.canonical import canonical_json
from coordinator.domain.policy.approvals import Approvals
from coordinator.domain.policy.tables import (
    X402,
    AgentPolicy,
    Alerts,
    Categories,
    EscrowTerms,
    Increases,
    Organisation,
    Pool,
    Provider,
    Reviews,
    Role,
    ServiceLevels,
    Sessions,
    Tasks,
    Treasury,
    Withdrawals,
)
from coordinator.domain.policy.values import UNLIMITED, Name, Table
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Calendar, calendar_of

BASE_CHAIN_ID: Final = 8453
_USUAL_X402: Final = X402()


class PolicyModel(Table):
    """Every table of a policy file, each well-formed; together they may contradict each other."""

    organisation: Organisation
    roles: dict[Name, Role] = {}
    agents: dict[Name, AgentPolicy] = {}
    pools: dict[Name, Pool] = {}
    providers: dict[Name, Provider] = {}
    categories: Categories = Categories()
    tasks: Tasks | None = None
    sessions: Sessions | None = None
    x402: X402 | None = None
    approvals: Approvals = Approvals()
    escrow: EscrowTerms = EscrowTerms()
    service_levels: ServiceLevels | None = None
    increases: Increases | None = None
    reviews: Reviews | None = None
    alerts: Alerts = Alerts()
    withdrawals: Withdrawals = Withdrawals()
    treasury: Treasury | None = None

    def document(self) -> dict[str, Any]:
        """Return the policy as plain data; ``from_dict`` of it gives an equal policy.

        But for ``alerts.notify``, which tells only what may be shown.
        """
        plain = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        for table in ("categories", "tasks", "sessions"):
            if table in plain:
                plain[table] |= plain[table].pop("named", {})
        if self.withdrawals == Withdrawals():
            plain.pop("withdrawals")
        return plain

    @property
    def request_payments(self) -> X402:
        """Return the terms of payments for HTTP requests; the usual ones without a table."""
        return self.x402 or _USUAL_X402

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical document, in hex."""
        return sha256(canonical_json(self.document())).hexdigest()

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.organisation.time_zone)

    @property
    def calendar(self) -> Calendar:
        """The calendar of the policy's windows."""
        return calendar_of(self.zone)

    def agent(self, agent_id: str) -> AgentPolicy | None:
        """Return the agent with its role's values filled in; None if it is not registered."""
        return self._agents.get(agent_id)

    @cached_property
    def _agents(self) -> dict[str, AgentPolicy]:
        return {name: self._with_role(agent) for name, agent in self.agents.items()}

    def _with_role(self, agent: AgentPolicy) -> AgentPolicy:
        role = self.roles.get(agent.role) if agent.role is not None else None
        if role is None:
            return agent
        values = {name: getattr(agent, name) for name in AgentPolicy.model_fields}
        for key in Role.model_fields:
            if values[key] is None:
                values[key] = getattr(role, key)
        values["rolling"] = role.rolling | agent.rolling
        values["categories"] = role.categories | agent.categories
        return AgentPolicy.model_construct(**values)

    def provider(self, text: str) -> tuple[str | None, Provider | None]:
        """Find (name, provider) by name or address; (None, None) if not on the allowlist."""
        if text in self.providers:
            return text, self.providers[text]
        name = self._provider_names.get(text.lower())
        return (None, None) if name is None else (name, self.providers[name])

    @cached_property
    def _provider_names(self) -> dict[str, str]:
        # Reversed: of two with one address, which is a fault, the first is found.
        listed = reversed(self.providers.items())
        return {provider.address.lower(): name for name, provider in listed}

    @cached_property
    def pools_of(self) -> dict[str, tuple[str, ...]]:
        """The pools of each agent that is in any, by agent, in the policy's order."""
        found: dict[str, tuple[str, ...]] = {}
        for name, pool in self.pools.items():
            for agent_id in pool.agents:
                found[agent_id] = (*found.get(agent_id, ()), name)
        return found

    def withdrawal_refused(self, recipient: str, chain_id: int) -> str | None:
        """Say why nothing may be withdrawn to an address; None where it may."""
        table = self.withdrawals
        if recipient in table.addresses.values():
            return None
        if not table.listed_only and chain_id != BASE_CHAIN_ID:
            return None
        known = ", ".join(table.addresses) or "none"
        return f"{recipient} is not among the policy's [withdrawals] addresses: {known}"

    def stops(
        self, agent_id: str | None, provider_name: str | None, *, x402: bool = False
    ) -> frozenset[tuple[str, str]]:
        """Return the scopes, as (kind, id), whose pause stops the agent's spending there."""
        pools = [("pool", name) for name in self.pools_of.get(agent_id or "", ())]
        found = {("organisation", ""), *pools}
        if agent_id is not None:
            found.add(("agent", agent_id))
        if provider_name is not None:
            found.add(("provider", provider_name))
        if x402:
            found.add(("x402", ""))
        return frozenset(found)

    def threshold(self, agent_id: str) -> Usdc | None:
        """Return the amount above which a purchase needs approval; None for no threshold."""
        agent = self.agent(agent_id)
        value = agent.approval_threshold if agent else None
        if value == UNLIMITED:
            return None
        return value if isinstance(value, Usdc) else ZERO
