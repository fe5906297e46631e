"""Tasks and sessions: whose they are, what they may spend, and what closing them gives back."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Coordinator, InvalidRequest, Status, Usdc
from coordinator.api.hold import Hold
from coordinator.api.session import Session
from coordinator.domain.errors import UnknownId
from coordinator.domain.purchase.cost import CostStatus
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.restore.audit_import import Rebirth
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    USDC,
    Clock,
    ask,
    contents,
    counter,
    policy,
    rows,
)
from tests.integration.stores import Store, on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
RUNS: dict[str, Any] = {
    "sessions": {"default": {"total_limit": "20"}},
    "tasks": {
        "default": {"total_limit": "10", "categories": {"data": {"total_limit": "4"}}},
        "big": {"total_limit": "100"},
    },
}


def codes(answer: Purchase | Hold) -> list[str]:
    if isinstance(answer, Hold):
        return [reason.code.value for reason in answer.cost.reasons]
    return [answer.reason.code.value] if answer.reason else []


def apply(coordinator: Coordinator, changes: dict[str, Any]) -> None:
    """Put the usual policy with changes in force."""
    wiring = coordinator.wiring
    assert wiring.activate_policy(
        policy(changes),
        author="olga",
        reason="a test",
        now=wiring.clock(),
    )


def limits_of(run: Session) -> dict[str, str]:
    return {s.limit.window.value: str(s.limit.amount) for s in run.limits()}


def test_a_name_that_nobody_opened_has_the_defaults_limits(opener: Opener, database: str) -> None:
    ada = opener(RUNS).agent("ada")
    assert ada.hold("10.00", task="t-1").ok
    assert codes(ada.hold("0.01", task="t-1")) == ["task_limit"]
    assert ada.hold("10.00", task="t-2").ok
    assert ask(ada, "20.00", session="s-1").status is Status.APPROVED
    assert codes(ask(ada, "1.00", session="s-1")) == ["session_limit"]
    assert counter(database, "task", "t-1", "total") == (10 * USDC, 0)
    assert counter(database, "session", "s-1", "total") == (20 * USDC, 0)


def test_a_task_has_limits_by_category_and_by_its_name(opener: Opener) -> None:
    ada = opener(RUNS).agent("ada")
    assert codes(ada.hold("4.01", task="t-1", category="data")) == ["task_limit"]
    assert ada.hold("4.00", task="t-1", category="data").ok
    assert ada.hold("6.00", task="t-1", category="other").ok
    assert ada.hold("50.00", task="big").ok


def test_an_agent_opens_its_own_lower_and_never_above_the_default(
    opener: Opener, database: str
) -> None:
    ada = opener(RUNS).agent("ada")
    session = ada.open_session("s-1", {"total_limit": "5", "daily_limit": "2"})
    assert limits_of(session) == {"total": "5.00", "daily": "2.00"}
    assert codes(ada.hold("2.01", session="s-1")) == ["session_limit"]
    task = ada.open_task("t-1", {"categories": {"data": {"total_limit": "1"}}})
    assert limits_of(task) == {"total": "10.00"}
    assert codes(ada.hold("1.01", task="t-1", category="data")) == ["task_limit"]

    before = contents(database)
    for refused in (
        lambda: ada.open_session("s-2", {"total_limit": "20.01"}),
        lambda: ada.open_task("t-2", {"total_limit": "10.01"}),
        lambda: ada.open_task("t-2", {"categories": {"data": {"total_limit": "4.01"}}}),
    ):
        with pytest.raises(InvalidRequest, match="only an operator"):
            refused()
    assert contents(database) == before
    assert ada.open_session("s-3", {"total_limit": "20"}).id == "s-3"


@pytest.mark.parametrize("kind", ["task", "session"])
def test_a_grant_counts_once_in_what_an_agent_opens_and_ends_when_it_ends(
    opener: Opener, clock: Clock, kind: str
) -> None:
    coordinator = opener({f"{kind}s": {"default": {"total_limit": "10"}}})
    ada = coordinator.agent("ada")
    opens = ada.open_task if kind == "task" else ada.open_session
    for number, before in enumerate((True, False)):
        name = f"r-{number}"
        if not before:
            opens(name, {"total_limit": "10"})
        asked = ada.request_increase(
            "90", scope=f"{kind}:{name}", window="total", lasts="1h", reason="a rush"
        )
        assert coordinator.approve_increase(asked.id, approver="alice").granted
        if before:
            opens(name, {"total_limit": "100"})
        assert ada.hold("50.00", **{kind: name}).ok
        assert ada.hold("50.00", **{kind: name}).ok
        assert codes(ada.hold("0.01", **{kind: name})) == [f"{kind}_limit"]
    opens("r-2", {"total_limit": "10"})
    clock.now += 30 * DAY
    assert limits_of(coordinator.task("r-0") if kind == "task" else coordinator.session("r-0")) == {
        "total": "10.00"
    }
    assert ada.hold("10.00", **{kind: "r-2"}).ok


def test_what_an_agent_opened_follows_a_lowered_default_and_what_an_operator_gave_stays(
    opener: Opener,
) -> None:
    def runs(total: str, data: str) -> dict[str, Any]:
        own = {"total_limit": total, "categories": {"data": {"total_limit": data}}}
        return {"tasks": {"default": own}, "sessions": {"default": {"total_limit": total}}}

    coordinator = opener(runs("50", "20"))
    ada = coordinator.agent("ada")
    stated = {"total_limit": "50", "categories": {"data": {"total_limit": "20"}}}
    ada.open_task("hers", stated)
    ada.open_task("lower", {"total_limit": "5", "daily_limit": "4"})
    ada.open_session("hers", {"total_limit": "50"})
    coordinator.open_task("given", "ada", stated)
    coordinator.open_session("given", "ada", {"total_limit": "50"})
    apply(coordinator, runs("10", "3"))

    assert limits_of(coordinator.task("hers")) == {"total": "10.00"}
    assert limits_of(coordinator.session("hers")) == {"total": "10.00"}
    assert limits_of(coordinator.task("lower")) == {"total": "5.00", "daily": "4.00"}
    assert codes(ada.hold("3.01", task="hers", category="data")) == ["task_limit"]
    assert codes(ada.hold("10.01", task="hers")) == ["task_limit"]
    assert codes(ada.hold("10.01", session="hers")) == ["session_limit"]
    assert ada.hold("20.00", task="given", category="data").ok
    assert ada.hold("30.00", task="given", session="given").ok
    sources = {
        str(one.limit.scope): one.source
        for one in coordinator.wiring.limits.effective("ada", now=0, task="hers", session="given")
    }
    assert sources["task:hers"] == "tasks.default.total_limit"
    assert sources["task_category:hers/data"] == "tasks.default.categories.data.total_limit"
    assert sources["session:given"] == "session given as opened"

    apply(coordinator, runs("100", "30"))
    assert limits_of(coordinator.task("hers")) == {"total": "50.00"}


def test_what_an_agent_opened_admits_nothing_when_the_default_is_gone(opener: Opener) -> None:
    coordinator = opener(RUNS)
    ada = coordinator.agent("ada")
    ada.open_task("hers", {"total_limit": "10"})
    coordinator.open_task("given", "ada", {"total_limit": "10"})
    apply(coordinator, {"tasks": {"big": {"total_limit": "100"}}})
    assert codes(ada.hold("1.00", task="hers")) == ["no_limit_configured"]
    assert codes(ask(ada, "1.00", task="hers")) == ["no_limit_configured"]
    assert ada.hold("1.00", task="given").ok


def test_who_opened_it_is_known_after_the_database_was_lost(
    opener: Opener, store: Store, clock: Clock
) -> None:
    old = opener({"tasks": {"default": {"total_limit": "50"}}})
    old.agent("ada").open_task("hers", {"total_limit": "50"})
    old.open_task("given", "ada", {"total_limit": "50"}, by="ada")
    new = opener({"tasks": {"default": {"total_limit": "10"}}}, database=store.url("fresh"))
    export = new.wiring.audit.read_export(list(old.wiring.audit.export()))
    at = Rebirth(start_block=0, final_number=0, nonces={}, now=clock())
    new.wiring.imports.carry_out(export, at)
    assert limits_of(new.task("hers")) == {"total": "10.00"}
    assert limits_of(new.task("given")) == {"total": "50.00"}


def test_an_operator_opens_above_the_default(opener: Opener) -> None:
    coordinator = opener(RUNS)
    session = coordinator.open_session("s-1", "ada", {"total_limit": "500"})
    assert limits_of(session) == {"total": "500.00"}
    assert coordinator.agent("ada").hold("50.00", session="s-1").ok
    task = coordinator.open_task("t-1", None, {"categories": {"data": {"total_limit": "9"}}})
    assert coordinator.agent("bert").hold("9.00", task=task.id, category="data").ok


def test_only_its_agent_spends_in_it(opener: Opener) -> None:
    coordinator = opener(RUNS)
    coordinator.open_session("s-1", "ada")
    coordinator.open_task("t-1", "ada")
    ada, bert = coordinator.agent("ada"), coordinator.agent("bert")
    assert codes(bert.hold("1.00", session="s-1")) == ["session_not_allowed"]
    assert codes(ask(bert, "1.00", task="t-1")) == ["task_not_allowed"]
    assert ada.hold("1.00", session="s-1", task="t-1").ok


def test_an_agent_takes_no_name_over_that_others_have_spent_in(opener: Opener) -> None:
    coordinator = opener(RUNS)
    ada, bert = coordinator.agent("ada"), coordinator.agent("bert")
    assert bert.hold("1.00", session="s-1").ok
    assert not ask(bert, "1.00", task="t-1").denied
    for take in (
        lambda: ada.open_session("s-1"),
        lambda: ada.open_task("t-1"),
        lambda: coordinator.open_task("t-1", "ada"),
    ):
        with pytest.raises(InvalidRequest, match="other agents have spent"):
            take()
    bert.open_session("s-1")
    coordinator.open_task("t-1")


def test_it_is_opened_once(opener: Opener) -> None:
    coordinator = opener(RUNS)
    session = coordinator.open_session("s-1")
    with pytest.raises(InvalidRequest, match="opened before"):
        coordinator.open_session("s-1")
    session.close()
    with pytest.raises(InvalidRequest, match="opened before"):
        coordinator.agent("ada").open_session("s-1")
    assert coordinator.open_task("s-1").kind == "task"


def test_without_a_default_only_what_is_named_or_opened_by_an_operator_may_be_spent_on(
    opener: Opener,
) -> None:
    coordinator = opener({"tasks": {"known": {"total_limit": "10"}}, "sessions": {}})
    ada = coordinator.agent("ada")
    assert codes(ada.hold("1.00", task="t-1")) == ["no_limit_configured"]
    assert codes(ask(ada, "1.00", session="s-1")) == ["no_limit_configured"]
    assert ada.hold("1.00", task="known").ok
    with pytest.raises(InvalidRequest, match="only an operator may open"):
        ada.open_task("t-1", {"total_limit": "1"})
    coordinator.open_task("t-1", "ada", {"total_limit": "1"})
    coordinator.open_session("s-1")
    assert ada.hold("1.00", task="t-1", session="s-1").ok
    assert codes(ada.hold("0.01", task="t-1")) == ["task_limit"]


def test_where_they_are_required_an_agent_cannot_escape_by_naming_none(opener: Opener) -> None:
    ada = opener(
        {
            "tasks": {"required": True, "default": {"total_limit": "10"}},
            "sessions": {"required": True, "default": {"total_limit": "10"}},
        }
    ).agent("ada")
    assert codes(ada.hold("1.00")) == ["task_required", "session_required"]
    assert codes(ask(ada, "1.00", task="t-1")) == ["session_required"]
    assert ada.hold("1.00", task="t-1", session="s-1").ok


def test_opening_after_spending_counts_what_was_spent(opener: Opener, database: str) -> None:
    coordinator = opener(RUNS)
    ada = coordinator.agent("ada")
    ask(ada, "3.00", session="s-1")
    ada.hold("2.00", session="s-1").post("1.00")
    ada.record("4.00", session="s-2")
    session = coordinator.open_session("s-1", "ada", {"daily_limit": "6", "total_limit": "100"})

    (daily,) = [s for s in session.limits() if s.limit.window.value == "daily"]
    assert (daily.usage.held, daily.usage.spent) == (Usdc("3.00"), Usdc("1.00"))
    assert codes(ada.hold("2.01", session="s-1")) == ["session_limit"]
    assert ada.hold("2.00", session="s-1").ok
    assert counter(database, "session", "s-2", "daily") == (0, 0)


def test_opening_a_task_after_spending_counts_its_categories_too(opener: Opener) -> None:
    coordinator = opener(RUNS)
    ada = coordinator.agent("ada")
    ada.record("3.00", task="t-1", category="data")
    coordinator.open_task("t-1", "ada", {"categories": {"data": {"daily_limit": "3.5"}}})
    assert codes(ada.hold("0.51", task="t-1", category="data")) == ["task_limit"]
    assert ada.hold("0.50", task="t-1", category="data").ok


def test_closing_gives_back_what_is_not_on_its_way(opener: Opener, database: str) -> None:
    coordinator = opener(RUNS | {"sessions": {"default": {"total_limit": "500"}}})
    feed, ada = ChainFeed(coordinator), coordinator.agent("ada")
    feed.open("1000")
    session = coordinator.open_session("s-1", "ada")
    funded = ask(ada, "10.00", session="s-1")
    feed.fund(funded)
    waiting, approved = ask(ada, "60.00", session="s-1"), ask(ada, "5.00", session="s-1")
    held, posted = ada.hold("2.00", session="s-1"), ada.hold("1.00", session="s-1")
    posted.post()
    elsewhere = ada.hold("3.00", session="s-2")

    run = session.close()

    assert run.opening.closed
    assert coordinator.get(funded.id).status is Status.FUNDED
    for purchase in (waiting, approved):
        ended = coordinator.get(purchase.id)
        assert (ended.status, codes(ended)) == (Status.CANCELLED, ["session_closed"])
    book = coordinator.wiring.costs
    assert book.get(held.id).status is CostStatus.VOIDED
    assert book.get(posted.id).status is CostStatus.POSTED
    assert book.get(elsewhere.id).status is CostStatus.HELD
    assert counter(database, "session", "s-1", "total") == (10 * USDC, 1 * USDC)
    assert coordinator.approvals() == []


def test_nothing_is_admitted_in_what_is_closed_and_closing_again_changes_nothing(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(RUNS)
    ada = coordinator.agent("ada")
    with ada.open_task("t-1") as task:
        assert ada.hold("1.00", task="t-1").post("0.50").ok
    assert codes(ada.hold("1.00", task="t-1")) == ["task_closed"]
    assert codes(ask(ada, "1.00", task="t-1")) == ["task_closed"]
    assert ada.record("0.25", task="t-1").ok
    before = contents(database)
    clock.now += 10
    assert task.close().closed_at == clock.now - 10
    assert contents(database) == before
    with pytest.raises(UnknownId):
        coordinator.task("t-2").close()


def test_a_report_sums_by_category_and_task_and_lists_everything(opener: Opener) -> None:
    coordinator = opener(RUNS)
    ada = coordinator.agent("ada")
    session = coordinator.open_session("s-1", "ada", {"total_limit": "100"})
    ask(ada, "3.00", session="s-1", task="t-1", category="data")
    ask(ada, "60.00", session="s-1")
    ask(ada, "200.00", session="s-1")
    ada.hold("2.00", session="s-1", task="t-1").post("1.50")
    ada.hold("0.25", session="s-1", category="data")
    ada.hold("0.75", session="s-1").void()
    coordinator.agent("bert").record("9.00")

    report = session.report()

    assert (report["session"], report["status"], report["agent"]) == ("s-1", "open", "ada")
    assert (report["spent"], report["held"], report["off_chain"]) == ("0.00", "63.00", "1.75")
    assert report["by_category"] == {
        "data": {"spent": "0.00", "held": "3.00", "off_chain": "0.25"},
        "other": {"spent": "0.00", "held": "60.00", "off_chain": "1.50"},
    }
    assert report["by_task"]["t-1"] == {"spent": "0.00", "held": "3.00", "off_chain": "1.50"}
    assert [p["status"] for p in report["purchases"]] == [
        "denied",
        "awaiting_approval",
        "approved",
    ]
    assert [c["status"] for c in report["costs"]] == ["voided", "held", "posted"]
    (limit,) = report["limits"]
    assert (limit["limit"], limit["remaining"]) == ("100.00", "35.25")


def test_they_are_listed_with_who_may_use_them(opener: Opener) -> None:
    coordinator = opener(RUNS)
    coordinator.open_session("s-1", "ada", {"total_limit": "5"})
    coordinator.open_session("s-2").close()
    (first,) = coordinator.sessions(open_only=True)
    assert first | {"session": "s-1", "agent": "ada", "opened_by": "operator"} == first
    assert first["limits"] == {"total_limit": "5.00"}
    assert [s["status"] for s in coordinator.sessions()] == ["open", "closed"]
    assert coordinator.tasks() == []


@pytest.mark.parametrize(
    "limits",
    [
        {"total": "5"},
        {"total_limit": "0"},
        {"total_limit": 5},
        {"yearly_limit": "5"},
        {"categories": "data"},
        {"categories": {"data": "5"}},
    ],
)
def test_malformed_limits_write_nothing(
    coordinator: Coordinator, database: str, limits: dict[str, Any]
) -> None:
    before = contents(database)
    with pytest.raises(InvalidRequest):
        coordinator.open_task("t-1", "ada", limits)
    with pytest.raises(InvalidRequest):
        coordinator.open_session("s-1", "ada", {"categories": {"data": {"total_limit": "1"}}})
    assert contents(database) == before


def test_what_was_opened_and_closed_is_in_the_audit_log(opener: Opener, database: str) -> None:
    coordinator = opener(RUNS)
    coordinator.open_session("s-1", "ada", {"total_limit": "5"}, by="olga").close()
    query = "SELECT event, subject FROM audit WHERE event LIKE 'session_%' ORDER BY seq"
    assert rows(database, query) == [("session_opened", "s-1"), ("session_closed", "s-1")]
