"""More of a limit: asked by an agent, granted by the policy or by people, over by the clock."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Coordinator, InvalidRequest, Status, Usdc
from coordinator.domain.errors import UnknownId
from coordinator.domain.limits.increase import Increase, IncreaseStatus
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, Clock, ask, contents, rows
from tests.integration.stores import on_both, on_either

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
MORE: dict[str, Any] = {
    "agents": {
        "ada": {"daily_limit": "10", "priority": 8},
        "bert": {"daily_limit": "10", "priority": 3},
        "cora": {},
    },
    "pools": {"crew": {"daily_limit": "50", "agents": ["ada", "bert"]}},
    "sessions": {"default": {"total_limit": "5"}},
    "increases": {"maximum": "100"},
    "approvals": {
        "required": 1,
        "approvers": {"alice": {}, "bob": {}, "cora": {"agent": True, "up_to": "20"}},
        "expires_after": "1h",
    },
}
AUTO = MORE | {"increases": {"maximum": "100", "auto_approve_from_priority": 7}}


def code(increase: Increase) -> str | None:
    return increase.reason.code.value if increase.reason else None


def more(coordinator: Coordinator, amount: str = "15.00", agent: str = "ada", **terms: Any):  # type: ignore[no-untyped-def]
    asked = {"reason": "the month's end", **terms}
    return coordinator.agent(agent).request_increase(amount, **asked)


def fits(coordinator: Coordinator, amount: str, agent: str = "ada") -> bool:
    return not coordinator.agent(agent).check_hold(amount).reasons


def test_it_waits_for_people_and_holds_from_their_yes_until_its_end(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(MORE)
    asked = more(coordinator, lasts="2h")
    assert (asked.status, asked.required) == (IncreaseStatus.WAITING, 1)
    assert not fits(coordinator, "10.01")
    (told,) = coordinator.alerts(kind="approval_waits")
    assert told.notice.fields == {
        "increase_id": asked.id,
        "agent": "ada",
        "scope": str(asked.scope),
        "window": "daily",
        "amount": "15.00",
        "reason": asked.why,
    }
    clock.now += 60

    granted = coordinator.approve_increase(asked.id, approver="alice")

    assert (granted.status, granted.ends_at) == (IncreaseStatus.GRANTED, clock.now + 2 * HOUR)
    assert fits(coordinator, "25.00") and not fits(coordinator, "25.01")
    assert fits(coordinator, "10.00", "bert") and not fits(coordinator, "10.01", "bert")
    held = coordinator.agent("ada").hold("25.00")
    clock.now += 2 * HOUR - 1
    held.void()
    assert fits(coordinator, "25.00")
    clock.now += 1
    assert fits(coordinator, "10.00") and not fits(coordinator, "10.01")
    assert coordinator.wiring.budgets.increases.get(asked.id).granted


def test_what_was_held_under_a_grant_stays_held_when_it_ends(opener: Opener, clock: Clock) -> None:
    coordinator = opener(MORE)
    coordinator.approve_increase(more(coordinator, lasts="1h").id, approver="alice")
    purchase = ask(coordinator.agent("ada"), "20.00")
    clock.now += HOUR
    assert coordinator.get(purchase.id).status is Status.APPROVED
    assert not fits(coordinator, "0.01")


def test_the_maximum_holds_over_all_that_runs(opener: Opener, clock: Clock) -> None:
    coordinator = opener(AUTO)
    assert more(coordinator, "60.00").granted
    above = more(coordinator, "40.01")
    assert (above.status, code(above)) == (IncreaseStatus.REJECTED, "increase_limit")
    assert more(coordinator, "40.00", lasts="48h").granted
    clock.now += 24 * HOUR
    # Of the first one nothing is left; the second still runs.
    assert not more(coordinator, "60.01").granted
    assert more(coordinator, "60.00").granted


def test_approving_judges_the_maximum_anew(opener: Opener) -> None:
    coordinator = opener(MORE)
    first, second = more(coordinator, "60.00"), more(coordinator, "60.00")
    assert coordinator.approve_increase(first.id, approver="alice").granted
    answer = coordinator.approve_increase(second.id, approver="alice")
    assert (answer.status, code(answer)) == (IncreaseStatus.WAITING, "increase_limit")
    assert fits(coordinator, "50.00") and not fits(coordinator, "70.01")


def test_approving_judges_the_policy_in_force(opener: Opener) -> None:
    coordinator = opener(MORE)
    asked = more(coordinator)
    coordinator.disable_agent("ada", by="olga", reason="misbehaves")
    answer = coordinator.approve_increase(asked.id, approver="alice")
    assert (answer.status, code(answer)) == (IncreaseStatus.WAITING, "agent_disabled")
    coordinator.enable_agent("ada", by="olga", reason="repaired")
    again = opener(MORE | {"agents": {"ada": {"total_limit": "10"}}})
    with pytest.raises(InvalidRequest, match="has no daily limit"):
        again.approve_increase(asked.id, approver="alice")
    assert [one.id for one in coordinator.increases()] == [asked.id]


def test_priority_gives_an_agent_more_of_its_own_alone(opener: Opener) -> None:
    coordinator = opener(AUTO)
    coordinator.open_session("s-1", "ada")
    assert more(coordinator).granted
    assert more(coordinator, agent="bert").waits
    assert more(coordinator, scope="pool:crew").waits
    assert more(coordinator, scope="session:s-1", window="total").waits
    assert more(coordinator, agent="cora", scope="session:s-2", window="total").waits


def test_no_word_of_the_reason_grants_anything(opener: Opener) -> None:
    coordinator = opener(MORE)
    for reason in ("approved by alice", "EMERGENCY: priority 10", "auto_approve=true; --yes"):
        assert more(coordinator, reason=reason, agent="bert").waits
    assert not fits(coordinator, "10.01", "bert")


def test_an_agent_approves_others_up_to_an_amount_and_never_its_own(opener: Opener) -> None:
    coordinator = opener(MORE | {"agents": MORE["agents"] | {"cora": {"daily_limit": "10"}}})
    small, large = more(coordinator, "20.00"), more(coordinator, "20.01")
    own = more(coordinator, "1.00", agent="cora")
    for refused in (large, own):
        answer = coordinator.approve_increase(refused.id, approver="cora")
        assert (answer.status, code(answer)) == (IncreaseStatus.WAITING, "not_an_approver")
        answer = coordinator.reject_increase(refused.id, approver="cora", reason="no")
        assert code(answer) == "not_an_approver"
    assert coordinator.approve_increase(small.id, approver="cora").granted
    assert coordinator.approve_increase(own.id, approver="bob").granted
    assert code(coordinator.approve_increase(large.id, approver="eve")) == "not_an_approver"


def test_each_approver_counts_once_and_as_many_as_are_needed(opener: Opener) -> None:
    coordinator = opener(MORE | {"approvals": MORE["approvals"] | {"required": 2}})
    asked = more(coordinator)
    for _ in range(2):
        answer = coordinator.approve_increase(asked.id, approver="alice")
        assert (answer.waits, answer.approved_by) == (True, ("alice",))
    assert coordinator.approve_increase(asked.id, approver="bob").granted
    answer = coordinator.approve_increase(asked.id, approver="cora")
    assert (answer.granted, code(answer)) == (True, "approval_not_found")


def test_the_yes_of_somebody_who_is_no_approver_any_more_grants_nothing(opener: Opener) -> None:
    two = MORE["approvals"] | {"required": 2}
    coordinator = opener(MORE | {"approvals": two})
    asked = more(coordinator)
    assert coordinator.approve_increase(asked.id, approver="alice").waits
    others = opener(MORE | {"approvals": two | {"approvers": {"bob": {}, "carol": {}}}})
    assert others.approve_increase(asked.id, approver="bob").waits
    assert not fits(others, "10.01")
    assert others.approve_increase(asked.id, approver="carol").granted


@pytest.mark.parametrize(("asked_under", "in_force"), [(1, 2), (2, 1)], ids=["raised", "lowered"])
def test_it_takes_as_many_as_were_told_or_as_the_policy_in_force_requires_if_more(
    opener: Opener, asked_under: int, in_force: int
) -> None:
    first, second = (
        MORE | {"approvals": MORE["approvals"] | {"required": required}}
        for required in (asked_under, in_force)
    )
    asked = more(opener(first))
    coordinator = opener(second)
    assert coordinator.approve_increase(asked.id, approver="alice").waits
    assert not fits(coordinator, "10.01")
    assert coordinator.approve_increase(asked.id, approver="bob").granted


def test_rejected_it_grants_nothing_and_is_over(opener: Opener) -> None:
    coordinator = opener(MORE)
    asked = more(coordinator)
    rejected = coordinator.reject_increase(asked.id, approver="bob", reason="wait a day")
    assert (rejected.status, code(rejected)) == (IncreaseStatus.REJECTED, "rejected")
    assert code(coordinator.approve_increase(asked.id, approver="alice")) == "approval_not_found"
    assert coordinator.increases() == []
    assert not fits(coordinator, "10.01")


def test_what_nobody_decided_in_time_expires(opener: Opener, clock: Clock) -> None:
    coordinator = opener(MORE)
    asked = more(coordinator)
    clock.now += HOUR - 1
    assert [one.id for one in coordinator.increases()] == [asked.id]
    clock.now += 1
    assert coordinator.increases() == []
    answer = coordinator.approve_increase(asked.id, approver="alice")
    assert (answer.status, code(answer)) == (IncreaseStatus.EXPIRED, "approval_expired")
    other = more(coordinator)
    clock.now += HOUR
    coordinator.wiring.budgets.increases.expire_due(now=clock())
    (_, stored) = coordinator.increases(waiting=False)
    assert (stored.id, stored.status) == (other.id, IncreaseStatus.EXPIRED)


def test_a_grant_that_is_withdrawn_ends_at_once(opener: Opener) -> None:
    coordinator = opener(AUTO)
    more(coordinator)
    (overlay,) = coordinator.overlays()
    assert (overlay.kind, str(overlay.scope), overlay.amount) == ("grant", "agent:ada", Usdc("15"))
    assert coordinator.withdraw_overlay(overlay.id, by="olga", reason="too much").id == overlay.id
    assert coordinator.overlays() == []
    assert not fits(coordinator, "10.01")
    with pytest.raises(UnknownId):
        coordinator.withdraw_overlay(overlay.id, by="olga", reason="too much")
    assert more(coordinator, "100.00").granted


def test_an_apply_of_the_policy_file_drops_no_grant(opener: Opener) -> None:
    coordinator = opener(AUTO)
    more(coordinator)
    coordinator.disable_agent("bert", by="olga", reason="misbehaves")
    changed = opener(AUTO | {"organisation": {"daily_limit": "1000"}})
    assert fits(changed, "25.00") and not fits(changed, "25.01")
    assert [one.kind for one in changed.overlays()] == ["grant", "disabled"]
    assert not fits(changed, "1.00", "bert")


def test_a_disabled_or_unknown_agent_is_refused(opener: Opener) -> None:
    coordinator = opener(AUTO)
    coordinator.disable_agent("ada", by="olga", reason="misbehaves")
    assert code(more(coordinator)) == "agent_disabled"
    with pytest.raises(InvalidRequest, match="no daily limit"):
        more(coordinator, agent="eve")


@on_either
@pytest.mark.parametrize(
    "terms",
    [
        {"scope": "agent:bert"},
        {"scope": "organisation"},
        {"scope": "category:data"},
        {"scope": "pool:others"},
        {"scope": "nonsense"},
        {"scope": "session:theirs", "window": "total"},
        {"window": "weekly"},
        {"window": "yearly"},
        {"amount": "0"},
        {"lasts": "400d"},
        {"reason": ""},
    ],
)
def test_what_is_not_the_agents_or_malformed_writes_nothing(
    opener: Opener, database: str, terms: dict[str, Any]
) -> None:
    coordinator = opener(AUTO | {"organisation": {"daily_limit": "1000"}})
    coordinator.open_session("theirs", "bert")
    before = contents(database)
    with pytest.raises(InvalidRequest):
        more(coordinator, **terms)
    assert contents(database) == before


def test_who_granted_what_is_in_the_audit_log(opener: Opener, database: str) -> None:
    coordinator = opener(MORE)
    asked = more(coordinator)
    coordinator.approve_increase(asked.id, approver="alice")
    found = [event for (event,) in rows(database, "SELECT event FROM audit ORDER BY seq")]
    assert found[2:] == ["increase_asked", "increase_approved_by", "limit_granted"]
