"""What the ledger admits, against a model that adds everything up again each time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.limits import ScopeKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.holds import end_hold
from tests.integration.ledger.deciding import (
    USDC,
    Clock,
    counters,
    lay_over,
    open_coordinator,
    sums_of_holds,
)
from tests.integration.stores import Store
from tests.limits_model import Entry, Model, assert_agree
from tests.limits_stories import Story, stories


class Run:
    """A story told to a coordinator on a database of its own, and to the model."""

    def __init__(self, url: str, story: Story) -> None:
        self.url = url
        self.clock = Clock(story.start)
        self.coordinator = open_coordinator(
            url, Policy.from_dict(dict(story.document)), clock=self.clock
        )
        self.coordinator.wiring.treasury  # noqa: B018 - puts the policy in force
        for number, granted in enumerate(story.grants):
            lay_over(
                self.coordinator,
                f"ovl_{number}",
                "grant",
                granted.scope,
                granted.window,
                granted.amount,
                starts_at=granted.start,
                ends_at=granted.end,
            )
        self.story = story
        self.model = Model(story.document, story.grants)
        self.ids: list[str] = []
        # Where counters were made anew, those of windows before are not.
        self.earliest = 0

    def ask(self, asked: Any, amount: int) -> None:
        purchase = self.coordinator.agent(asked.agent).purchase(
            provider=asked.provider,
            amount=f"{amount}.00",
            purpose="a paper",
            category=asked.category,
            task=asked.task,
            session=asked.session,
            wait=False,
        )
        checks = self.model.checks(asked, amount * USDC, self.clock.now)
        assert_agree(purchase.limits, checks)
        if not self.model.may_spend(asked) or any(state.broken for state in purchase.limits):
            assert purchase.status is Status.DENIED
            return
        by_people = self.model.asks(asked.agent, amount * USDC, self.clock.now)
        assert purchase.status is (Status.AWAITING_APPROVAL if by_people else Status.APPROVED)
        if by_people:
            assert self.coordinator.approve(str(purchase.approval_id), approver="alice").done
        self.ids.append(purchase.id)
        self.model.entries.append(Entry(self.clock.now, asked, amount * USDC, 0, by_people))
        self.model.assert_nothing_exceeds(self.model.entries[-1])
        self.assert_asked_in_time(asked.agent)

    def assert_asked_in_time(self, agent: str) -> None:
        """What passed without people is what the model says."""
        states = self.coordinator.limits(agent)
        told = [s for s in states if s.limit.scope.kind is ScopeKind.AUTO_APPROVED]
        check = self.model.auto_approved(agent, self.clock.now)
        assert_agree(told, [check] if check is not None else [])

    def open(self, scope: str, terms: tuple[Any, ...]) -> None:
        opened = self.story.opened(self.model, scope, terms, self.clock.now)
        kind, _, name = scope.partition(":")
        opens = partial(
            self.coordinator.wiring.budgets.open,
            kind,
            name,
            agent=opened.agent,
            limits=opened.limits,
            by=opened.agent if opened.by_agent else "olga",
            operator=not opened.by_agent,
        )
        if not self.model.may_open(scope, opened, self.clock.now):
            with pytest.raises(InvalidRequest):
                opens()
            return
        opens()
        self.model.opened[scope] = opened
        self.earliest = self.clock.now

    def apply(self, number: int) -> None:
        wiring, document = self.coordinator.wiring, self.story.versions[number]
        wiring.activate_policy(
            Policy.from_dict(dict(document)),
            author="olga",
            reason="a test",
            now=self.clock.now,
        )
        self.model.document = document
        self.earliest = self.clock.now

    def end(self, number: int, spent: int) -> None:
        """Post what was spent, by the books' own statement, or cancel."""
        if number >= len(self.ids) or not self.model.entries[number].held:
            return
        entry, purchase_id, now = self.model.entries[number], self.ids[number], self.clock.now
        if spent:
            with self.coordinator.wiring.transactions.write() as tx:
                amount = Usdc.from_base_units(spent)
                end_hold(tx, purchase_id, "purchase", spent=amount, now=now)
        else:
            assert self.coordinator.agent(entry.asked.agent).cancel(purchase_id).done
        entry.held, entry.spent = 0, spent


@pytest.fixture
def databases(store: Store) -> Callable[[], str]:
    """A fresh database for each story."""
    numbers = count()
    return lambda: store.migrated(store.url(f"story_{next(numbers)}"))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    # A database for each try: to shrink a story outlasts the test's time.
    phases=[Phase.generate],
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories())
def test_the_ledger_admits_what_the_naive_model_admits(
    databases: Callable[[], str], story: Story
) -> None:
    url = databases()
    run = Run(url, story)
    with run.coordinator:
        for action in story.actions:
            moved = story.moved(run.clock.now, action, run.model.entries)
            run.clock.now = max(run.earliest, moved)
            match action:
                case ("ask", asked, amount):
                    run.ask(asked, amount)
                case ("post", number, amount):
                    run.end(number, amount * USDC)
                case ("void", number, _):
                    run.end(number, 0)
                case ("open", scope, terms):
                    run.open(scope, terms)
                case ("apply", number, _):
                    run.apply(number)
    assert counters(url) == sums_of_holds(url)
