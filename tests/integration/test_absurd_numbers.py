"""A number that one answer of a node tells costs nothing until it is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator.domain.errors import ChainUnavailable
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call, Tell
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either
COUNT = "eth_getTransactionCount"


def counts(more: Callable[[int], int], *, times: int | None) -> Tell:
    """An endpoint whose first ``times`` counts of transactions are changed; None: all are."""
    told = 0

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        nonlocal told
        answers = ask(url, calls)
        for place, (method, _) in enumerate(calls):
            if method == COUNT and (times is None or told < times):
                told += 1
                answers[place] = hex(more(int(answers[place], 16)))
        return answers

    return tell


def steps(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT nonce, kind, status FROM steps ORDER BY nonce")


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
@pytest.mark.parametrize(
    "more",
    [lambda n: n + 1, lambda n: n + 500, lambda n: 2**63, lambda n: 2**256 - 1],
    ids=["one", "500", "2**63", "2**256"],
)
def test_a_count_of_transactions_that_is_too_high_writes_and_signs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, more: Callable[[int], int], times: int | None
) -> None:
    world.fund("5.00")
    before = steps(world)
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, counts(more, times=times))
    with pytest.raises(ChainUnavailable):
        world.round()
    endpoint.heal()
    world.round()
    assert steps(world) == before
    assert world.wiring.operations.pauses() == []
    assert world.chain.pool(world.treasury) == []
    world.fund("5.00")
    world.check_books()


def test_a_count_of_transactions_that_is_too_low_fills_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.chain.rpc.call("anvil_setNonce", world.treasury, hex(40))
    world.fund("5.00")
    world.buy_and_send("5.00")
    before = steps(world)
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, counts(lambda n: 0, times=1))
    world.round()
    endpoint.heal()
    world.go()
    assert [nonce for nonce, _, _ in steps(world)] == [nonce for nonce, _, _ in before]
    world.check_books()


def test_the_lane_does_not_open_at_a_count_that_only_one_answer_tells(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, counts(lambda n: n + 500, times=1))
    with pytest.raises(ChainUnavailable):
        world.round()
    endpoint.heal()
    world.fund("5.00")
    assert min(nonce for nonce, _, _ in steps(world)) == 0
