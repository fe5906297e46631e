"""What is told, and once: thresholds, denials, and URLs of which no token is ever shown."""

from __future__ import annotations

import json

import pytest

from coordinator.alerts.delivery import RETRY_SECONDS, RETRY_SECONDS_MAX, next_try
from coordinator.domain.approval_notices import (
    approval_waits,
)
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.limits.limits import Limit, LimitState, Scope, ScopeKind, Usage
from coordinator.domain.notices import (
    Severity,
    crossings,
    denied,
    foreign_transaction,
    paused,
    stranded,
    unpaused,
)
from coordinator.domain.policy.notify_urls import shown, whole_urls
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.tx.notices import TRIES_MAX

MARKS = (80, 90, 100)
ADA = Scope(ScopeKind.AGENT, "ada")
TOKEN = "T0KENxyz"


def state(spent: str, *, limit: str = "100", window: Window = Window.DAILY) -> LimitState:
    ends = None if window is Window.PER_PURCHASE else 1000
    return LimitState(Limit(ADA, window, Usdc(limit)), Usage.of(ZERO, Usdc(spent)), ends, False)


def told(spent: str, amount: str, limit: str = "100") -> list[str]:
    found = crossings([state(spent, limit=limit)], Usdc(amount), MARKS, 5)
    return [notice.key.rpartition(":")[2] for notice in found]


@pytest.mark.parametrize(
    ("spent", "amount", "marks"),
    [
        ("0", "79.999999", []),
        ("0", "80", ["80"]),
        ("80", "1", []),
        ("79.999999", "0.000001", ["80"]),
        ("0", "100", ["80", "90", "100"]),
        ("85", "5", ["90"]),
    ],
)
def test_a_threshold_is_told_by_the_amount_that_reaches_it(
    spent: str, amount: str, marks: list[str]
) -> None:
    assert told(spent, amount) == marks


def test_only_a_used_up_limit_is_critical() -> None:
    found = list(crossings([state("0")], Usdc("100"), MARKS, 5))
    assert [n.severity for n in found] == [Severity.WARNING, Severity.WARNING, Severity.CRITICAL]


def test_a_changed_limit_is_told_anew_and_the_same_one_is_not() -> None:
    (first,) = crossings([state("0")], Usdc("80"), MARKS, 5)
    (again,) = crossings([state("10")], Usdc("75"), MARKS, 9)
    (raised,) = crossings([state("80", limit="200")], Usdc("80"), MARKS, 9)
    assert first.key == again.key != raised.key


def test_a_limit_of_one_purchase_has_no_thresholds() -> None:
    assert not list(crossings([state("0", window=Window.PER_PURCHASE)], Usdc("100"), MARKS, 5))


def test_denials_are_told_once_an_hour_for_each_agent_and_code() -> None:
    def key(agent: str, code: ReasonCode, now: int) -> str:
        return denied(agent, "paper-api", Usdc("1"), Reason(code, "no"), now).key

    paused, unknown = ReasonCode.PAUSED, ReasonCode.AGENT_NOT_REGISTERED
    assert key("ada", paused, 0) == key("ada", paused, 3599) != key("ada", paused, 3600)
    assert len({key("ada", paused, 0), key("bert", paused, 0), key("ada", unknown, 0)}) == 3
    assert key("mallory-1", unknown, 0) == key("mallory-2", unknown, 0)


NO = Reason(ReasonCode.PAUSED, "no")
CARRIED = {
    "limit_threshold": (
        *crossings([state("0")], Usdc("80"), MARKS, 5),
        {"scope": "agent:ada", "window": "daily", "limit": "100.00", "used": "80.00"},
    ),
    "purchase_denied": (
        denied("ada", "paper-api", Usdc("3"), NO, 5),
        {"agent": "ada", "provider": "paper-api", "amount": "3.00", "reason_code": "paused"},
    ),
    "approval_waits": (
        approval_waits("apr_1", "ada", "paper-api", Usdc("75"), 2, 5),
        {"approval_id": "apr_1", "agent": "ada", "amount": "75.00", "required": "2"},
    ),
    "paused": (paused("agent:ada", "olga", "stop", 5, by_itself=False), {"scope": "agent:ada"}),
    "unpaused": (unpaused("agent:ada", "alice", "fine", 5), {"by": "alice", "reason": "fine"}),
    "purchase_stranded": (stranded("pur_1", "nobody can", 5), {"purchase_id": "pur_1"}),
    "foreign_transaction": (foreign_transaction(7, 5), {"nonce": "7"}),
}


@pytest.mark.parametrize("kind", CARRIED)
def test_a_notice_carries_its_ids_and_amounts_as_fields(kind: str) -> None:
    notice, fields = CARRIED[kind]
    assert notice.kind == kind
    assert fields.items() <= notice.fields.items()
    assert all(isinstance(value, str) for value in notice.fields.values())


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        (f"slack://{TOKEN}/B/C/#room", "slack://…"),
        (f"tgram://123:{TOKEN}/4", "tgram://…"),
        (f"discord://{TOKEN}/{TOKEN}", "discord://…"),
        (f"json://user:{TOKEN}@127.0.0.1:8080/{TOKEN}?k={TOKEN}", "json://127.0.0.1"),
        (f"JSON://127.0.0.1/{TOKEN}", "json://127.0.0.1"),
        (f"json://{TOKEN}/with:slash@example.org/x", "json://…"),
        (f"mailtos://ops:{TOKEN}@example.org", "mailtos://example.org"),
        (f"https://hooks.slack.com/services/{TOKEN}", "https://hooks.slack.com"),
        ("env:OPS_SLACK", "env:OPS_SLACK"),
        (TOKEN, "…"),
    ],
)
def test_of_a_url_only_scheme_and_host_are_shown(url: str, seen: str) -> None:
    assert shown(url) == shown(seen) == seen


def a_policy(*notify: str) -> Policy:
    alerts = {"notify": list(notify)}
    return Policy.from_dict({"organisation": {"total_limit": "1"}, "alerts": alerts})


def test_a_policy_shows_stores_and_hashes_no_token() -> None:
    policy = a_policy(f"slack://{TOKEN}/b/c", f"json://127.0.0.1:1/{TOKEN}")
    assert policy.alerts.notify[0] == f"slack://{TOKEN}/b/c"
    assert policy.document()["alerts"]["notify"] == ["slack://…", "json://127.0.0.1"]
    assert TOKEN not in json.dumps(policy.document()) + repr(policy) + str(policy)
    stored = Policy.from_dict(policy.document())
    assert stored.hash == policy.hash
    assert stored.document() == policy.document()


@pytest.mark.parametrize("wrong", [f"slack:{TOKEN}", TOKEN, f"env:{TOKEN} x", ""])
def test_what_is_no_url_is_refused_without_repeating_it(wrong: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        a_policy(wrong)
    assert "alerts.notify.0" in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_each_target_in_force_finds_its_own_url_or_none() -> None:
    in_force = ["slack://…", "env:OPS", "slack://…", "json://host", "env:GONE"]
    known = ["json://host:1/t", "slack://a/b", "slack://c/d", "xml://unused"]
    found = list(whole_urls(in_force, known, {"OPS": "tgram://x"}.get))
    assert [url for _, url in found] == [
        "slack://a/b",
        "tgram://x",
        "slack://c/d",
        "json://host:1/t",
        None,
    ]
    assert [name for name, _ in found] == in_force


def test_tries_are_twice_as_far_apart_each_time_and_at_most_an_hour() -> None:
    waits = [next_try(tries, 0) for tries in range(TRIES_MAX)]
    assert waits[:4] == [RETRY_SECONDS * n for n in (1, 2, 4, 8)]
    assert max(waits) == RETRY_SECONDS_MAX
    assert next_try(10**9, 0) == RETRY_SECONDS_MAX
