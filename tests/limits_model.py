"""A naive model of limits: a list of what was admitted, added up anew for every question.

It reads the policy's document by itself and tells windows apart by the fields of local time, so
that it shares nothing with the program but the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from coordinator.domain.limits.limits import LimitState

USDC = 10**6
ADDRESSES = {
    "p": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "q": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
}
AGENTS, POOLS, CATEGORIES = ("ada", "bert", "cora"), ("x", "y"), ("data", "other")
WINDOWS = ("per_purchase", "hourly", "daily", "weekly", "monthly", "total")
HOURS = (1, 5, 24, 36, 744)
ROLLING = tuple(f"rolling_{hours}h" for hours in HOURS)
# Zones with an instant near which their clocks change.
CHANGES = {
    "UTC": "2026-03-01T00:00",
    "Europe/Berlin": "2026-03-29T01:00",
    "America/New_York": "2026-11-01T06:00",
    "Australia/Lord_Howe": "2026-04-04T15:00",
    "Antarctica/Troll": "2026-10-25T01:00",
    "Pacific/Apia": "2011-12-30T10:00",
    "America/Sao_Paulo": "2018-02-18T02:00",
    "America/St_Johns": "2010-11-07T02:31",
    "Asia/Kolkata": "2026-01-31T18:30",
    "Asia/Kathmandu": "2026-12-31T18:15",
}


class Asked(NamedTuple):
    """The terms of a request."""

    agent: str
    category: str
    provider: str
    task: str | None = None
    session: str | None = None


class Granted(NamedTuple):
    """More of one limit in [start, end), in base units."""

    scope: str
    window: str
    amount: int
    start: int
    end: int | None


@dataclass
class Entry:
    """What was admitted: held at first, then spent with another amount, or nothing any more.

    ``by_people`` says that people were asked about it.
    """

    at: int
    asked: Asked
    held: int
    spent: int = 0
    by_people: bool = False


class Opened(NamedTuple):
    """A task or session that was opened by name, for an agent or all; limits as in a policy."""

    agent: str | None
    limits: Mapping[str, str]
    by_agent: bool


class Check(NamedTuple):
    """What the model says of one limit.

    ``used`` counts in any case and ``held`` and ``spent`` at most: they differ for rolling windows
    by what left not longer than a bucket ago.
    """

    scope: str
    window: str
    limit: int
    asked: int
    used: int
    held: int
    spent: int

    @property
    def broken(self) -> bool:
        return self.used + self.asked > self.limit

    @property
    def may_be_broken(self) -> bool:
        return self.held + self.spent + self.asked > self.limit


@dataclass
class Model:
    """Recomputes every window by brute force.

    ``opened`` is by the scope's text, such as "task:t1".
    """

    document: Mapping[str, Any]
    grants: Iterable[Granted] = ()
    entries: list[Entry] = field(default_factory=list)
    opened: dict[str, Opened] = field(default_factory=dict)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.document["organisation"]["time_zone"])

    def checks(self, asked: Asked, amount: int, at: int) -> list[Check]:
        """Every limit that the request touches, and whether it would be exceeded."""
        return [
            self._check(scope, window, limit + self.more(scope, window, at), asked, amount, at)
            for scope, limits in self._scopes(asked)
            for window, limit in amounts_of(limits)
        ]

    def may_spend(self, asked: Asked) -> bool:
        """Whether the task and session of the request are its agent's, or everybody's."""
        names = (f"task:{asked.task}", f"session:{asked.session}")
        owners = (self.opened[name].agent for name in names if name in self.opened)
        return all(owner in (None, asked.agent) for owner in owners)

    def auto_approved(self, agent: str, at: int) -> Check | None:
        """What the agent bought today without anybody being asked; None if nothing limits it."""
        said = self._agent(agent).get("auto_approve_daily_limit")
        if said is None:
            return None
        scope = f"auto_approved:{agent}"
        used = [
            e
            for e in self.entries
            if e.asked.agent == agent and not e.by_people and self._same("daily", e.at, at)
        ]
        held, spent = sum(e.held for e in used), sum(e.spent for e in used)
        limit = int(said) * USDC + self.more(scope, "daily", at)
        return Check(scope, "daily", limit, 0, held + spent, held, spent)

    def asks(self, agent: str, amount: int, at: int) -> bool:
        """Whether a human is asked about what is within every limit."""
        auto = self.auto_approved(agent, at)
        return auto is not None and auto.used + amount > auto.limit

    def may_open(self, scope: str, opened: Opened, at: int) -> bool:
        """Whether it was not opened before, and an agent asks for no more than it has already."""
        if scope in self.opened:
            return False
        if not opened.by_agent:
            return True
        most = {w: amount + self.more(scope, w, at) for w, amount in self.amounts(scope)}
        fits = all(most.get(window, own) >= own for window, own in amounts_of(opened.limits))
        return fits and all(e.asked.agent == opened.agent for e in self._of(scope))

    def stated(self, scope: str) -> Mapping[str, Any]:
        """What the policy says of a task or session, whoever opened it."""
        kind, _, name = scope.partition(":")
        tables = self.document.get(f"{kind}s", {})
        found: Mapping[str, Any] = tables.get(name, tables.get("default", {}))
        return found

    def amounts(self, scope: str) -> list[tuple[str, int]]:
        """The limits of a task or session by window, whoever opened it."""
        return list(amounts_of(self.stated(scope)))

    def used_in(self, scope: str) -> bool:
        """Whether anything was ever admitted that counts there."""
        return bool(self._of(scope))

    def assert_nothing_exceeds(self, new: Entry) -> None:
        """No window and no interval of a rolling one that has ``new`` holds more than its limit."""
        for scope, limits in self._scopes(new.asked):
            for window, amount in amounts_of(limits):
                limit = amount + self.more(scope, window, new.at)
                if window == "per_purchase":
                    assert new.held <= limit
                elif (hours := _hours(window)) is None:
                    same = [e for e in self._of(scope) if self._same(window, e.at, new.at)]
                    assert _sum(same) <= limit, (scope, window)
                else:
                    assert self._most(scope, hours, new.at) <= limit, (scope, window)

    def _check(
        self, scope: str, window: str, limit: int, asked: Asked, amount: int, at: int
    ) -> Check:
        if window == "per_purchase":
            return Check(scope, window, limit, amount, 0, 0, 0)
        hours = _hours(window)
        if hours is None:
            used = [e for e in self._of(scope) if self._same(window, e.at, at)]
            held, spent = sum(e.held for e in used), sum(e.spent for e in used)
            return Check(scope, window, limit, amount, held + spent, held, spent)
        grain = hours * 3600 // 24
        near = [e for e in self._of(scope) if e.at > at - hours * 3600 - grain]
        held, spent = sum(e.held for e in near), sum(e.spent for e in near)
        return Check(scope, window, limit, amount, self._most(scope, hours, at), held, spent)

    def _most(self, scope: str, hours: int, at: int) -> int:
        """The most that any ``hours`` hours with the instant ``at`` in them hold."""
        entries, length = self._of(scope), hours * 3600
        starts = {at, *(e.at for e in entries if at - length < e.at <= at)}
        return max(_sum(e for e in entries if start <= e.at < start + length) for start in starts)

    def _same(self, window: str, one: int, other: int) -> bool:
        if window == "total":
            return True
        return bool(_window(window, one, self.zone) == _window(window, other, self.zone))

    def _of(self, scope: str) -> list[Entry]:
        return [e for e in self.entries if scope in {name for name, _ in self._scopes(e.asked)}]

    def more(self, scope: str, window: str, at: int) -> int:
        """What is granted beyond the limit at this instant."""
        return sum(
            g.amount
            for g in self.grants
            if (g.scope, g.window) == (scope, window)
            and g.start <= at
            and (g.end is None or at < g.end)
        )

    def _scopes(self, asked: Asked) -> Iterator[tuple[str, Mapping[str, Any]]]:
        document = self.document
        agent = document["agents"][asked.agent]
        role = document.get("roles", {}).get(agent.get("role"), {})
        yield "organisation", document["organisation"]
        yield f"agent:{asked.agent}", self._agent(asked.agent)
        for name, pool in document.get("pools", {}).items():
            if asked.agent in pool["agents"]:
                yield f"pool:{name}", pool
        yield f"category:{asked.category}", document["categories"][asked.category]
        pair = {**role.get("categories", {}), **agent.get("categories", {})}
        yield f"agent_category:{asked.agent}/{asked.category}", pair.get(asked.category, {})
        yield f"provider:{asked.provider}", document["providers"][asked.provider]
        if asked.task is not None:
            scope = f"task:{asked.task}"
            task = self.stated(scope)
            yield scope, self._over(scope, task)
            of = task.get("categories", {}).get(asked.category, {})
            yield f"task_category:{asked.task}/{asked.category}", of
        if asked.session is not None:
            scope = f"session:{asked.session}"
            yield scope, self._over(scope, self.stated(scope))

    def _agent(self, name: str) -> Mapping[str, Any]:
        agent = self.document["agents"][name]
        return {**self.document.get("roles", {}).get(agent.get("role"), {}), **agent}

    def _over(self, scope: str, stated: Mapping[str, Any]) -> Mapping[str, Any]:
        """The limits with those of whoever opened it: an operator's anyhow, an agent's if lower."""
        opened = self.opened.get(scope)
        if opened is None:
            return stated
        found = dict(stated)
        for key, own in opened.limits.items():
            if not opened.by_agent or key not in found or int(own) < int(found[key]):
                found[key] = own
        return found


def amounts_of(limits: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for key, said in limits.items():
        if key.endswith("_limit") and said != "unlimited" and "approve" not in key:
            yield key.removesuffix("_limit"), int(said) * USDC


def _hours(window: str) -> int | None:
    return int(window[8:-1]) if window.startswith("rolling") else None


def _sum(entries: Iterable[Entry]) -> int:
    return sum(e.held + e.spent for e in entries)


def _window(window: str, at: int, zone: ZoneInfo) -> Any:
    """What is the same for two instants of one calendar window, and for no others."""
    local = datetime.fromtimestamp(at, zone)
    if window == "hourly":
        return local.date(), local.hour, local.utcoffset()
    day = _date(at, zone)
    if window == "daily":
        return day
    return day.isocalendar()[:2] if window == "weekly" else (day.year, day.month)


def _date(at: int, zone: ZoneInfo) -> date:
    """The last date that has begun: a clock that goes back over midnight does not undo it."""
    if datetime.fromtimestamp(at, zone).hour < 20:
        return datetime.fromtimestamp(at, zone).date()
    return max(datetime.fromtimestamp(at - 60 * m, zone).date() for m in range(181))


def assert_agree(states: Iterable[LimitState], checks: Iterable[Check]) -> None:
    """Calendar windows agree exactly; a rolling one may refuse more, within a bucket's grain."""
    checks = list(checks)
    by_name = {(str(s.limit.scope), s.limit.window.value): s for s in states}
    assert sorted(by_name) == sorted((c.scope, c.window) for c in checks)
    for check in checks:
        state = by_name[check.scope, check.window]
        assert state.limit.amount.base_units == check.limit
        assert state.broken or not check.broken, check
        assert check.may_be_broken or not state.broken, check
        held, spent = state.usage.held_units, state.usage.spent_units
        if check.window.startswith("rolling"):
            assert check.used <= held + spent, check
            assert held <= check.held, check
            assert spent <= check.spent, check
        else:
            assert (held, spent) == (check.held, check.spent), check
