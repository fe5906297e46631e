"""Replay past requests under other rules: newly denied, allowed or needing approval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from coordinator.domain.limits.limits import UNUSED, CounterKey, Scope, Usage
from coordinator.domain.limits.rules import Openings, Rules, Terms, nothing_opened
from coordinator.domain.purchase.decision import Decision, Facts, decide
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

# What the policy alone does not decide: stops, closed tasks and sessions, balances.
_OUTSIDE: Final = frozenset(
    {
        ReasonCode.PAUSED,
        ReasonCode.AGENT_DISABLED,
        ReasonCode.TASK_CLOSED,
        ReasonCode.SESSION_CLOSED,
        ReasonCode.AGENT_PAUSED,
        ReasonCode.POOL_PAUSED,
        ReasonCode.PROVIDER_PAUSED,
        ReasonCode.INSUFFICIENT_USDC,
        ReasonCode.INSUFFICIENT_GAS,
    }
)
_BY_PEOPLE: Final = (Status.REJECTED, Status.EXPIRED)


class Charged(NamedTuple):
    """An amount that counts at a unix second without being judged.

    ``asked`` says that people were asked about it.
    """

    at: int
    terms: Terms
    usage: Usage
    asked: bool = False


class Judged(NamedTuple):
    """A request of the past and its first outcome: approved, awaiting approval or denied."""

    at: int
    id: str
    request: Request
    outcome: Status
    codes: frozenset[ReasonCode] = frozenset()


class Moved(NamedTuple):
    """A later move of a request: approved by people, or ended without being paid."""

    at: int
    id: str
    status: Status


class Difference(NamedTuple):
    """A request with another first outcome, or refused when it was approved."""

    at: int
    id: str
    request: Request
    before: Status
    after: Status
    reason: Reason | None

    def as_dict(self) -> dict[str, Any]:
        asked = self.request
        return {
            "purchase_id": self.id,
            "at": rfc3339(self.at),
            "agent": asked.agent,
            "provider": asked.provider,
            "amount": str(asked.amount),
            "category": asked.category,
            "task": asked.task,
            "session": asked.session,
            "before": self.before.value,
            "after": self.after.value,
            "reason": self.reason.as_dict() if self.reason else None,
        }


@dataclass(frozen=True, slots=True)
class Replay(Shown):
    """The result of a replay of the ``judged`` requests of [since, until), unix seconds.

    ``left_out`` were denied for what the policy alone does not decide: a pause, an agent disabled,
    a task or session closed, the treasury's balances.
    """

    since: int
    until: int
    judged: int
    left_out: int
    differences: Sequence[Difference]

    @property
    def counts(self) -> Mapping[str, int]:
        """Counts of the requests that would be newly denied, allowed or asked, or the same."""
        found = Counter(difference.after for difference in self.differences)
        return {
            "newly_denied": found[Status.DENIED],
            "newly_allowed": found[Status.APPROVED],
            "newly_asked": found[Status.AWAITING_APPROVAL],
            "same": self.judged - len(self.differences),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON; amounts are strings, times RFC 3339 in UTC."""
        return {
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "judged": self.judged,
            "left_out": self.left_out,
            **self.counts,
            "differences": [difference.as_dict() for difference in self.differences],
        }


class MemoryCounters:
    """Counters that are kept in a dictionary."""

    def __init__(self) -> None:
        self._found: dict[tuple[Scope, Window], dict[int, Usage]] = {}

    def usage(self, keys: Iterable[CounterKey]) -> dict[CounterKey, Usage]:
        """Return the sums of the counters; of a rolling window the sum of its buckets."""
        return {key: self._usage(key) for key in keys}

    def charge(self, keys: Iterable[CounterKey], usage: Usage) -> None:
        """Add to each counter."""
        for scope, window, start in keys:
            starts = self._found.setdefault((scope, window), {})
            starts[start] = _sum(starts.get(start, UNUSED), usage)

    def void(self, keys: Iterable[CounterKey], usage: Usage) -> None:
        """Subtract from each counter."""
        self.charge(keys, Usage.of(ZERO - usage.held, ZERO - usage.spent))

    def _usage(self, key: CounterKey) -> Usage:
        starts = self._found.get((key.scope, key.window), {})
        if key.window.rolling_hours is None:
            return starts.get(key.start, UNUSED)
        found = UNUSED
        for start, usage in starts.items():
            if start >= key.start:
                found = _sum(found, usage)
        return found


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage.of(one.held + other.held, one.spent + other.spent)


def replay(
    rules: Rules,
    past: Iterable[Charged | Judged | Moved],
    *,
    since: int,
    until: int,
    minimum: Usdc,
    openings: Openings = nothing_opened,
) -> Replay:
    """Decide past requests again, in order, by ``rules``; nothing is written.

    What was denied and is allowed counts in full from then on, and so does what is newly asked:
    nobody knows what people would have said. What people rejected or let expire is given back
    only where they would have been asked again.
    """
    judge = _Judge(rules, minimum, openings)
    for happened in past:
        match happened:
            case Charged():
                judge.charge(happened)
            case Judged():
                judge.ask(happened)
            case Moved():
                judge.move(happened)
    return Replay(
        since=since,
        until=until,
        judged=len(judge.decided),
        left_out=judge.left_out,
        differences=tuple(
            Difference(was.at, was.id, was.request, was.outcome, now.outcome, now.reason)
            for was, now in judge.decided.values()
            if was.outcome is not now.outcome
        ),
    )


@dataclass(slots=True)
class _Judge:
    rules: Rules
    minimum: Usdc
    openings: Openings
    counters: MemoryCounters = field(default_factory=MemoryCounters)
    decided: dict[str, tuple[Judged, Decision]] = field(default_factory=dict)
    held: dict[str, tuple[CounterKey, ...]] = field(default_factory=dict)
    left_out: int = 0

    def charge(self, charged: Charged) -> None:
        at, asked = charged.at, charged.asked
        keys = self.rules.charged(charged.terms, at, self.openings, asked=asked)
        self.counters.charge(keys, charged.usage)

    def ask(self, asked: Judged) -> None:
        if asked.codes & _OUTSIDE:
            self.left_out += 1
            return
        decision = self._decide(asked, asked.at)
        self.decided[asked.id] = asked, decision
        if decision.outcome is not Status.DENIED:
            self._hold(asked, decision.counters)

    def move(self, moved: Moved) -> None:
        keys = self.held.pop(moved.id, None)
        if keys is None:
            return
        asked, decision = self.decided[moved.id]
        self.counters.void(keys, Usage.of(held=asked.request.amount))
        waits = decision.outcome is Status.AWAITING_APPROVAL
        if moved.status is Status.APPROVED and waits:
            again = self._decide(asked, moved.at, by_people=True)
            if again.outcome is Status.DENIED:
                self.decided[moved.id] = asked, again
            else:
                self._hold(asked, again.counters)
        elif moved.status is Status.APPROVED or (moved.status in _BY_PEOPLE and not waits):
            self._hold(asked, keys)

    def _hold(self, asked: Judged, keys: tuple[CounterKey, ...]) -> None:
        self.counters.charge(keys, Usage.of(held=asked.request.amount))
        self.held[asked.id] = keys

    def _decide(self, asked: Judged, now: int, *, by_people: bool = False) -> Decision:
        facts = Facts(
            rules=self.rules,
            now=now,
            minimum=self.minimum,
            usage=self.counters.usage,
            openings=self.openings,
            by_people=by_people,
        )
        return decide(asked.request, facts)
