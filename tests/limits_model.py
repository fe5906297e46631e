"""A naive model of limits: a list of what was admitted, added up anew for every question.

It reads the policy's document by itself and tells windows apart by the fields of local time, so
that it shares nothing with the program but the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from coordinator.domain.limits import LimitState

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
    """What was admitted: held at first, then spent with another amount, or nothing any more."""

    at: int
    asked: Asked
    held: int
    spent: int = 0


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
    """Recomputes every window by brute force."""

    document: Mapping[str, Any]
    grants: Iterable[Granted] = ()
    entries: list[Entry] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.document["organisation"]["time_zone"])

    def checks(self, asked: Asked, amount: int, at: int) -> list[Check]:
        """Every limit that the request touches, and whether it would be exceeded."""
        return [
            self._check(scope, window, limit + self._more(scope, window, at), asked, amount, at)
            for scope, limits in self._scopes(asked)
            for window, limit in _amounts(limits)
        ]

    def assert_nothing_exceeds(self, new: Entry) -> None:
        """No window and no interval of a rolling one that has ``new`` holds more than its limit."""
        for scope, limits in self._scopes(new.asked):
            for window, amount in _amounts(limits):
                limit = amount + self._more(scope, window, new.at)
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

    def _more(self, scope: str, window: str, at: int) -> int:
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
        yield f"agent:{asked.agent}", {**role, **agent}
        for name, pool in document.get("pools", {}).items():
            if asked.agent in pool["agents"]:
                yield f"pool:{name}", pool
        yield f"category:{asked.category}", document["categories"][asked.category]
        pair = {**role.get("categories", {}), **agent.get("categories", {})}
        yield f"agent_category:{asked.agent}/{asked.category}", pair.get(asked.category, {})
        yield f"provider:{asked.provider}", document["providers"][asked.provider]
        if asked.task is not None:
            tasks = document.get("tasks", {})
            task = tasks.get(asked.task, tasks.get("default", {}))
            yield f"task:{asked.task}", task
            of = task.get("categories", {}).get(asked.category, {})
            yield f"task_category:{asked.task}/{asked.category}", of
        if asked.session is not None:
            sessions = document.get("sessions", {})
            limits = sessions.get(asked.session, sessions.get("default", {}))
            yield f"session:{asked.session}", limits


def _amounts(limits: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
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


# --- what Hypothesis draws ---

AMOUNTS = st.integers(1, 12)


def limits(chance: Random) -> dict[str, str]:
    """Some limits, none below the one of a single purchase."""
    windows = chance.sample((*WINDOWS, *ROLLING), chance.randrange(4))
    amounts = {window: chance.randint(2, 30) for window in windows}
    if "per_purchase" in amounts:
        amounts["per_purchase"] = min(amounts.values())
    return {f"{window}_limit": str(amount) for window, amount in amounts.items()}


def by_category(chance: Random) -> dict[str, Any]:
    return {name: limits(chance) for name in chance.sample(CATEGORIES, chance.randrange(3))}


def document(chance: Random, zone: str) -> dict[str, Any]:
    """A policy with limits of any scopes and windows."""
    role = {**limits(chance), "categories": by_category(chance)}
    made: dict[str, Any] = {
        "organisation": {"total_limit": "unlimited", **limits(chance), "time_zone": zone},
        "roles": {"r": role},
        "agents": {name: agent(chance, role) for name in AGENTS},
        "pools": {
            name: {**limits(chance), "agents": chance.sample(AGENTS, chance.randrange(4))}
            for name in POOLS
        },
        "categories": {"default": "other", **{name: limits(chance) for name in CATEGORIES}},
        "providers": {name: {**limits(chance), "address": a} for name, a in ADDRESSES.items()},
    }
    if chance.random() < 0.7:
        made["tasks"] = {
            name: {**limits(chance), "categories": by_category(chance)}
            for name in ("default", "t1")
        }
    if chance.random() < 0.7:
        made["sessions"] = {name: limits(chance) for name in ("default", "s1")}
    return made


def agent(chance: Random, role: Mapping[str, Any]) -> dict[str, Any]:
    """An agent of the role or of none, with what every agent has to say."""
    own = {**limits(chance), "categories": by_category(chance)}
    of_role = chance.random() < 0.5
    whole = {**(role if of_role else {}), **own}
    own["per_purchase_limit"] = "2" if "per_purchase_limit" in whole else "unlimited"
    if not {"daily_limit", "total_limit"} & set(whole):
        own["total_limit"] = "unlimited"
    return {**own, "approval_threshold": "unlimited", **({"role": "r"} if of_role else {})}


def grants(chance: Random, document: Mapping[str, Any], near: int) -> list[Granted]:
    """A few grants beyond limits that the document has."""
    scopes = {
        "organisation": document["organisation"],
        **{f"agent:{name}": document["agents"][name] for name in AGENTS},
        **{f"pool:{name}": document["pools"][name] for name in POOLS},
        **{f"category:{name}": document["categories"][name] for name in CATEGORIES},
    }
    limited = [(scope, w) for scope, found in scopes.items() for w, _ in _amounts(found)]
    made = []
    for scope, window in chance.sample(limited, min(len(limited), chance.randrange(4))):
        start = near + chance.randint(-86_400, 86_400)
        end = chance.choice((None, start + chance.randint(1, 172_800)))
        made.append(Granted(scope, window, chance.randint(1, 12) * USDC, start, end))
    return made


ASKED = st.builds(
    Asked,
    st.sampled_from(AGENTS),
    st.sampled_from(CATEGORIES),
    st.sampled_from(sorted(ADDRESSES)),
    st.none() | st.sampled_from(("t1", "t2")),
    st.none() | st.sampled_from(("s1", "s2")),
)
FORWARDS = (0, 1, 60, 899, 1800, 3599, 3600, 7200, 43_200, 86_400, 200_000, 604_800, 2_700_000)
BACKWARDS = (-1, -1800, -3600, -86_400, -300_000)
MOVES = st.sampled_from((*FORWARDS, *BACKWARDS))
EDGES = st.sampled_from((-151, -1, 0, 1, 150))
ASK = st.tuples(st.just("ask"), ASKED, AMOUNTS)
# To where something stops to count, where a grant ends, where clocks change.
JUMPS = (
    st.tuples(st.just("move"), MOVES, st.none())
    | st.tuples(st.just("leave"), st.integers(0, 15), st.tuples(st.sampled_from(HOURS), EDGES))
    | st.tuples(st.just("outlive"), st.integers(0, 2), EDGES)
    | st.tuples(st.just("change"), st.integers(-5400, 5400), st.none())
)
ENDS = st.tuples(st.just("post"), st.integers(0, 15), st.integers(1, 15)) | st.tuples(
    st.just("void"), st.integers(0, 15), st.none()
)
ACTIONS = st.lists(
    st.tuples(ASK, ASK, JUMPS) | st.tuples(ASK, JUMPS, ENDS), min_size=4, max_size=12
)


@dataclass(frozen=True)
class Story:
    """A policy with its grants, when it begins, and what happens."""

    document: Mapping[str, Any]
    grants: list[Granted]
    start: int
    change: int
    actions: list[tuple[Any, ...]]

    def moved(self, now: int, action: tuple[Any, ...], entries: list[Entry]) -> int:
        """The clock after the action; ``now`` where it does not move it."""
        match action:
            case ("move", seconds, _):
                return now + int(seconds)
            case ("leave", number, (hours, edge)) if number < len(entries):
                return int(entries[number].at + hours * 3600 + edge)
            case ("outlive", number, edge) if number < len(self.grants):
                return int((self.grants[number].end or self.grants[number].start) + edge)
            case ("change", seconds, _):
                return self.change + int(seconds)
        return now


@st.composite
def stories(draw: st.DrawFn) -> Story:
    chance = Random(draw(st.integers(0, 2**32)))
    zone = chance.choice(sorted(CHANGES))
    change = int(datetime.fromisoformat(CHANGES[zone]).replace(tzinfo=UTC).timestamp())
    start = change + chance.randint(-100_000, 10_000)
    policy = document(chance, zone)
    actions = [action for three in draw(ACTIONS) for action in three]
    return Story(policy, grants(chance, policy, start), start, change, actions)
