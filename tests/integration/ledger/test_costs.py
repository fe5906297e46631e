"""Costs without an escrow count in the same limits, to the base unit, however they end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator import Coordinator, Denied, InvalidRequest, Status, Usdc
from coordinator.api.hold import Hold
from coordinator.domain.errors import IdempotencyConflict, UnknownId
from coordinator.domain.purchase.cost import Cost, CostStatus
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    PROVIDER,
    USDC,
    Clock,
    ask,
    contents,
    counter,
    counters,
    rows,
)
from tests.integration.stores import on_both, on_either

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
TODAY = NOON - NOON % DAY
OVERHEAD: dict[str, Any] = {"agents": {"ada": {"daily_limit": "10"}}}


def used_today(database: str, agent: str = "ada") -> tuple[int, int]:
    """(held, spent), which every counter that the agent touches must say alike."""
    found = counter(database, "agent", agent, "daily", TODAY)
    assert counter(database, "agent", agent, "total") == found
    assert counter(database, "organisation", "", "total") == found
    return found


def codes(answer: Cost | Hold) -> list[str]:
    reasons = answer.cost.reasons if isinstance(answer, Hold) else answer.reasons
    return [reason.code.value for reason in reasons]


def events(database: str) -> list[tuple[str]]:
    return rows(database, "SELECT event FROM audit WHERE event LIKE 'cost_%' ORDER BY seq")


def test_a_hold_is_reserved_and_posting_the_actual_gives_back_the_rest(
    opener: Opener, database: str
) -> None:
    hold = opener(OVERHEAD).agent("ada").hold("4.00", category="data", purpose="a model call")
    assert (hold.ok, hold.cost.status) == (True, CostStatus.HELD)
    assert used_today(database) == (4 * USDC, 0)
    assert counter(database, "category", "data", "total") == (4 * USDC, 0)

    posted = hold.post("1.234567")

    assert (posted.status, posted.posted) == (CostStatus.POSTED, Usdc("1.234567"))
    assert used_today(database) == (0, 1_234_567)
    assert events(database) == [("cost_held",), ("cost_posted",)]


def test_an_actual_above_the_hold_counts_and_then_nothing_more_fits(
    opener: Opener, database: str
) -> None:
    ada = opener(OVERHEAD).agent("ada")
    ada.hold("4.00").post("11.00")
    assert used_today(database) == (0, 11 * USDC)

    refused = ada.hold("0.01")

    assert codes(refused) == ["daily_limit"]
    assert next(s for s in refused.limits if s.broken).remaining < Usdc("0")
    assert used_today(database) == (0, 11 * USDC)


def test_a_threshold_that_an_actual_above_the_hold_reaches_is_told_once(
    opener: Opener, database: str
) -> None:
    ada = opener(OVERHEAD).agent("ada")
    hold = ada.hold("4.00")
    told = "SELECT message FROM notices WHERE kind = 'limit_threshold' ORDER BY seq"
    assert rows(database, told) == []
    hold.post("9.00")
    hold.post("9.00")
    ada.hold("0.50").post("0.50")
    found = [message.partition(": ")[0] for (message,) in rows(database, told)]
    assert found == [f"agent:ada has used {share} % of its daily limit" for share in (80, 90)]


def test_a_hold_ends_once(opener: Opener, database: str) -> None:
    ada = opener(OVERHEAD).agent("ada")
    posted, voided = ada.hold("4.00"), ada.hold("2.00")
    posted.post("1.00")
    voided.void()
    once = contents(database)

    assert posted.void().status is CostStatus.POSTED
    assert posted.post("3.00").posted == Usdc("1.00")
    assert voided.post("2.00").status is CostStatus.VOIDED
    assert contents(database) == once
    assert used_today(database) == (0, 1 * USDC)


def test_posting_nothing_is_a_void(opener: Opener, database: str) -> None:
    hold = opener(OVERHEAD).agent("ada").hold("4.00")
    assert hold.post("0").status is CostStatus.VOIDED
    assert counters(database) == {}


def test_a_hold_and_a_purchase_share_a_limit(opener: Opener) -> None:
    ada = opener(OVERHEAD).agent("ada")
    assert ask(ada, "6.00").status is Status.APPROVED
    assert codes(ada.hold("4.000001")) == ["daily_limit"]
    assert ada.hold("4.00").ok
    assert ask(ada, "1.00").status is Status.DENIED


def test_what_is_refused_is_told_with_every_limit_and_leaves_only_an_audit_row(
    opener: Opener, database: str
) -> None:
    ada = opener(OVERHEAD | {"categories": {"data": {"total_limit": "5"}}}).agent("ada")
    refused = ada.hold("20.00", category="data")
    assert refused.denied
    assert codes(refused) == ["category_limit", "daily_limit"]
    assert rows(database, "SELECT count(*) FROM costs") == [(0,)]
    assert events(database) == [("cost_denied",)]
    with pytest.raises(Denied, match="may spend"):
        refused.post()


def test_checking_decides_the_same_and_writes_nothing(opener: Opener, database: str) -> None:
    ada = opener(OVERHEAD).agent("ada")
    before = contents(database)
    assert ada.check_hold("10.00").reasons == ()
    assert [r.code.value for r in ada.check_hold("10.01").reasons] == ["daily_limit"]
    assert contents(database) == before


def test_an_abandoned_hold_is_posted_in_full_and_told_once(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(OVERHEAD)
    book = coordinator.wiring.costs
    hold = coordinator.agent("ada").hold("4.00", expires_after="15m")
    clock.now += 15 * 60 - 1
    assert book.post_abandoned(now=clock()) == 0
    clock.now += 1
    assert book.post_abandoned(now=clock()) == 1
    assert book.post_abandoned(now=clock()) == 0

    assert used_today(database) == (0, 4 * USDC)
    assert hold.post("1.00").posted == Usdc("4.00")
    told = "SELECT subject FROM notices WHERE kind = 'cost_abandoned'"
    assert rows(database, told) == [(hold.id,)]


def test_an_answer_after_its_time_counts_while_nobody_has_posted_it(
    opener: Opener, database: str, clock: Clock
) -> None:
    hold = opener(OVERHEAD).agent("ada").hold("4.00", expires_after=60)
    clock.now += 3600
    assert hold.post("1.00").posted == Usdc("1.00")
    assert used_today(database) == (0, 1 * USDC)


def test_a_hold_that_is_posted_the_day_after_counts_on_the_day_it_was_placed(
    opener: Opener, database: str, clock: Clock
) -> None:
    ada = opener(OVERHEAD).agent("ada")
    hold = ada.hold("10.00", expires_after="2d")
    clock.now += DAY
    assert ada.hold("10.00").ok
    hold.post("7.00")
    assert counter(database, "agent", "ada", "daily", TODAY) == (0, 7 * USDC)
    assert counter(database, "agent", "ada", "daily", TODAY + DAY) == (10 * USDC, 0)


def test_what_was_spent_already_is_recorded_beyond_limits_and_refuses_what_comes_after(
    opener: Opener, database: str
) -> None:
    ada = opener(OVERHEAD).agent("ada")
    spent = ada.record("25.00", provider="a-model", purpose="an invoice")
    assert (spent.status, spent.posted) == (CostStatus.POSTED, Usdc("25.00"))
    assert used_today(database) == (0, 25 * USDC)
    assert codes(ada.hold("0.01")) == ["daily_limit"]
    assert ask(ada, "1.00").status is Status.DENIED
    assert ada.record("0.01").ok


def test_recording_is_not_refused_to_anybody(opener: Opener, database: str) -> None:
    coordinator = opener(OVERHEAD)
    coordinator.disable_agent("ada", by="olga", reason="a test")
    coordinator.pause("a test", by="olga")
    assert coordinator.agent("ada").record("1.00", category="unheard-of").ok
    assert coordinator.agent("stranger").record("1.00").ok
    assert counter(database, "organisation", "", "total") == (0, 2 * USDC)


def test_a_single_http_request_has_a_limit_of_its_own(opener: Opener) -> None:
    ada = opener({"x402": {"per_request_limit": "1"}}).agent("ada")
    assert ada.hold("1.00", x402=True).ok
    refused = ada.hold("1.01", x402=True)
    assert codes(refused) == ["per_purchase_limit"]
    assert ada.hold("1.01").ok


def test_a_cost_above_the_threshold_is_refused_because_it_cannot_wait(opener: Opener) -> None:
    ada = opener().agent("ada")
    assert ada.hold("50.00").ok
    refused = ada.hold("50.01")
    assert codes(refused) == ["approval_required"]
    assert refused.reason is not None and "can't wait" in refused.reason.message


def test_what_people_are_asked_about_whatever_the_threshold_is_refused_too(
    opener: Opener,
) -> None:
    ada = opener(
        {
            "agents": {"ada": {"approval_threshold": "unlimited"}},
            "approvals": {"tiers": [{"above": "100", "required": 2}]},
        }
    ).agent("ada")
    assert ada.hold("100.00").ok
    assert codes(ada.hold("100.01")) == ["approval_required"]


def test_costs_count_in_what_an_agent_may_spend_a_day_without_people(opener: Opener) -> None:
    ada = opener({"agents": {"ada": {"auto_approve_daily_limit": "20"}}}).agent("ada")
    assert ada.hold("15.00").ok
    assert codes(ada.hold("5.01")) == ["approval_required"]
    assert ask(ada, "5.01").status is Status.AWAITING_APPROVAL
    assert ada.hold("5.00").ok


def test_costs_need_no_allowlist_and_no_minimum_but_a_category(opener: Opener) -> None:
    ada = opener({"categories": {"default": None}}).agent("ada")
    assert ada.hold("0.000001", provider="a-model", category="data").ok
    assert codes(ada.hold("1.00")) == ["category_required"]
    assert codes(ada.hold("1.00", category="x")) == ["category_not_allowed", "no_limit_configured"]


def test_an_address_counts_as_the_provider_that_has_it(opener: Opener, database: str) -> None:
    coordinator = opener({"providers": {"paper-api": {"daily_limit": "5"}}})
    ada = coordinator.agent("ada")
    assert ada.hold("3.00", provider=PROVIDER.lower()).cost.request.provider == "paper-api"
    assert codes(ada.hold("3.00", provider="paper-api")) == ["provider_limit"]
    coordinator.pause("a test", by="olga", provider="paper-api")
    assert codes(ada.hold("1.00", provider=PROVIDER)) == ["provider_paused"]
    assert counter(database, "provider", "paper-api", "daily", TODAY) == (3 * USDC, 0)


@pytest.mark.parametrize("scope", [{}, {"agent": "ada"}, {"pool": "crew"}])
def test_a_pause_refuses_holds_and_ends_those_that_run(
    opener: Opener, database: str, scope: dict[str, str]
) -> None:
    coordinator = opener({"pools": {"crew": {"daily_limit": "100", "agents": ["ada"]}}})
    ada = coordinator.agent("ada")
    running = ada.hold("2.00")
    assert coordinator.pause("a test", by="olga", **scope)
    (code,) = codes(ada.hold("1.00"))
    assert code.endswith("paused")
    assert running.post("1.00").ok
    assert coordinator.unpause("over", by="alice", **scope)
    assert ada.hold("1.00").ok


def test_a_disabled_agent_is_refused_until_it_is_enabled(opener: Opener) -> None:
    coordinator = opener()
    ada = coordinator.agent("ada")
    assert coordinator.disable_agent("ada", by="olga", reason="misbehaves")
    assert not coordinator.disable_agent("ada", by="olga", reason="misbehaves")
    assert codes(ada.hold("1.00")) == ["agent_disabled"]
    assert ask(ada).status is Status.DENIED
    assert [a["enabled"] for a in coordinator.agents()] == [False, True, True, True]
    assert coordinator.enable_agent("ada", by="olga", reason="repaired")
    assert ada.hold("1.00").ok
    assert codes(coordinator.agent("eve").hold("1.00")) == ["agent_not_registered"]


def test_a_rolling_window_refuses_until_its_oldest_bucket_is_out(
    opener: Opener, clock: Clock
) -> None:
    ada = opener({"agents": {"ada": {"rolling_24h_limit": "10"}}}).agent("ada")
    ada.record("6.00")
    clock.now += 12 * HOUR
    assert ada.hold("4.00").ok
    assert codes(ada.hold("0.01")) == ["rolling_limit"]
    clock.now = NOON + DAY
    assert codes(ada.hold("6.00")) == ["rolling_limit"]
    clock.now = NOON + DAY + HOUR
    assert ada.hold("6.00").ok
    assert codes(ada.hold("0.01")) == ["rolling_limit"]


@on_either
@pytest.mark.parametrize(
    "terms",
    [
        {"amount": "0"},
        {"amount": 1.5},
        {"amount": "1", "expires_after": "8d"},
        {"amount": "1", "expires_after": 0},
        {"amount": "1", "expires_after": "soon"},
        {"amount": "1", "services": "x"},
        {"amount": "1", "task": ""},
    ],
)
def test_malformed_costs_write_nothing(
    coordinator: Coordinator, database: str, terms: dict[str, Any]
) -> None:
    before = contents(database)
    with pytest.raises(InvalidRequest):
        coordinator.agent("ada").hold(**terms)
    assert contents(database) == before


def test_posting_what_is_not_there_is_an_unknown_id(coordinator: Coordinator) -> None:
    for end in (
        lambda: coordinator.wiring.budgets.post("cst_x", "1"),
        lambda: coordinator.wiring.budgets.void("cst_x"),
    ):
        with pytest.raises(UnknownId):
            end()
    hold = coordinator.agent("ada").hold("1.00")
    with pytest.raises(InvalidRequest):
        hold.post(1.5)  # type: ignore[arg-type]
    assert hold.post("1.00").ok


def test_costs_are_listed_newest_first_by_what_they_are_for(coordinator: Coordinator) -> None:
    ada, book = coordinator.agent("ada"), coordinator.wiring.costs
    held = ada.hold("1.00", task="t-1")
    spent = ada.record("2.00", session="s-1")
    coordinator.agent("bert").record("3.00")
    assert [c.id for c in book.list(agent="ada")] == [spent.id, held.id]
    assert [c.id for c in book.list(status=CostStatus.HELD)] == [held.id]
    assert [c.id for c in book.list(session="s-1")] == [spent.id]
    assert book.get(held.id).amount == Usdc("1.00")


def test_costs_never_enter_the_journal_and_have_a_column_of_their_own_in_the_report(
    opener: Opener, database: str
) -> None:
    coordinator = opener()
    feed, ada = ChainFeed(coordinator), coordinator.agent("ada")
    feed.open("1000")
    purchase = ask(ada, "10.00", category="data")
    feed.fund(purchase)
    before = rows(database, "SELECT * FROM journal")
    ada.hold("2.00", category="data", provider="a-model")
    ada.hold("3.00", category="data").post("1.00")
    ada.hold("3.00").void()
    coordinator.agent("bert").record("4.00", provider="paper-api")

    assert rows(database, "SELECT * FROM journal") == before
    assert coordinator.wiring.reporter.discrepancies() == []
    report = coordinator.report().as_dict()
    assert report["off_chain"] == {"spent": "5.00", "held": "2.00"}
    nothing = {"spent": "0.00", "held": "0.00"}
    assert report["by_agent"] == {
        "ada": {"spent": "0.00", "held": "10.00", "off_chain": {"spent": "1.00", "held": "2.00"}},
        "bert": {**nothing, "off_chain": {"spent": "4.00", "held": "0.00"}},
    }
    assert report["by_category"]["data"]["off_chain"] == {"spent": "1.00", "held": "2.00"}
    assert report["by_category"]["other"] == {
        **nothing,
        "off_chain": {"spent": "4.00", "held": "0.00"},
    }
    assert report["by_provider"]["a-model"]["off_chain"] == {"spent": "0.00", "held": "2.00"}
    assert report["by_provider"]["paper-api"]["held"] == "10.00"
    # The budget's own sums hold both.
    assert (report["spent"], report["held"]) == ("5.00", "12.00")
    assert report["paid"] == "0.00"


def test_a_report_of_a_time_counts_the_costs_of_that_time(opener: Opener, clock: Clock) -> None:
    coordinator = opener()
    coordinator.agent("ada").record("1.00")
    clock.now += HOUR
    coordinator.agent("ada").record("2.00")
    assert coordinator.report(since=NOON + HOUR).as_dict()["off_chain"]["spent"] == "2.00"
    assert coordinator.report(until=NOON + HOUR).as_dict()["off_chain"]["spent"] == "1.00"


# Asked again with a key


def test_the_same_key_holds_and_records_once(opener: Opener, database: str) -> None:
    agent = opener(OVERHEAD).agent("ada")
    first, again = (agent.hold("4.00", idempotency_key="call-1") for _ in range(2))
    noted = [agent.record("1.00", idempotency_key="fee-1", category="data") for _ in range(2)]

    assert first.id == again.id
    assert noted[0].id == noted[1].id
    assert used_today(database) == (4 * USDC, 1 * USDC)
    first.post("3.00")
    assert agent.hold("4.00", idempotency_key="call-1").cost.status is CostStatus.POSTED
    assert used_today(database) == (0, 4 * USDC)


def test_a_key_of_another_agent_is_another_cost(opener: Opener, database: str) -> None:
    coordinator = opener()
    ids = {coordinator.agent(a).hold("4.00", idempotency_key="call-1").id for a in ("ada", "bert")}

    assert len(ids) == 2
    assert counter(database, "organisation", "", "total") == (8 * USDC, 0)


@pytest.mark.parametrize(
    "terms",
    [
        {"amount": "5.00"},
        {"category": "data"},
        {"task": "t-2"},
        {"session": "s"},
        {"provider": "x"},
    ],
    ids=lambda terms: next(iter(terms)),
)
def test_a_key_with_other_terms_is_a_conflict_and_holds_nothing(
    opener: Opener, database: str, terms: dict[str, Any]
) -> None:
    agent = opener().agent("ada")
    agent.hold("4.00", task="t-1", idempotency_key="call-1")
    before = contents(database)

    with pytest.raises(IdempotencyConflict):
        agent.hold(**{"amount": "4.00", "task": "t-1", **terms}, idempotency_key="call-1")
    with pytest.raises(IdempotencyConflict):
        agent.record("4.00", task="t-1", idempotency_key="call-1")

    assert contents(database) == before


def test_a_refusal_binds_no_key(opener: Opener) -> None:
    coordinator = opener(OVERHEAD)
    agent = coordinator.agent("ada")
    assert agent.hold("11.00", idempotency_key="call-1").denied
    assert agent.hold("9.00", idempotency_key="call-1").ok


def test_one_key_at_once_in_many_threads_holds_once(opener: Opener, database: str) -> None:
    agent = opener(OVERHEAD).agent("ada")
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: agent.hold("1.00", idempotency_key="call-1"), range(32)))

    assert len({hold.id for hold in found}) == 1
    assert used_today(database) == (1 * USDC, 0)


def test_a_cost_is_found_by_its_agent_alone(opener: Opener) -> None:
    coordinator = opener()
    hold = coordinator.agent("ada").hold("1.00")

    assert coordinator.agent("ada").held(hold.id).post().status is CostStatus.POSTED
    with pytest.raises(UnknownId):
        coordinator.agent("bert").held(hold.id)


DEFAULT_OTHER: dict[str, Any] = {
    "agents": {"ada": {"daily_limit": "10"}},
    "categories": {"default": "other", "other": {}, "data": {}},
}


def test_the_same_request_is_no_conflict_after_another_default_category(opener: Opener) -> None:
    held = opener(DEFAULT_OTHER).agent("ada").hold("4.00", idempotency_key="call-1")
    changed = {**DEFAULT_OTHER, "categories": {"default": "data", "other": {}, "data": {}}}
    assert opener(changed).agent("ada").hold("4.00", idempotency_key="call-1").id == held.id
