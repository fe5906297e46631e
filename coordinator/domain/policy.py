"""The policy: who may spend how much on what, as one validated value."""

from __future__ import annotations

import re
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from coordinator.domain.address import checksummed, looks_like_address
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.limits import Limit, Scope, ScopeKind, Window
from coordinator.domain.policy_faults import Fault, fault_of, without
from coordinator.domain.usdc import ZERO, Usdc

UNLIMITED: Final = "unlimited"
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS_MAX: Final = 3650 * 86400
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}$"


def _amount(value: object) -> Usdc:
    if not isinstance(value, (str, Usdc)):
        raise ValueError('write the amount as text, such as "25.00"')
    amount = Usdc(value)
    if amount < ZERO:
        raise ValueError("an amount must not be negative")
    return amount


def _amount_or_unlimited(value: object) -> Usdc | str:
    return UNLIMITED if value == UNLIMITED else _amount(value)


def _duration(value: object) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write the time as text, such as "30m", "24h" or "7d"')
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _SECONDS_MAX:
        raise ValueError("is more than ten years")
    return seconds


def _duration_text(seconds: int) -> str:
    return f"{seconds}s"


def _eth(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,18})?", value):
        raise ValueError('write ETH as text, such as "0.0005"')
    whole, _, part = value.partition(".")
    return int(whole) * 10**18 + int(part.ljust(18, "0"))


def _eth_text(wei: int) -> str:
    return f"{wei // 10**18}.{wei % 10**18:018d}"


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("write the address as text")
    return checksummed(value)


def _zone(value: object) -> str:
    try:
        if value in ("localtime", "posixrules"):
            raise ValueError("means another zone on another machine")
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is not a time zone such as Europe/Berlin") from None
    return str(value)


Amount = Annotated[Usdc, PlainValidator(_amount), PlainSerializer(str)]
AmountOrUnlimited = Annotated[
    Usdc | str, PlainValidator(_amount_or_unlimited), PlainSerializer(str)
]
Seconds = Annotated[int, BeforeValidator(_duration), PlainSerializer(_duration_text)]
Wei = Annotated[int, BeforeValidator(_eth), PlainSerializer(_eth_text)]
Address = Annotated[str, PlainValidator(_address)]
Zone = Annotated[str, PlainValidator(_zone)]
Name = Annotated[str, Field(pattern=_NAME)]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )


class Organisation(_Table):
    """Limits over everything that the treasury pays."""

    total_limit: AmountOrUnlimited
    daily_limit: AmountOrUnlimited = UNLIMITED
    time_zone: Zone = "UTC"


class Role(_Table):
    """Values that agents of the role share; an agent overrides each of them."""

    per_purchase_limit: AmountOrUnlimited | None = None
    daily_limit: AmountOrUnlimited | None = None
    total_limit: AmountOrUnlimited | None = None
    approval_threshold: AmountOrUnlimited | None = None
    providers: list[str] | None = None


class AgentPolicy(Role):
    """One agent's limits; ``approval_threshold`` asks a human above it, missing means always."""

    name: str | None = None
    role: Name | None = None
    enabled: bool = True
    address: Address | None = None


class Provider(_Table):
    """A payee that humans put on the allowlist."""

    address: Address
    service: str | None = None


class Pool(_Table):
    """Agents that are stopped together; one may be in several pools."""

    agents: list[Name]


class Category(_Table):
    """What may be spent on one kind of thing, by all agents together."""

    total_limit: AmountOrUnlimited = UNLIMITED


class Categories(_Table):
    """The categories by name; ``default`` takes purchases that name none."""

    default: Name | None = None
    named: dict[Name, Category] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        named = {k: v for k, v in value.items() if k != "default"}
        return {"default": value.get("default"), "named": named}


class Approvals(_Table):
    """Who decides above the threshold, how many of them, and for how long it stays open."""

    required: Annotated[int, Field(ge=1, le=20)] = 1
    approvers: list[Name] = []
    expires_after: Seconds = 86400


class EscrowTerms(_Table):
    """Times of an escrow and when a delivered one is settled."""

    create_within: Seconds = 3600
    deadline_after: Seconds = 86400
    dispute_window: Seconds = 172800
    settle: Literal["after_window", "on_delivery", "manual"] = "after_window"


class Alerts(_Table):
    """When the operator is warned, and when spending pauses by itself.

    ``drift_above``: USDC that balance and journal may differ by, in either direction.
    """

    gas_balance_below_eth: Wei = 5 * 10**14
    window_closes_within: Seconds = 3600
    drift_above: Amount = Usdc("1.00")


class Policy(_Table):
    """The whole policy.

    ``from_dict`` and a policy file tell every fault at once, contradictions too. One built in code
    raises pydantic's ValidationError (a ValueError) for a wrong type, and its contradictions are
    told as a ConfigurationError when a coordinator is made with it.
    """

    organisation: Organisation
    roles: dict[Name, Role] = {}
    agents: dict[Name, AgentPolicy] = {}
    pools: dict[Name, Pool] = {}
    providers: dict[Name, Provider] = {}
    categories: Categories = Categories()
    approvals: Approvals = Approvals()
    escrow: EscrowTerms = EscrowTerms()
    alerts: Alerts = Alerts()

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Policy:
        """The policy of a parsed document; ConfigurationError lists every fault with its path."""
        policy, faults = cls.examine(document)
        if policy is None:
            raise ConfigurationError(*(f"{'.'.join(path)}: {text}" for path, text in faults))
        return policy

    @classmethod
    def examine(cls, document: dict[str, Any]) -> tuple[Policy | None, list[Fault]]:
        """The policy, or None and every fault as (key path, sentence)."""
        try:
            policy = cls.model_validate(document)
        except ValidationError as error:
            faults = [fault_of(details) for details in error.errors()]
            return None, faults + cls._hidden_contradictions(document, faults)
        faults = policy._contradictions()
        return (None, faults) if faults else (policy, [])

    @classmethod
    def _hidden_contradictions(cls, document: dict[str, Any], faults: list[Fault]) -> list[Fault]:
        """What contradicts itself besides ``faults``, so that one reading tells everything."""
        try:
            rest = cls.model_validate(without(document, [path for path, _ in faults]))
        except ValidationError:
            return []
        spoiled = {path[:2] for path, _ in faults}
        return [(path, text) for path, text in rest._contradictions() if path[:2] not in spoiled]

    def document(self) -> dict[str, Any]:
        """The policy as plain data; ``from_dict`` of it gives an equal policy."""
        plain = self.model_dump(mode="json", exclude_none=True)
        categories = plain.pop("categories", {})
        plain["categories"] = dict(categories.get("named", {}))
        if categories.get("default"):
            plain["categories"]["default"] = categories["default"]
        return plain

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical document, in hex."""
        return sha256(canonical_json(self.document())).hexdigest()

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.organisation.time_zone)

    def agent(self, agent_id: str) -> AgentPolicy | None:
        """The agent with its role's values filled in; None if it is not registered."""
        agent = self.agents.get(agent_id)
        if agent is None or agent.role is None:
            return agent
        role = self.roles[agent.role]
        inherited = {
            key: getattr(role, key)
            for key in Role.model_fields
            if getattr(agent, key) is None and getattr(role, key) is not None
        }
        return agent.model_copy(update=inherited)

    def provider(self, text: str) -> tuple[str | None, Provider | None]:
        """(name, provider) for a name or an address of the allowlist, (None, None) otherwise."""
        if text in self.providers:
            return text, self.providers[text]
        for name, provider in self.providers.items():
            if provider.address.lower() == text.lower():
                return name, provider
        return None, None

    def stops(self, agent_id: str | None, provider_name: str | None) -> frozenset[tuple[str, str]]:
        """The scopes, as (kind, id), of which one paused stops the agent's spending there."""
        pools = [("pool", name) for name, pool in self.pools.items() if agent_id in pool.agents]
        found = {("organisation", ""), *pools}
        if agent_id is not None:
            found.add(("agent", agent_id))
        if provider_name is not None:
            found.add(("provider", provider_name))
        return frozenset(found)

    def threshold(self, agent_id: str) -> Usdc | None:
        """Above this amount a human is asked (equal is not); None means no threshold at all."""
        agent = self.agent(agent_id)
        value = agent.approval_threshold if agent else None
        if value == UNLIMITED:
            return None
        return value if isinstance(value, Usdc) else ZERO

    def limits(self, agent_id: str | None, category: str | None) -> tuple[Limit, ...]:
        """Every limit that a purchase of this agent in this category must satisfy."""
        found: list[Limit] = []

        def add(scope: Scope, window: Window, amount: Usdc | str | None) -> None:
            if isinstance(amount, Usdc):
                found.append(Limit(scope, window, amount))

        agent = self.agent(agent_id) if agent_id else None
        if agent and agent_id:
            scope = Scope(ScopeKind.AGENT, agent_id)
            add(scope, Window.PER_PURCHASE, agent.per_purchase_limit)
            add(scope, Window.DAILY, agent.daily_limit)
            add(scope, Window.TOTAL, agent.total_limit)
        if category and category in self.categories.named:
            chosen = self.categories.named[category]
            add(Scope(ScopeKind.CATEGORY, category), Window.TOTAL, chosen.total_limit)
        whole = Scope(ScopeKind.ORGANISATION)
        add(whole, Window.DAILY, self.organisation.daily_limit)
        add(whole, Window.TOTAL, self.organisation.total_limit)
        return tuple(found)

    def _contradictions(self) -> list[Fault]:
        roles = [
            fault
            for name, role in self.roles.items()
            for fault in self._spender_faults(("roles", name), role)
        ]
        pools = [
            (("pools", name, "agents"), f"there is no agent {agent_id!r}")
            for name, pool in self.pools.items()
            for agent_id in pool.agents
            if agent_id not in self.agents
        ]
        found = [*roles, *self._agent_faults(), *pools]
        return [*found, *self._provider_faults(), *self._other_faults()]

    def _agent_faults(self) -> list[Fault]:
        faults: list[Fault] = []
        for agent_id, stated in self.agents.items():
            path = ("agents", agent_id)
            if stated.role is not None and stated.role not in self.roles:
                faults.append(((*path, "role"), f"there is no role {stated.role!r}"))
                continue
            agent = self.agent(agent_id)
            assert agent is not None
            if agent.per_purchase_limit is None:
                faults.append((path, 'has no per_purchase_limit (it may say "unlimited")'))
            if agent.daily_limit is None and agent.total_limit is None:
                faults.append(
                    (path, 'has neither a daily_limit nor a total_limit (one may say "unlimited")')
                )
            faults.extend(self._spender_faults(path, agent))
            if agent_id in self.approvals.approvers:
                faults.append((path, "an agent can't be an approver as well"))
        return faults

    def _spender_faults(self, path: tuple[str, ...], spender: Role) -> list[Fault]:
        faults: list[Fault] = []
        each = spender.per_purchase_limit
        for key in ("daily_limit", "total_limit"):
            whole = getattr(spender, key)
            if isinstance(each, Usdc) and isinstance(whole, Usdc) and each > whole:
                faults.append(((*path, key), f"{whole} is below the per_purchase_limit, {each}"))
        for name in spender.providers or []:
            if self.provider(name)[0] is None:
                faults.append(((*path, "providers"), f"there is no provider {name!r}"))
        return faults

    def _provider_faults(self) -> list[Fault]:
        seen: dict[str, str] = {}
        faults: list[Fault] = []
        for name, provider in self.providers.items():
            if looks_like_address(name):
                faults.append((("providers", name), "a name must not look like an address"))
            other = seen.setdefault(provider.address, name)
            if other != name:
                path = ("providers", name, "address")
                faults.append((path, f"is the address of {other!r} too"))
        return faults

    def _other_faults(self) -> list[Fault]:
        faults: list[Fault] = []
        default = self.categories.default
        if default is not None and default not in self.categories.named:
            faults.append((("categories", "default"), f"there is no category {default!r}"))
        approvers = self.approvals.approvers
        if len(set(approvers)) != len(approvers):
            faults.append((("approvals", "approvers"), "names someone twice"))
        if self.approvals.required > max(1, len(set(approvers))):
            path = ("approvals", "required")
            faults.append((path, f"asks for more than the {len(set(approvers))} approvers"))
        if not 3600 <= self.escrow.dispute_window <= 30 * 86400:
            faults.append((("escrow", "dispute_window"), "must be 1h to 30d"))
        if not 600 <= self.escrow.deadline_after <= 364 * 86400:
            faults.append((("escrow", "deadline_after"), "must be 10m to 364d"))
        return faults
