"""What an endpoint did not have once is tried again."""

from __future__ import annotations

from typing import Any

from coordinator.chain.evm.aggregator import Aggregator
from coordinator.chain.evm.lapse import Lapse

_ME = "0x" + "11" * 20


def test_it_is_tried_again_after_a_while() -> None:
    lapse = Lapse()
    assert not lapse.lasts and not lapse.pass_by()
    lapse.begin()
    assert [lapse.pass_by() for _ in range(101)] == [True] * 100 + [False]
    lapse.begin()
    assert lapse.lasts


def test_one_empty_answer_does_not_switch_the_aggregator_off_for_good() -> None:
    aggregator = Aggregator(_ME)
    calls = [("0x" + "22" * 20, "0x")] * 2

    def asked() -> list[tuple[str, list[Any]]]:
        return aggregator.requests(calls, "0x1")

    assert len(asked()) == 1
    assert aggregator.is_missing(["0x"]) and len(asked()) == 3
    for _ in range(100):
        assert len(asked()) == 3
        aggregator.try_again()
    assert len(asked()) == 1
