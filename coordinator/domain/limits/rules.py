"""The rules in force for one request: the policy's limits with every overlay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from coordinator.domain.limits.limits import (
    ORGANISATION,
    CounterKey,
    Limit,
    LimitState,
    Places,
    Reader,
    Scope,
    ScopeKind,
    limit_states,
    places,
)
from coordinator.domain.policy.payees import Contracts
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import Limits, TaskLimits
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Calendar, Window

TASK: Final = "task"
SESSION: Final = "session"
# These keep the hours for reports; of tasks and sessions the total tells enough.
BY_HOUR: Final = frozenset(
    {
        ScopeKind.ORGANISATION,
        ScopeKind.POOL,
        ScopeKind.AGENT,
        ScopeKind.CATEGORY,
        ScopeKind.PROVIDER,
    }
)
_KNOWN_MAX: Final = 10_000


class Terms(NamedTuple):
    """The parts of a request or cost that choose its limits; a missing one touches none.

    ``x402`` says that it pays for one HTTP request.
    """

    agent: str | None = None
    category: str | None = None
    provider: str | None = None
    task: str | None = None
    session: str | None = None
    x402: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """A raise of one limit in [starts_at, ends_at), unix seconds; None: for ever."""

    id: str
    scope: Scope
    window: Window
    amount: Usdc
    starts_at: int
    ends_at: int | None

    def holds(self, at: int) -> bool:
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Overlays:
    """Overlays of the policy file: grants, allocations, disabled agents.

    ``allocations`` are an agent's share of a pool, by the scope of the pair.
    """

    grants: Sequence[Grant] = ()
    allocations: Mapping[Scope, Mapping[Window, Usdc]] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Opening:
    """A task or session that was opened by name: its own limits over the policy's default.

    ``agent`` is the only one that may use it; None for everybody. ``by_agent`` says that the agent
    opened it, so that its limits only lower those of the policy in force.
    """

    kind: str
    id: str
    agent: str | None = None
    limits: Mapping[Window, Usdc] = field(default_factory=dict)
    categories: Mapping[str, Mapping[Window, Usdc]] = field(default_factory=dict)
    closed: bool = False
    by_agent: bool = False

    def own(
        self, stated: Mapping[Window, Usdc], category: str | None = None
    ) -> Mapping[Window, Usdc]:
        """Return its own limits, or its limits of a category, that replace ``stated``."""
        limits = self.limits if category is None else self.categories.get(category, {})
        if not self.by_agent:
            return limits
        return {w: own for w, own in limits.items() if w not in stated or own < stated[w]}


Openings = Callable[[str, str], Opening | None]
"""The task or session (kind, id) if it was opened by name."""


def nothing_opened(kind: str, name: str) -> Opening | None:
    return None


class Touched:
    """The limits that a request touches, and every (scope, window) that it is counted in."""

    __slots__ = ("_places", "limits", "windows")

    def __init__(
        self, limits: tuple[Limit, ...], windows: tuple[tuple[Scope, Window], ...]
    ) -> None:
        self.limits = limits
        self.windows = windows
        self._places: Places | None = None

    def places(self, at: int, calendar: Calendar) -> Places:
        """Return the counters of its limits and windows at ``at``; cached until a window ends."""
        known = self._places
        if known is None or at < known.since or (known.until is not None and at >= known.until):
            known = self._places = places(self.limits, self.windows, at, calendar)
        return known


class Rules:
    """The limits in force, made again for every version of policy or overlays.

    ``contracts`` are addresses that nobody may be paid at.
    """

    def __init__(
        self,
        policy: Policy,
        overlays: Overlays = Overlays(),
        contracts: Contracts = MappingProxyType({}),
    ) -> None:
        self.policy = policy
        self.overlays = overlays
        self.contracts = contracts
        self.calendar = policy.calendar
        self._grants: dict[tuple[Scope, Window], list[Grant]] = {}
        for grant in overlays.grants:
            self._grants.setdefault((grant.scope, grant.window), []).append(grant)
        self._known: dict[tuple[str | None, str | None, str | None], Touched] = {}
        self._runs: dict[tuple[str | None, str | None, str | None], Touched] = {}

    def touched(self, terms: Terms, now: int, openings: Openings = nothing_opened) -> Touched:
        """Return every limit that an amount with these terms must satisfy at ``now``."""
        parts = self.parts(terms, openings)
        limits = tuple(limit for part in parts for limit in part.limits)
        windows = tuple(window for part in parts for window in part.windows)
        if self._grants:
            limits = tuple(self._granted(limit, now) for limit in limits)
        return Touched(limits, windows)

    def states(
        self, terms: Terms, amount: Usdc, now: int, usage: Reader, openings: Openings, *more: Limit
    ) -> tuple[tuple[LimitState, ...], tuple[CounterKey, ...]]:
        """Return every limit with its state for ``amount``, and the counters that it charges."""
        limits: list[Limit] = list(more)
        lone = places(more, (), now, self.calendar)
        counters, resets = list(lone.counters), list(lone.resets)
        charged: tuple[CounterKey, ...] = ()
        for part in self.parts(terms, openings):
            where = part.places(now, self.calendar)
            limits += part.limits
            counters += where.counters
            resets += where.resets
            charged += where.charged
        if self._grants:
            limits = [self._granted(limit, now) for limit in limits]
        return limit_states(limits, counters, resets, usage, amount), charged

    def charged(
        self, terms: Terms, at: int, openings: Openings = nothing_opened, *, asked: bool = False
    ) -> tuple[CounterKey, ...]:
        """Return the counters that an amount with these terms charges at ``at``.

        ``asked`` says that people were asked about it, so that it does not count in what passes
        without them.
        """
        every = (part.places(at, self.calendar).charged for part in self.parts(terms, openings))
        keys = tuple(key for keys in every for key in keys)
        return keys if asked else (*keys, *self.auto_approved(terms.agent, at))

    def parts(self, terms: Terms, openings: Openings) -> Sequence[Touched]:
        """Return the limits of agent, category, provider, task and session, without grants."""
        agent, category, provider, task, session, x402 = terms
        key = (agent, category, provider)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[key] = _touched(self._lasting(*key))
        found = [known]
        if task is not None or session is not None:
            found.append(self._of_runs(category, task, session, openings))
        if x402:
            found.append(_touched(self._of_requests(task, session)))
        return found

    def amount(self, limit: Limit, now: int) -> Usdc:
        """Return the limit's amount at ``now``, grants included."""
        return self._granted(limit, now).amount

    def least_amount(self, limit: Limit, since: int, until: int) -> Usdc:
        """Return the limit's lowest amount in [since, until), grants included."""
        grants = self._grants.get((limit.scope, limit.window), ())
        ends = (end for g in grants if (end := g.ends_at) is not None and since < end < until)
        starts = (g.starts_at for g in grants if since < g.starts_at < until)
        return min(self.amount(limit, at) for at in (since, *starts, *ends))

    def auto_approve(self, agent_id: str, now: int) -> Limit | None:
        """Return the limit on an agent's daily spending without approval."""
        agent = self.policy.agent(agent_id)
        amount = agent.auto_approve_daily_limit if agent else None
        if not isinstance(amount, Usdc):
            return None
        scope = Scope(ScopeKind.AUTO_APPROVED, agent_id)
        return self._granted(Limit(scope, Window.DAILY, amount), now)

    def auto_approved(self, agent_id: str | None, at: int) -> tuple[CounterKey, ...]:
        """Return the counter of spending without approval; empty if nothing limits it."""
        limit = self.auto_approve(agent_id, at) if agent_id is not None else None
        if limit is None:
            return ()
        start = self.calendar.frame(limit.window, at).start
        return (CounterKey(limit.scope, limit.window, start),)

    def task_limits(self, name: str) -> TaskLimits | None:
        """Return the policy's limits of a task, by name or default; None if it has none."""
        tasks = self.policy.tasks
        return None if tasks is None else tasks.named.get(name, tasks.default)

    def session_limits(self, name: str) -> Limits | None:
        """Return the policy's limits of a session, by name or default; None if it has none."""
        sessions = self.policy.sessions
        return None if sessions is None else sessions.named.get(name, sessions.default)

    def enabled(self, agent_id: str) -> bool:
        """Return whether the agent may request anything; False for an unregistered one."""
        agent = self.policy.agent(agent_id)
        return agent is not None and agent.enabled and agent_id not in self.overlays.disabled

    def _granted(self, limit: Limit, now: int) -> Limit:
        grants = self._grants.get((limit.scope, limit.window))
        if not grants:
            return limit
        more = sum((g.amount for g in grants if g.holds(now)), start=ZERO)
        return limit._replace(amount=limit.amount + more)

    def _of_runs(
        self, category: str | None, task: str | None, session: str | None, openings: Openings
    ) -> Touched:
        opened = (task is not None and openings(TASK, task) is not None) or (
            session is not None and openings(SESSION, session) is not None
        )
        if opened:
            return _touched(self._passing(category, task, session, openings))
        key = (category, task, session)
        known = self._runs.get(key)
        if known is None:
            if len(self._runs) >= _KNOWN_MAX:
                self._runs.clear()
            known = _touched(self._passing(*key, nothing_opened))
            self._runs[key] = known
        return known

    def _lasting(
        self, agent_id: str | None, category: str | None, provider: str | None
    ) -> Iterator[tuple[Scope, Mapping[Window, Usdc]]]:
        policy = self.policy
        yield ORGANISATION, policy.organisation.amounts
        agent = policy.agent(agent_id) if agent_id is not None else None
        if agent_id is not None:
            yield Scope(ScopeKind.AGENT, agent_id), agent.amounts if agent else {}
            for name in policy.pools_of.get(agent_id, ()):
                yield Scope(ScopeKind.POOL, name), policy.pools[name].amounts
                pair = Scope.pair(ScopeKind.POOL_AGENT, name, agent_id)
                if pair in self.overlays.allocations:
                    yield pair, self.overlays.allocations[pair]
        if category is not None:
            named = policy.categories.named.get(category)
            yield Scope(ScopeKind.CATEGORY, category), named.amounts if named else {}
            if agent_id is not None:
                pair = Scope.pair(ScopeKind.AGENT_CATEGORY, agent_id, category)
                own = agent.categories.get(category) if agent else None
                yield pair, own.amounts if own else {}
        if provider is not None:
            listed = policy.providers.get(provider)
            yield Scope(ScopeKind.PROVIDER, provider), listed.amounts if listed else {}

    def _passing(
        self, category: str | None, task: str | None, session: str | None, openings: Openings
    ) -> Iterator[tuple[Scope, Mapping[Window, Usdc]]]:
        if task is not None:
            limits, opened = self.task_limits(task), openings(TASK, task)
            yield Scope(ScopeKind.TASK, task), _over(limits, opened)
            if category is not None:
                pair = Scope.pair(ScopeKind.TASK_CATEGORY, task, category)
                yield (
                    pair,
                    _over(limits.categories.get(category) if limits else None, opened, category),
                )
        if session is not None:
            opened = openings(SESSION, session)
            yield Scope(ScopeKind.SESSION, session), _over(self.session_limits(session), opened)

    def _of_requests(
        self, task: str | None, session: str | None
    ) -> Iterator[tuple[Scope, Mapping[Window, Usdc]]]:
        table = self.policy.request_payments
        yield Scope(ScopeKind.X402), _limited(Window.PER_PURCHASE, table.per_request_limit)
        if task is not None:
            yield Scope(ScopeKind.X402_TASK, task), _limited(Window.TOTAL, table.per_task_limit)
        if session is not None:
            named = Scope(ScopeKind.X402_SESSION, session)
            yield named, _limited(Window.TOTAL, table.per_session_limit)


def _limited(window: Window, amount: Usdc | str) -> Mapping[Window, Usdc]:
    return {window: amount} if isinstance(amount, Usdc) else {}


def _over(
    limits: Limits | None, opened: Opening | None, category: str | None = None
) -> Mapping[Window, Usdc]:
    stated = limits.amounts if limits else {}
    return {**stated, **opened.own(stated, category)} if opened else stated


def _touched(scoped: Iterable[tuple[Scope, Mapping[Window, Usdc]]]) -> Touched:
    limits: list[Limit] = []
    windows: list[tuple[Scope, Window]] = []
    for scope, amounts in scoped:
        limits += [Limit(scope, window, amount) for window, amount in amounts.items()]
        counted = {Window.TOTAL, *amounts} - {Window.PER_PURCHASE}
        if scope.kind in BY_HOUR:
            counted.add(Window.HOURLY)
        windows += [(scope, window) for window in sorted(counted)]
    return Touched(tuple(limits), tuple(windows))
