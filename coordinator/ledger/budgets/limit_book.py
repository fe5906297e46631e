"""Limits as they stand: what remains of each, and what was used hour by hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final

from sqlalchemy import select

from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.limits.effective import Effective, effective_of_agent
from coordinator.domain.limits.limits import (
    CounterKey,
    LimitState,
    Scope,
    Usage,
    Used,
    check_limits,
)
from coordinator.domain.limits.rules import Terms
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Calendar, Window
from coordinator.ledger.limits.counters import read_usage
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.policies import PolicyBook

# A year by the hour.
_SPANS_MAX: Final = 9_000
# At the least: a month and a day have no fixed length.
_SECONDS: Final = {
    Window.HOURLY: 3_600,
    Window.DAILY: 82_800,
    Window.WEEKLY: 601_200,
    Window.MONTHLY: 2_415_600,
}


class LimitBook:
    """Reads counters with the rules in force."""

    def __init__(self, database: Database, policies: PolicyBook) -> None:
        self._database = database
        self._policies = policies

    def states(self, terms: Terms, *, now: int) -> Sequence[LimitState]:
        """Every limit that an amount with these terms would touch, with what remains of it."""
        with self._database.read() as connection:
            rules = self._policies.rules(connection)
            limits = list(rules.touched(terms, now, partial(read_opening, connection)).limits)
            auto = rules.auto_approve(terms.agent, now) if terms.agent else None
            if auto is not None:
                limits.append(auto)
            usage = partial(read_usage, connection)
            return check_limits(limits, usage, ZERO, now, rules.calendar)

    def effective(
        self, agent_id: str, *, now: int, task: str | None = None, session: str | None = None
    ) -> Sequence[Effective]:
        """Every limit that the agent can meet and where it comes from; UnknownId for no agent.

        Of tasks and sessions the one named, as it was opened, or the policy's default.
        """
        with self._database.read() as connection:
            rules = self._policies.rules(connection)
            if agent_id not in rules.policy.agents:
                raise UnknownId(f"there is no agent {agent_id[:60]!r} in the policy")
            openings = partial(read_opening, connection)
            return effective_of_agent(rules, agent_id, now, openings, task=task, session=session)

    def usage(self, counters: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
        """Return the sums of the counters; one that was never charged is missing."""
        with self._database.read() as connection:
            return read_usage(connection, counters)

    def used(self, scope: Scope, *, since: int, until: int, by: Window) -> Sequence[Used]:
        """Read a scope's usage in [since, until), by hour, day, week or month; empty ones too.

        Both ends are taken to the hours that contain them. InvalidRequest for more than 9,000
        spans.
        """
        if (until - since) // _SECONDS[by] > _SPANS_MAX:
            raise InvalidRequest(f"that are more than {_SPANS_MAX} spans: ask for longer ones")
        c = t.counters.c
        with self._database.read() as connection:
            calendar = self._policies.rules(connection).calendar
            first = calendar.bounds(Window.HOURLY, since)[0]
            query = (
                select(c.start, c.held, c.spent)
                .where(
                    c.scope_kind == scope.kind.value,
                    c.scope_id == scope.id,
                    c.window == Window.HOURLY.value,
                    c.start >= first,
                    c.start < until,
                )
                .order_by(c.start)
            )
            hours = connection.execute(query).all()
        sums = {
            start: Usage.of(_sum(row.held for row in rows), _sum(row.spent for row in rows))
            for start, group in groupby(hours, lambda r: calendar.bounds(by, r.start)[0])
            if (rows := list(group))
        }
        return [
            Used(start, end, sums.get(start, Usage()))
            for start, end in _windows(calendar, by, first, until)
        ]


def _windows(calendar: Calendar, by: Window, since: int, until: int) -> Iterator[tuple[int, int]]:
    at = since
    while at < until:
        start, end = calendar.bounds(by, at)
        assert end is not None
        yield start, end
        at = end


def _sum(amounts: Iterable[int]) -> Usdc:
    return Usdc.from_base_units(sum(amounts))
