"""Service levels by the smallest share that is left, and what a review finds."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.domain.limits.limits import Limit, LimitState, Scope, Usage
from coordinator.domain.limits.service import remaining_percent, review, service_level
from coordinator.domain.policy.tables import ServiceLevels
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

LEVELS: dict[str, Any] = {
    "full": {"from": 50, "features": ["high_quality", "images"]},
    "standard": {"from": 20, "features": ["images"]},
    "minimal": {"from": 5},
    "emergency": {"from": 0},
}


def state(
    remaining: str, *, limit: str = "100", scope: str = "agent:ada", window: str = "daily"
) -> LimitState:
    amount = Usdc(limit)
    used = Usage.of(ZERO, amount - Usdc(remaining))
    return LimitState(Limit(Scope.of(scope), Window(window), amount), used, None, False)


def level(*states: LimitState, **changes: Any) -> tuple[str, tuple[str, ...]]:
    found = service_level(ServiceLevels.model_validate(LEVELS | changes), states)
    return found.name, found.features


@pytest.mark.parametrize(
    ("remaining", "name"),
    [
        ("100", "full"),
        ("50", "full"),
        ("49.999999", "standard"),
        ("20", "standard"),
        ("19.999999", "minimal"),
        ("5", "minimal"),
        ("4.999999", "emergency"),
        ("0", "emergency"),
    ],
)
def test_a_level_holds_from_its_share_on(remaining: str, name: str) -> None:
    assert level(state(remaining))[0] == name


def test_the_smallest_share_decides_and_is_named() -> None:
    states = [state("90"), state("21", scope="pool:crew", window="total"), state("60")]
    assert level(*states) == ("standard", ("images",))
    found = service_level(ServiceLevels.model_validate(LEVELS), states)
    assert (found.remaining_percent, found.scope) == (21, "pool:crew")


def test_only_the_named_windows_count_and_not_what_passes_without_people() -> None:
    low = state("1", window="hourly")
    assert level(state("90"), low)[0] == "full"
    assert level(state("90"), low, of=["hourly"])[0] == "emergency"
    assert level(state("90"), state("0", scope="auto_approved:ada"))[0] == "full"


def test_without_a_table_or_a_limit_that_counts_it_is_full() -> None:
    assert service_level(None, [state("0")]).name == "full"
    assert level() == ("full", ("high_quality", "images"))


def test_what_was_exceeded_leaves_nothing_and_a_limit_of_nothing_too() -> None:
    over = LimitState(
        Limit(Scope.of("agent:ada"), Window.DAILY, Usdc("10")),
        Usage.of(ZERO, Usdc("11")),
        None,
        True,
    )
    assert remaining_percent(over) == 0
    assert remaining_percent(state("0", limit="0")) == 0


def found(*states: LimitState, below: int = 20) -> list[tuple[str, str]]:
    return [(one.kind, one.scope) for one in review(states, pool_remaining_below=below)]


def test_a_review_finds_the_under_used_the_nearly_depleted_and_low_pools() -> None:
    assert found(state("80"), state("10")) == [
        ("under_used", "agent:ada"),
        ("nearly_depleted", "agent:ada"),
    ]
    assert found(state("79.999999"), state("11")) == []
    assert found(state("20", scope="pool:crew"), state("90", scope="pool:crew")) == []
    assert found(state("19.999999", scope="pool:crew")) == [("pool_low", "pool:crew")]
    assert found(state("10", scope="pool:crew"), below=5) == [("nearly_depleted", "pool:crew")]
    assert found(state("100", window="per_purchase"), state("0", scope="organisation")) == []


def test_a_finding_says_in_a_sentence_what_it_found() -> None:
    (one,) = review([state("7.9")], pool_remaining_below=20)
    assert one.message == "agent:ada has nearly used up its daily limit: 7 % remains"
    assert one.as_dict() == {
        "kind": "nearly_depleted",
        "scope": "agent:ada",
        "window": "daily",
        "remaining_percent": 7,
        "message": one.message,
    }
