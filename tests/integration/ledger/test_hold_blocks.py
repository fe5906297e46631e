"""A hold as a context manager: whatever leaves the block, its amount is posted or given back."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Denied
from coordinator.domain.purchase.cost import CostStatus
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import USDC, counter, counters
from tests.integration.stores import on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
OVERHEAD: dict[str, Any] = {"agents": {"ada": {"daily_limit": "10"}}}


def used(database: str) -> tuple[int, int]:
    """(held, spent) of the agent."""
    return counter(database, "agent", "ada", "total")


def test_a_block_posts_what_it_says(opener: Opener, database: str) -> None:
    with opener(OVERHEAD).agent("ada").hold("4.00") as hold:
        hold.post("1.50")
    assert used(database) == (0, 1_500_000)


def test_a_block_that_fails_voids(opener: Opener, database: str) -> None:
    with pytest.raises(RuntimeError, match="the model"), opener().agent("ada").hold("4.00") as hold:
        raise RuntimeError("the model did not answer")
    assert hold.cost.status is CostStatus.VOIDED
    assert counters(database) == {}


def test_a_block_that_fails_after_it_posted_stays_posted(opener: Opener, database: str) -> None:
    with pytest.raises(RuntimeError), opener(OVERHEAD).agent("ada").hold("4.00") as hold:
        hold.post("3.00")
        raise RuntimeError("afterwards")
    assert used(database) == (0, 3 * USDC)


def test_a_block_that_says_nothing_posts_all(opener: Opener, database: str) -> None:
    with opener(OVERHEAD).agent("ada").hold("4.00"):
        pass
    assert used(database) == (0, 4 * USDC)


def test_entering_a_refused_hold_raises_before_anything_is_spent(opener: Opener) -> None:
    entered = False
    with pytest.raises(Denied) as refusal, opener(OVERHEAD).agent("ada").hold("11.00"):
        entered = True
    assert (entered, refusal.value.code, refusal.value.money_moved) == (False, "daily_limit", False)
