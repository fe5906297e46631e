"""The tables of a policy file, each a validated value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from coordinator.domain.policy.values import (
    Address,
    Amount,
    AmountOrUnlimited,
    Day,
    Host,
    Name,
    NotifyUrl,
    Percent,
    Priority,
    Seconds,
    Table,
    Wei,
    Zone,
)
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import ROLLING_HOURS_MAX, Window

_CALENDAR: Final = ("per_purchase", "hourly", "daily", "weekly", "monthly", "total")
LIMIT_SUFFIX: Final = "_limit"
_ROLLING_KEY: Final = re.compile(rf"rolling_.*{LIMIT_SUFFIX}")


def _rolling_name(value: str) -> str:
    try:
        if Window(value).rolling_hours is not None:
            return value
    except ValueError:
        pass
    raise ValueError(f"a rolling window has 1 to {ROLLING_HOURS_MAX} hours: rolling_24h_limit")


RollingName = Annotated[str, AfterValidator(_rolling_name)]


class Limits(Table):
    """Any number of limits over one scope; a missing one and "unlimited" do not limit.

    ``rolling`` holds the keys ``rolling_24h_limit`` and the like by the name of their window.
    """

    per_purchase_limit: AmountOrUnlimited | None = None
    hourly_limit: AmountOrUnlimited | None = None
    daily_limit: AmountOrUnlimited | None = None
    weekly_limit: AmountOrUnlimited | None = None
    monthly_limit: AmountOrUnlimited | None = None
    total_limit: AmountOrUnlimited | None = None
    rolling: dict[RollingName, AmountOrUnlimited] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect_rolling(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "rolling" in value:
            # The collected ones are no key of the file: no table is accepted in their place.
            return value | {"rolling": None}
        keys = [key for key in value if isinstance(key, str) and _ROLLING_KEY.fullmatch(key)]
        rolling = {key.removesuffix(LIMIT_SUFFIX): value[key] for key in keys}
        rest = {key: said for key, said in value.items() if key not in keys}
        return rest | {"rolling": rolling} if rolling else rest

    @model_serializer(mode="wrap")
    def _spread_rolling(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        rolling = plain.pop("rolling", {})
        return plain | {f"{window}{LIMIT_SUFFIX}": amount for window, amount in rolling.items()}

    @cached_property
    def amounts(self) -> Mapping[Window, Usdc]:
        """The amount of every window that is limited."""
        return {window: said for window, said in self.stated().items() if isinstance(said, Usdc)}

    def stated(self) -> dict[Window, Usdc | str]:
        """Return the value of each window that has a key, "unlimited" included."""
        found = {Window(name): getattr(self, f"{name}{LIMIT_SUFFIX}") for name in _CALENDAR}
        found |= {Window(name): said for name, said in self.rolling.items()}
        return {window: said for window, said in found.items() if said is not None}


class Organisation(Limits):
    """Limits over everything that the treasury pays."""

    total_limit: AmountOrUnlimited
    time_zone: Zone = "UTC"


class Role(Limits):
    """Values that agents of the role share; an agent overrides each of them.

    ``auto_approve_daily_limit``: what may pass below the threshold in a day; above it a human is
    asked for every purchase.
    """

    approval_threshold: AmountOrUnlimited | None = None
    auto_approve_daily_limit: AmountOrUnlimited | None = None
    providers: list[str] | None = None
    priority: Priority | None = None
    categories: dict[Name, Limits] = {}


class AgentPolicy(Role):
    """One agent's limits; ``approval_threshold`` asks a human above it, missing means always."""

    name: str | None = None
    role: Name | None = None
    enabled: bool = True
    address: Address | None = None


class Provider(Limits):
    """A payee that humans put on the allowlist."""

    address: Address
    service: str | None = None
    # Where it is paid by x402: its hosts, with a port where it is not the usual one, and the most
    # that one request may cost.
    hosts: list[Host] | None = None
    price: Amount | None = None


class Rebalance(Table):
    """The automatic sharing of a pool's money: by priority and by recent use, in percent."""

    every: Seconds = 86400
    priority_weight: Percent = 70
    usage_weight: Percent = 30
    usage_window: Seconds = 7 * 86400
    apply: Literal["ask", "auto"] = "ask"


class Pool(Limits):
    """Agents that share limits and are stopped together; one may be in several pools.

    ``minimums`` are what an allocation leaves to an agent whatever the others' priority.
    """

    agents: list[Name]
    priority: Priority = 5
    minimums: dict[Name, Amount] = {}
    rebalance: Rebalance | None = None


class Category(Limits):
    """Limits of one kind of spending, for all agents together."""


class TaskLimits(Limits):
    """Limits of one task, by category too."""

    categories: dict[Name, Limits] = {}


def _split_default(value: Any, *settings: str) -> Any:
    """Tables under a table's own names, beside its settings, as ``named``."""
    if not isinstance(value, dict):
        return value
    own = {key: said for key, said in value.items() if key in settings}
    return own | {"named": {k: v for k, v in value.items() if k not in settings}}


class Categories(Table):
    """The categories by name; ``default`` takes purchases that name none."""

    default: Name | None = None
    named: dict[Name, Category] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        return _split_default(value, "default")


class Tasks(Table):
    """Limits of tasks by name, and of every other task; without a default others are refused."""

    required: bool = False
    default: TaskLimits | None = None
    named: dict[str, TaskLimits] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        return _split_default(value, "default", "required")


class Sessions(Table):
    """Limits of sessions by name, and of every other; without a default others are refused."""

    required: bool = False
    default: Limits | None = None
    named: dict[str, Limits] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        return _split_default(value, "default", "required")


class X402(Table):
    """Payments for single HTTP requests, and the float of the wallet that makes them.

    ``unknown_payees``: what happens to a payment to a payee, or for a host, that the policy does
    not bind to each other. A float below ``top_up_below``, less what is held of it, is filled up to
    ``top_up_to``. At most ``top_up_daily_limit`` comes from the treasury in any 24 hours, whoever
    asks for it, and nothing without it.
    """

    per_request_limit: AmountOrUnlimited = Usdc("1")
    per_task_limit: AmountOrUnlimited = Usdc("10")
    per_session_limit: AmountOrUnlimited = Usdc("50")
    unknown_payees: Literal["ask", "refuse"] = "refuse"
    top_up_below: Amount | None = None
    top_up_to: Amount | None = None
    top_up_daily_limit: Amount | None = None


class EscrowTerms(Table):
    """Times of an escrow and when a delivered one is settled."""

    create_within: Seconds = 3600
    deadline_after: Seconds = 86400
    dispute_window: Seconds = 172800
    settle: Literal["after_window", "on_delivery", "manual"] = "after_window"


class ServiceLevel(Table):
    """A level holds from this share (percent) remaining on; ``features`` are what agents ask."""

    from_: Annotated[Percent, Field(alias="from")]
    features: list[str] = []


class ServiceLevels(Table):
    """Service levels of agents, by the smallest remaining share of their limits."""

    of: list[str] = ["daily", "total"]
    full: ServiceLevel
    standard: ServiceLevel
    minimal: ServiceLevel
    emergency: ServiceLevel

    @field_validator("of")
    @classmethod
    def _windows(cls, value: list[str]) -> list[str]:
        for name in value:
            if Window(name) is Window.PER_PURCHASE:
                raise ValueError("a single purchase has no remaining share")
        return value

    def levels(self) -> Iterator[tuple[str, ServiceLevel]]:
        """Yield the levels by name, best first."""
        for name in ("full", "standard", "minimal", "emergency"):
            yield name, getattr(self, name)


class Increases(Table):
    """Requests for more than a limit gives: how much, and which agents get it without a human."""

    maximum: Amount
    auto_approve_from_priority: Priority | None = None


class Reviews(Table):
    """Reviews of budgets: how often, and which remaining share (percent) of a pool is low."""

    every: Seconds = 86400
    pool_remaining_below: Percent = 20


class Alerts(Table):
    """Thresholds that warn the operator, or pause spending.

    ``drift_above``: USDC that balance and journal may differ by, in either direction.
    ``thresholds``: shares of a limit, in percent, that are told when they are reached;
    ``notify``: where to, as URLs of the notification library (apprise), or ``env:NAME`` for one in
    the environment. They hold tokens: what is shown, hashed and stored has only scheme and host.
    """

    gas_balance_below_eth: Wei = 5 * 10**14
    window_closes_within: Seconds = 3600
    drift_above: Amount = Usdc("1.00")
    thresholds: list[Annotated[int, Field(ge=1, le=100)]] = [80, 90, 100]
    notify: Annotated[list[NotifyUrl], Field(repr=False)] = []


class Withdrawals(Table):
    """The addresses that USDC may be withdrawn to, by name; on Base there are no others."""

    listed_only: bool = False
    addresses: dict[Name, Address] = {}


class Treasury(Table):
    """The Safe that pays: its owners, and the limits that the chain keeps for the worker's key.

    At most ``daily_limit`` reaches escrows in any 24 hours, and a third of it at once. One purchase
    is at most ``per_purchase_limit``, its deadline before the beginning of ``deadline_before`` in
    UTC, its payee one of ``providers``, which are all unless some are named. Without
    ``disputes_daily`` and ``bonds_daily_limit`` the key opens no dispute; without
    ``x402_daily_limit`` it fills no wallet.
    """

    owners: list[Address]
    threshold: Annotated[int, Field(ge=1)]
    daily_limit: Amount
    total_limit: Amount | None = None
    per_purchase_limit: Amount
    deadline_before: Day
    providers: list[str] | None = None
    disputes_daily: Annotated[int, Field(ge=1, le=1000)] | None = None
    bonds_daily_limit: Amount | None = None
    x402_daily_limit: Amount | None = None
