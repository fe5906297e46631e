"""Stories that Hypothesis draws: policies with grants, and what happens under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.limits_model import (
    ADDRESSES,
    AGENTS,
    CATEGORIES,
    CHANGES,
    HOURS,
    POOLS,
    ROLLING,
    USDC,
    WINDOWS,
    Asked,
    Entry,
    Granted,
    Model,
    Opened,
    amounts_of,
)

RUNS = ("task:t1", "task:t2", "session:s1", "session:s2")
VERSIONS = 2
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


def asking(chance: Random, made: dict[str, Any]) -> dict[str, Any]:
    """The document with people who are asked when some agents' purchases of a day are many."""
    made["approvals"] = {"approvers": ["alice"]}
    for table in (*made["agents"].values(), *made["roles"].values()):
        if chance.random() < 0.4:
            table["auto_approve_daily_limit"] = str(chance.randint(2, 20))
    return made


def changed(chance: Random, base: Mapping[str, Any]) -> dict[str, Any]:
    """Another version: of another zone, or of other limits too. Nobody joins or leaves a pool."""
    zone = chance.choice(sorted(CHANGES))
    if chance.random() < 0.5:
        return {**base, "organisation": {**base["organisation"], "time_zone": zone}}
    made = asking(chance, document(chance, zone))
    for name, pool in base["pools"].items():
        made["pools"][name]["agents"] = pool["agents"]
    return made


def grants(chance: Random, document: Mapping[str, Any], near: int) -> list[Granted]:
    """A few grants beyond limits that the document has, most of them of tasks and sessions."""
    model = Model(document)
    runs = [(scope, w) for scope in RUNS for w, _ in amounts_of(model.stated(scope))]
    asked = [(f"auto_approved:{a}", "daily") for a in AGENTS if model.auto_approved(a, near)]
    scopes = {
        "organisation": document["organisation"],
        **{f"agent:{name}": document["agents"][name] for name in AGENTS},
        **{f"pool:{name}": document["pools"][name] for name in POOLS},
        **{f"category:{name}": document["categories"][name] for name in CATEGORIES},
    }
    limited = [(scope, w) for scope, found in scopes.items() for w, _ in amounts_of(found)]
    chosen = chance.sample(limited, min(len(limited), chance.randrange(4)))
    chosen += chance.sample(runs, min(len(runs), chance.randrange(4)))
    made = []
    for scope, window in (*chosen, *chance.sample(asked, min(len(asked), chance.randrange(2)))):
        start = near + chance.randint(-86_400, 43_200)
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
APPLY = st.tuples(st.just("apply"), st.integers(0, VERSIONS), st.none())
# Whose it is, and limits drawn by a number; None for the most that an agent may open it with.
OPEN = st.tuples(
    st.just("open"),
    st.sampled_from(RUNS),
    st.tuples(st.sampled_from((*AGENTS, None)), st.booleans(), st.none() | st.integers(0, 99)),
)


def inside(opened: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """It is opened, and its agent asks in it before and after something happens."""
    _, scope, (agent, _, _) = opened
    kind, _, name = scope.partition(":")
    whose = {kind: name} | ({"agent": agent} if agent is not None else {})
    ask = st.tuples(st.just("ask"), ASKED.map(lambda asked: asked._replace(**whose)), AMOUNTS)
    return st.tuples(st.just(opened), ask, JUMPS | APPLY, ask)


ENDS = st.tuples(st.just("post"), st.integers(0, 15), st.integers(1, 15)) | st.tuples(
    st.just("void"), st.integers(0, 15), st.none()
)
ACTIONS = st.lists(
    st.tuples(ASK, ASK, JUMPS)
    | st.tuples(ASK, JUMPS, ENDS)
    | OPEN.flatmap(inside)
    | st.tuples(ASK, APPLY, ASK),
    min_size=4,
    max_size=12,
)


@dataclass(frozen=True)
class Story:
    """A policy with its grants and later versions, when it begins, and what happens."""

    document: Mapping[str, Any]
    versions: list[Mapping[str, Any]]
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

    def opened(self, model: Model, scope: str, terms: tuple[Any, ...], at: int) -> Opened:
        """What is opened, by an operator or by an agent for itself."""
        agent, by_agent, drawn = terms
        if drawn is None:
            most = {w: amount + model.more(scope, w, at) for w, amount in model.amounts(scope)}
            own = {f"{window}_limit": str(amount // USDC) for window, amount in most.items()}
        else:
            own = limits(Random(drawn))
        return Opened(agent, own, by_agent and agent is not None)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    chance = Random(draw(st.integers(0, 2**32)))
    zone = chance.choice(sorted(CHANGES))
    change = int(datetime.fromisoformat(CHANGES[zone]).replace(tzinfo=UTC).timestamp())
    start = change + chance.randint(-100_000, 10_000)
    policy = asking(chance, document(chance, zone))
    versions = [policy, *(changed(chance, policy) for _ in range(VERSIONS))]
    actions = [action for some in draw(ACTIONS) for action in some]
    return Story(policy, versions, grants(chance, policy, start), start, change, actions)
