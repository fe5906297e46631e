"""The past decided anew: what another policy would have denied, allowed or asked."""

from __future__ import annotations

from itertools import count
from typing import Any

from coordinator.domain.limits.limits import Usage
from coordinator.domain.limits.rules import Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.replay import Charged, Judged, Moved, Replay, replay
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import ZERO, Usdc

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
HOUR, DAY = 3600, 86_400
DENIED, APPROVED, WAITS = Status.DENIED, Status.APPROVED, Status.AWAITING_APPROVAL


def rules(**agent: str) -> Rules:
    spender = {"per_purchase_limit": "unlimited", "daily_limit": "10", **agent}
    return Rules(
        Policy.from_dict(
            {
                "organisation": {"total_limit": "1000"},
                "agents": {"ada": {"approval_threshold": "unlimited", **spender}},
                "providers": {"p": {"address": ADDRESS}},
                "categories": {"default": "other", "other": {}},
                "approvals": {"approvers": ["alice"]},
            }
        )
    )


NUMBERS = count()


def asked(at: int, amount: str, outcome: Status, *codes: ReasonCode, **terms: Any) -> Judged:
    given = {"agent": "ada", "provider": ADDRESS, "purpose": "a paper", "category": "other"}
    nothing = {"service": None, "task": None, "session": None}
    request = Request(amount=Usdc(amount), **{**given, **nothing, **terms})
    return Judged(at, f"pur_{next(NUMBERS)}", request, outcome, frozenset(codes))


def run(by: Rules, *past: Charged | Judged | Moved) -> Replay:
    return replay(by, past, since=0, until=10 * DAY, minimum=ZERO)


def changes(found: Replay) -> list[tuple[str, Status]]:
    return [(str(one.request.amount), one.after) for one in found.differences]


def test_a_lower_limit_denies_what_does_not_fit_in_its_order() -> None:
    past = [asked(HOUR * n, "4", APPROVED) for n in range(4)]
    found = run(rules(), *past)
    assert [one.id for one in found.differences] == [past[2].id, past[3].id]
    assert found.counts == {"newly_denied": 2, "newly_allowed": 0, "newly_asked": 0, "same": 2}
    assert found.differences[0].reason is not None
    assert found.differences[0].reason.code is ReasonCode.DAILY_LIMIT


def test_what_is_newly_allowed_counts_from_then_on() -> None:
    past = [asked(0, "8", DENIED), asked(1, "4", APPROVED), asked(DAY, "4", APPROVED)]
    assert changes(run(rules(), *past)) == [("8.00", APPROVED), ("4.00", DENIED)]


def test_what_is_newly_asked_is_held() -> None:
    found = run(rules(approval_threshold="3"), asked(0, "8", APPROVED), asked(1, "3", APPROVED))
    assert changes(found) == [("8.00", WAITS), ("3.00", DENIED)]
    assert found.counts["newly_asked"] == 1


def test_what_ended_without_being_paid_is_given_back() -> None:
    first, second = asked(0, "8", APPROVED), asked(2, "8", APPROVED)
    for status in (Status.CANCELLED, Status.FAILED):
        assert not run(rules(), first, Moved(1, first.id, status), second).differences
    assert changes(run(rules(), first, second)) == [("8.00", DENIED)]


def test_a_rejection_counts_only_where_people_are_asked_again() -> None:
    first, second = asked(0, "8", WAITS), asked(2, "8", WAITS)
    past = (first, Moved(1, first.id, Status.REJECTED), second)
    assert not run(rules(approval_threshold="3"), *past).differences
    assert changes(run(rules(), *past)) == [("8.00", APPROVED), ("8.00", DENIED)]


def test_an_approval_moves_the_hold_to_its_own_day_and_is_judged_there() -> None:
    first, second, third = asked(0, "8", WAITS), asked(1, "8", WAITS), asked(DAY + 2, "8", WAITS)
    by = rules(approval_threshold="3", daily_limit="16")
    approved = [Moved(DAY, first.id, APPROVED), Moved(DAY + 1, second.id, APPROVED)]
    found = run(by, first, second, *approved, third)
    assert [(one.id, one.after) for one in found.differences] == [(third.id, DENIED)]
    fewer = rules(approval_threshold="3", daily_limit="16", hourly_limit="8")
    refused = run(fewer, first, asked(HOUR, "8", WAITS), Moved(HOUR + 1, first.id, APPROVED))
    assert [(one.id, one.after) for one in refused.differences] == [(first.id, DENIED)]


def test_what_was_spent_earlier_counts_in_the_windows_of_its_time() -> None:
    earlier = Charged(0, Terms("ada", "other", "p"), Usage.of(held=Usdc("3"), spent=Usdc("5")))
    past = [asked(1, "3", APPROVED), asked(2, "2", APPROVED), asked(DAY, "10", APPROVED)]
    assert changes(run(rules(), earlier, *past)) == [("3.00", DENIED)]
    total = rules(total_limit="18", daily_limit="unlimited")
    assert changes(run(total, earlier, *past)) == [("10.00", DENIED)]


def test_what_the_policy_alone_did_not_deny_is_left_out() -> None:
    past = [
        asked(0, "1", DENIED, ReasonCode.AGENT_DISABLED),
        asked(0, "1", DENIED, ReasonCode.SESSION_CLOSED),
        asked(0, "1", DENIED, ReasonCode.AGENT_PAUSED, ReasonCode.DAILY_LIMIT),
        asked(1, "1", DENIED, ReasonCode.INSUFFICIENT_USDC),
        asked(2, "1", DENIED, ReasonCode.DAILY_LIMIT),
    ]
    found = run(rules(), *past)
    assert (found.left_out, found.judged) == (4, 1)
    assert changes(found) == [("1.00", APPROVED)]


def test_a_provider_is_known_by_the_address_that_would_have_been_paid() -> None:
    other = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    found = run(rules(), asked(0, "1", APPROVED, provider=other))
    assert changes(found) == [("1.00", DENIED)]
