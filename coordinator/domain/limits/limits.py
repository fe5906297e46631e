"""Check limits over scopes and windows against counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import schema_of
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Calendar, Frame, Window

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

# What joins the two names of a pair; no agent, pool or category has it in its name.
_PAIR: Final = "/"


class ScopeKind(StrEnum):
    """The kinds of scopes that have limits."""

    ORGANISATION = "organisation"
    POOL = "pool"
    AGENT = "agent"
    CATEGORY = "category"
    TASK = "task"
    SESSION = "session"
    PROVIDER = "provider"
    AGENT_CATEGORY = "agent_category"
    TASK_CATEGORY = "task_category"
    POOL_AGENT = "pool_agent"
    # What an agent bought below its threshold, without anybody being asked.
    AUTO_APPROVED = "auto_approved"
    # A single payment for one HTTP request.
    X402 = "x402"
    X402_TASK = "x402_task"
    X402_SESSION = "x402_session"


class Scope(NamedTuple):
    """A scope: the organisation, a pool, an agent and so on; the organisation's id is empty.

    A pair's id is both names with a slash between: "research-agent/data".
    """

    kind: ScopeKind
    id: str = ""

    def __str__(self) -> str:
        return _scope_text(self)

    @classmethod
    def pair(cls, kind: ScopeKind, first: str, second: str) -> Scope:
        return cls(kind, f"{first}{_PAIR}{second}")

    @classmethod
    def of(cls, text: str) -> Scope:
        """Parse the text that ``str`` gives; ValueError for anything else."""
        kind, _, name = text.partition(":")
        return cls(ScopeKind(kind), name)


@lru_cache(maxsize=65_536)
def _scope_text(scope: Scope) -> str:
    return f"{scope.kind.value}:{scope.id}" if scope.id else scope.kind.value


ORGANISATION: Final = Scope(ScopeKind.ORGANISATION)


class CounterKey(NamedTuple):
    """One counter: a scope, a window, and the unix second at which the window starts.

    A window covers [start, start of the next); ``total`` starts at 0 and never ends. Asked for
    the usage of a rolling window, it means every bucket that starts at ``start`` or later.
    """

    scope: Scope
    window: Window
    start: int


class Usage(NamedTuple):
    """The sums of a counter: held and posted amounts, in base units."""

    held_units: int = 0
    spent_units: int = 0

    @classmethod
    def of(cls, held: Usdc = ZERO, spent: Usdc = ZERO) -> Usage:
        return cls(held.base_units, spent.base_units)

    @property
    def held(self) -> Usdc:
        return Usdc.from_base_units(self.held_units)

    @property
    def spent(self) -> Usdc:
        return Usdc.from_base_units(self.spent_units)


UNUSED: Final = Usage()


class Limit(NamedTuple):
    """At most ``amount`` within ``window`` for ``scope``; equal is allowed."""

    scope: Scope
    window: Window
    amount: Usdc


class LimitState(NamedTuple):
    """A limit as a decision saw it, before the decision's own hold.

    ``remaining`` = limit - held - spent and may be negative after a limit was lowered;
    ``resets_at`` is the unix second at which nothing that counts would count any more, None where
    that is never.
    """

    limit: Limit
    usage: Usage
    resets_at: int | None
    broken: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON of a limit, key for key."""
        return {
            "scope": str(self.limit.scope),
            "window": self.limit.window.value,
            "limit": str(self.limit.amount),
            "spent": str(self.usage.spent),
            "held": str(self.usage.held),
            "remaining": str(self.remaining),
            "resets_at": rfc3339(self.resets_at),
            "broken": self.broken,
        }

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__}

    @property
    def remaining(self) -> Usdc:
        return self.limit.amount - self.usage.held - self.usage.spent

    @property
    def code(self) -> ReasonCode:
        """The reason code: an agent's own limit has the window's, any other the scope's."""
        scope, window = self.limit.scope, self.limit.window
        if scope.kind is not ScopeKind.AGENT:
            return _SCOPE_CODES[scope.kind]
        rolling = window.rolling_hours is not None
        return ReasonCode.ROLLING_LIMIT if rolling else ReasonCode(f"{window}_limit")

    def reason(self, asked: Usdc) -> Reason:
        """Return the code, and one sentence: the limit, what is left of it, and what was asked."""
        limit = self.limit
        if limit.window is Window.PER_PURCHASE:
            left = f"{asked} was requested"
        elif self.remaining < ZERO:
            left = f"that is already exceeded by {ZERO - self.remaining}"
        else:
            left = f"{self.remaining} remains and {asked} was requested"
        return Reason(self.code, f"{_sentence(limit)}; {left}")


def _sentence(limit: Limit) -> str:
    allowed = f"{limit.amount} USDC {limit.window.words}"
    first, _, second = limit.scope.id.partition(_PAIR)
    match limit.scope.kind:
        case ScopeKind.ORGANISATION:
            return f"the organisation may spend {allowed}"
        case ScopeKind.PROVIDER:
            return f"{first} may be paid {allowed}"
        case ScopeKind.AGENT | ScopeKind.AUTO_APPROVED:
            return f"{first} may spend {allowed}"
        case ScopeKind.POOL_AGENT:
            return f"{second} may spend {allowed} of pool {first}"
        case ScopeKind.AGENT_CATEGORY:
            return f"{first} may spend {allowed} in category {second}"
        case ScopeKind.TASK_CATEGORY:
            return f"task {first} may spend {allowed} in category {second}"
        case ScopeKind.X402:
            return f"one HTTP request may cost {limit.amount} USDC"
        case ScopeKind.X402_TASK | ScopeKind.X402_SESSION as kind:
            what = kind.removeprefix("x402_")
            return f"{what} {limit.scope.id} may pay {allowed} for HTTP requests"
        case kind:
            return f"{kind} {first} may spend {allowed}"


_SCOPE_CODES: Final = {
    ScopeKind.ORGANISATION: ReasonCode.ORGANISATION_LIMIT,
    ScopeKind.POOL: ReasonCode.POOL_LIMIT,
    ScopeKind.POOL_AGENT: ReasonCode.POOL_LIMIT,
    ScopeKind.CATEGORY: ReasonCode.CATEGORY_LIMIT,
    ScopeKind.AGENT_CATEGORY: ReasonCode.CATEGORY_LIMIT,
    ScopeKind.TASK: ReasonCode.TASK_LIMIT,
    ScopeKind.TASK_CATEGORY: ReasonCode.TASK_LIMIT,
    ScopeKind.SESSION: ReasonCode.SESSION_LIMIT,
    ScopeKind.PROVIDER: ReasonCode.PROVIDER_LIMIT,
    ScopeKind.X402: ReasonCode.PER_PURCHASE_LIMIT,
    ScopeKind.X402_TASK: ReasonCode.TASK_LIMIT,
    ScopeKind.X402_SESSION: ReasonCode.SESSION_LIMIT,
}


class Places(NamedTuple):
    """The counters of limits and amounts from ``since`` to before ``until`` (None: for ever).

    ``counters`` and ``resets`` belong to limits in their order: the counter whose usage a limit is
    checked against (None where each purchase is alone) and when nothing in it counts any more.
    ``charged`` are the counters that an amount is put into.
    """

    since: int
    until: int | None
    counters: tuple[CounterKey | None, ...]
    resets: tuple[int | None, ...]
    charged: tuple[CounterKey, ...]


def places(
    limits: Iterable[Limit], windows: Iterable[tuple[Scope, Window]], at: int, calendar: Calendar
) -> Places:
    """Return the counters of these limits and windows at the instant ``at``."""
    counters: list[CounterKey | None] = []
    resets: list[int | None] = []
    frames: list[Frame] = []
    for scope, window, _ in limits:
        if window is Window.PER_PURCHASE:
            counters.append(None)
            resets.append(None)
            continue
        frame = calendar.frame(window, at)
        frames.append(frame)
        counters.append(CounterKey(scope, window, frame.counts_from))
        resets.append(frame.resets_at)
    charged = []
    for scope, window in windows:
        frame = calendar.frame(window, at)
        frames.append(frame)
        charged.append(CounterKey(scope, window, frame.start))
    since = max((frame.start for frame in frames), default=0)
    until = min((frame.end for frame in frames if frame.end is not None), default=None)
    return Places(since, until, tuple(counters), tuple(resets), tuple(charged))


Reader = Callable[[Iterable[CounterKey]], Mapping[CounterKey, Usage]]
"""The usage of counters; one that was never charged is missing."""


def check_limits(
    limits: Iterable[Limit], usage: Reader, amount: Usdc, at: int, calendar: Calendar
) -> tuple[LimitState, ...]:
    """Return each limit with its usage at ``at`` and whether ``amount`` more would exceed it."""
    limits = list(limits)
    found = places(limits, (), at, calendar)
    return limit_states(limits, found.counters, found.resets, usage, amount)


def limit_states(
    limits: Iterable[Limit],
    counters: Sequence[CounterKey | None],
    resets: Iterable[int | None],
    usage: Reader,
    amount: Usdc,
) -> tuple[LimitState, ...]:
    """Return each limit with its usage and whether ``amount`` more would exceed it."""
    found = usage([key for key in counters if key is not None])
    asked = amount.base_units
    states = []
    for limit, key, resets_at in zip(limits, counters, resets, strict=True):
        used = UNUSED if key is None else found.get(key, UNUSED)
        whole = used.held_units + used.spent_units + asked
        states.append(LimitState(limit, used, resets_at, whole > limit.amount.base_units))
    return tuple(states)


class Used(NamedTuple):
    """Held and spent amounts of a scope, of purchases asked in [start, end), unix seconds."""

    start: int
    end: int
    usage: Usage
