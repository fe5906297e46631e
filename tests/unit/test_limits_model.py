"""What the program admits, against a model that adds everything up again each time."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, settings

from coordinator.domain.limits.limits import CounterKey, Scope, Usage
from coordinator.domain.limits.rules import Grant, Opening, Overlays, Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.decision import (
    Facts,
    asks,
    auto_counters,
    auto_limit,
    judge_limits,
)
from coordinator.domain.purchase.replay import MemoryCounters
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from tests.limits_model import USDC, Entry, Granted, Model, assert_agree
from tests.limits_stories import Story, stories


def grant(number: int, granted: Granted) -> Grant:
    scope, amount = Scope.of(granted.scope), Usdc.from_base_units(granted.amount)
    return Grant(str(number), scope, Window(granted.window), amount, granted.start, granted.end)


class Run:
    """A story told to the rules with counters in memory, and to the model."""

    def __init__(self, story: Story) -> None:
        overlays = Overlays(grants=[grant(n, g) for n, g in enumerate(story.grants)])
        self.rules = Rules(Policy.from_dict(dict(story.document)), overlays)
        self.story = story
        self.model = Model(story.document, story.grants)
        self.counters = MemoryCounters()
        self.now = story.start
        self.charged: list[tuple[CounterKey, ...]] = []

    def ask(self, asked: Any, amount: int) -> None:
        facts = Facts(
            rules=self.rules,
            now=self.now,
            minimum=ZERO,
            usage=self.counters.usage,
            openings=self.opening,
        )
        wanted = Usdc.from_base_units(amount * USDC)
        states, keys = judge_limits(Terms(*asked), wanted, facts)
        assert_agree(list(states), self.model.checks(asked, wanted.base_units, self.now))
        if any(state.broken for state in states):
            event("refused")
            return
        event("admitted")
        why = asks(asked.agent, wanted, facts, auto_limit(asked.agent, facts))
        by_people = why is not None
        assert by_people == self.model.asks(asked.agent, wanted.base_units, self.now)
        if not by_people:
            keys = (*keys, *auto_counters(asked.agent, facts))
        self.counters.charge(keys, Usage.of(held=wanted))
        self.charged.append(keys)
        new = Entry(self.now, asked, wanted.base_units, 0, by_people)
        self.model.entries.append(new)
        self.model.assert_nothing_exceeds(new)

    def open(self, scope: str, terms: tuple[Any, ...]) -> None:
        """Open it where nothing was spent, which only a ledger counts anew."""
        opened = self.story.opened(self.model, scope, terms, self.now)
        if not self.model.used_in(scope) and self.model.may_open(scope, opened, self.now):
            self.model.opened[scope] = opened

    def opening(self, kind: str, name: str) -> Opening | None:
        opened = self.model.opened.get(f"{kind}:{name}")
        if opened is None:
            return None
        limits = {
            Window(key.removesuffix("_limit")): Usdc(amount)
            for key, amount in opened.limits.items()
        }
        return Opening(kind, name, opened.agent, limits, by_agent=opened.by_agent)

    def end(self, number: int, spent: int) -> None:
        if number >= len(self.charged) or not self.model.entries[number].held:
            return
        entry = self.model.entries[number]
        change = Usage.of(Usdc.from_base_units(-entry.held), Usdc.from_base_units(spent))
        self.counters.charge(self.charged[number], change)
        entry.held, entry.spent = 0, spent


@settings(max_examples=300)
@given(stories())
def test_the_rules_admit_what_the_naive_model_admits(story: Story) -> None:
    run = Run(story)
    for action in story.actions:
        run.now = story.moved(run.now, action, run.model.entries)
        match action:
            case ("ask", asked, amount):
                run.ask(asked, amount)
            case ("post", number, amount):
                run.end(number, amount * USDC)
            case ("void", number, _):
                run.end(number, 0)
            case ("open", scope, terms):
                run.open(scope, terms)
    keys = {key for charged in run.charged for key in charged}
    total = [key for key in keys if str(key.scope) == "organisation" and key.window == "total"]
    held, spent = (sum(getattr(e, of) for e in run.model.entries) for of in ("held", "spent"))
    for used in run.counters.usage(total).values():
        assert (used.held.base_units, used.spent.base_units) == (held, spent)
