"""Of two endpoints the one that lies all the time does not win: nothing is signed until they agree.

Both are the same Anvil under two names; what the first tells is changed on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ChainUnavailable
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call, Tell
from tests.integration.world import World

HEADER = "eth_getBlockByNumber"
Change = Callable[[int], int]


def field(name: str, change: Change) -> Callable[[str, Sequence[Any], Any], Any]:
    """Another number in that field of every block."""

    def lie(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method != HEADER or not isinstance(answer, dict):
            return answer
        return {**answer, name: hex(change(int(answer[name], 16)))}

    return lie


def called(selector: str, change: Change) -> Callable[[str, Sequence[Any], Any], Any]:
    """Another word from every call of that function."""

    def lie(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method != "eth_call" or not params[0]["data"].startswith(selector):
            return answer
        return f"0x{change(int(answer, 16)):064x}"

    return lie


def balance(method: str, _: Sequence[Any], answer: Any) -> Any:
    return "0x1" if method == "eth_getBalance" else answer


NOBODY = "0x" + "00" * 20
CREATES = kernel_abi().call("requesterNonces", NOBODY)[:10]
HOLDS = token_abi().call("balanceOf", NOBODY)[:10]
ALLOWS = token_abi().call("allowance", NOBODY, NOBODY)[:10]
LIES = {
    "later": field("timestamp", lambda at: at + 10**6),
    "earlier": field("timestamp", lambda at: at - 3_600),
    "base fee, dear": field("baseFeePerGas", lambda fee: fee * 10**6),
    "base fee, cheap": field("baseFeePerGas", lambda _: 1),
    "creates, one more": called(CREATES, lambda count: count + 1),
    "creates, none": called(CREATES, lambda _: 2**32),
    "USDC, none": called(HOLDS, lambda _: 0),
    "USDC, more": called(HOLDS, lambda units: units + 10**9),
    "allowance": called(ALLOWS, lambda _: 10**17),
    "gas": balance,
}


@pytest.fixture
def world(make_world: Callable[..., World], chain: Any) -> World:
    there = chain.url.replace("127.0.0.1", "localhost")
    world = make_world(rpc_url=f"{chain.url},{there}")
    world.fund("1.00")
    return world


def by_first(lie: Callable[[str, Sequence[Any], Any], Any], *, second_lacks: int = 0) -> Tell:
    """The first endpoint lies; the second does not have the newest blocks yet."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        if "localhost" not in url:
            return [lie(m, p, a) for (m, p), a in zip(calls, answers, strict=True)]
        (head,) = ask(url, [("eth_blockNumber", [])])
        newest = int(head, 16) - second_lacks
        return [
            hex(newest)
            if call[0] == "eth_blockNumber"
            else None
            if _beyond(call, newest)
            else answer
            for call, answer in zip(calls, answers, strict=True)
        ]

    return tell


def block_ahead(
    lie: Callable[[str, Sequence[Any], Any], Any], on_look: Callable[[], object]
) -> Tell:
    """The first endpoint makes up the next block; the second goes on when it is asked."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        (head,) = ask(url, [("eth_blockNumber", [])])
        if "localhost" in url:
            answers = ask(url, calls)
            if ("eth_blockNumber", []) in calls:
                on_look()
            return answers
        ahead = hex(int(head, 16) + 1)
        asked = [(m, ["latest" if p == ahead else p for p in params]) for m, params in calls]
        answers = ask(url, asked)
        told = []
        for (method, params), (_, then), real in zip(calls, asked, answers, strict=True):
            if "latest" not in then:
                told.append(real)  # What is older it tells as it is.
                continue
            made_up = {"number": ahead, "hash": "0x" + "ab" * 32}
            answer = {**real, **made_up} if isinstance(real, dict) else real
            told.append(lie(method, params, answer))
        return told

    return tell


def _beyond(call: Call, newest: int) -> bool:
    method, params = call
    return method == HEADER and params[0].startswith("0x") and int(params[0], 16) > newest


def steps(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT id, kind FROM steps ORDER BY id")


@pytest.mark.each_choice
@pytest.mark.parametrize("second_lacks", [0, 1], ids=["level", "one behind"])
@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_what_only_one_of_two_endpoints_tells_signs_and_fails_nothing_and_is_told(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    lie: Callable[[str, Sequence[Any], Any], Any],
    second_lacks: int,
) -> None:
    purchase = world.buy("7.00")
    before = steps(world)
    world.chain.mine(12)
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, by_first(lie, second_lacks=second_lacks))
    with pytest.raises(ChainUnavailable, match="contradict"):
        world.round()
    assert steps(world) == before
    assert world.status(purchase) == "approved"
    cursor = world.wiring.books.cursor()
    assert cursor is not None and cursor.number == world.chain.height
    endpoint.heal()
    world.go()
    assert world.status(purchase) == "funded"
    world.check_books()


@pytest.mark.each_choice
@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_a_block_that_only_one_of_two_endpoints_has_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: Callable[[str, Sequence[Any], Any], Any]
) -> None:
    purchase = world.buy("7.00")
    before = steps(world)
    world.chain.mine(12)
    seen = world.wiring.chain.observe()
    monkeypatch.setattr(world.wiring.rpc, "_sleep", lambda _: None)
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, block_ahead(lie, world.chain.mine))
    made_up = world.wiring.chain.observe()
    assert made_up.head.number == seen.head.number + 1
    with pytest.raises(ChainUnavailable, match="contradict"):
        world.wiring.chain.confirm(made_up)
    with pytest.raises(ChainUnavailable):
        world.round()
    assert steps(world) == before
    endpoint.heal()
    world.go()
    assert world.status(purchase) == "funded"


def test_a_second_endpoint_that_is_a_block_behind_holds_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.buy("7.00")
    world.chain.mine(12)
    BadEndpoint(world.wiring.rpc, monkeypatch, by_first(lambda *a: a[2], second_lacks=1))
    world.go()
    assert world.status(purchase) == "funded"


def window(ends: Callable[[], int]) -> Callable[[str, Sequence[Any], Any], Any]:
    """The instant at which every window ended, in place of ``ends``."""
    get = kernel_abi().call("getTransaction", "0x" + "00" * 32)[:10]

    def lie(method: str, params: Sequence[Any], answer: Any) -> Any:
        if method != "eth_call" or not params[0]["data"].startswith(get):
            return answer
        return answer.replace(f"{ends():064x}", f"{1:064x}") if isinstance(answer, str) else answer

    return lie


def test_a_window_that_only_one_of_two_endpoints_tells_to_be_over_pays_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    lie = window(lambda: world.chain.window_ends(bought.escrow_id))
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, by_first(lie))
    for _ in range(4):
        world.round()
        world.chain.mine()
    assert world.chain.state(bought.escrow_id) is EscrowState.DELIVERED
    assert world.wiring.operations.pauses() == []
    endpoint.heal()
    world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    world.go()
    assert world.status(bought) == "settled"


def test_a_second_endpoint_that_stands_still_holds_no_settling_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = world.fund("25.00")
    still = hex(world.chain.height)
    world.chain.deliver(bought.escrow_id)
    world.chain.mine(12)

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        if "localhost" not in url:
            return ask(url, calls)
        then = [(m, [still if p == "latest" else p for p in params]) for m, params in calls]
        answers = ask(url, then)
        return [
            still if call[0] == "eth_blockNumber" else None if _beyond(call, int(still, 16)) else a
            for call, a in zip(then, answers, strict=True)
        ]

    BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    world.round()
    world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    world.go()
    assert world.status(bought) == "settled"
