"""A real node announces its blocks; looks are spared while it does, and made where it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from coordinator import doctor
from coordinator.chain.rpc.subscription import HeadSubscription
from coordinator.domain.address import keccak256
from coordinator.executor.tempo import Tempo
from tests.integration.bad_endpoint import Ask, Call
from tests.integration.gate import Gate
from tests.integration.local_chain import LocalChain
from tests.integration.public_beat import Calls, Ticks, make_public, watched
from tests.integration.stores import on_both
from tests.integration.world import World

LONG = 60.0
Tell = Callable[[ServerConnection], None]
HEAD = "eth_getBlockByNumber"


@pytest.fixture
def gate(chain: LocalChain) -> Iterator[Gate]:
    with Gate(chain.url).serving() as made:
        yield made


class Heard:
    """What a subscription tells, passed on to ``told`` and ``ended``."""

    def __init__(
        self,
        told: Callable[[int, str], None] = lambda number, block_hash: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._told, self._ended = told, ended
        self.numbers: list[int] = []
        self.came = threading.Semaphore(0)
        self.over = threading.Semaphore(0)

    def told(self, number: int, block_hash: str) -> None:
        self._told(number, block_hash)
        self.numbers.append(number)
        self.came.release()

    def ended(self) -> None:
        self._ended()
        self.over.release()


class Scene:
    """A busy executor on a public beat, whose ``ticks`` stand still, and its subscription."""

    def __init__(self, world: World, gate: Gate, ticks: Ticks, calls: Calls) -> None:
        self.world, self.gate, self.ticks, self.calls = world, gate, ticks, calls
        executor = world.executor
        hints = executor._hints
        assert isinstance(hints, HeadSubscription)
        self.heard = Heard(executor._hinted, executor._unhinted)
        hints.tell(self.heard.told, self.heard.ended)

    @property
    def tempo(self) -> Tempo:
        return self.world.executor._tempo

    def mine(self) -> None:
        """Mine a block and wait until it is announced."""
        number = self.world.chain.height + 1
        self.world.chain.mine()
        while not self.heard.numbers or self.heard.numbers[-1] < number:
            assert self.heard.came.acquire(timeout=LONG)

    def turn(self, seconds: float) -> list[str]:
        """Let time pass and the executor do what is due; the methods that it asked."""
        self.ticks.now += seconds
        self.calls.methods.clear()
        self.world.executor.turn()
        return list(self.calls.methods)

    def trust(self) -> None:
        """Mine until blocks are announced, and one that was announced was followed."""
        until = time.monotonic() + LONG
        while not self.heard.came.acquire(timeout=0.2):
            assert time.monotonic() < until
            self.world.chain.mine()
        self.mine()
        self.turn(2)
        assert self.followed == self.world.chain.height
        assert self.tempo._announced.is_trusted

    @property
    def followed(self) -> int:
        seen = self.world.executor._seen
        assert seen is not None
        return seen.head.number


@pytest.fixture
def scene(
    make_world: Callable[..., World], chain: LocalChain, gate: Gate, ticks: Ticks, calls: Calls
) -> Iterator[Scene]:
    world = make_world(rpc_url=f"ws://{gate.address},{chain.url}")
    make_public(world, ticks)
    calls.tell = lose_sent
    with watched(world, calls):
        found = Scene(world, gate, ticks, calls)
        world.buy()
        world.executor.wake()
        world.executor.turn()
        yield found


def lose_sent(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
    """Take what is sent and lose it, so that something is in flight all the time."""
    if calls[0][0] != "eth_sendRawTransaction":
        return ask(url, calls)
    return ["0x" + keccak256(bytes.fromhex(raw[2:])).hex() for _, (raw,) in calls]


def test_between_announced_heads_nothing_is_asked(scene: Scene) -> None:
    scene.trust()
    assert scene.turn(1.9) == []
    assert scene.turn(1.9) == []

    scene.mine()

    assert HEAD in scene.turn(0.1)
    assert scene.followed == scene.world.chain.height


def test_where_the_connection_is_cut_heads_are_asked_for_until_it_is_there_again(
    scene: Scene,
) -> None:
    scene.trust()
    scene.gate.cut()
    assert scene.heard.over.acquire(timeout=LONG)
    assert scene.turn(3) == [HEAD]

    scene.heard.came = threading.Semaphore(0)
    scene.trust()
    assert scene.turn(1.9) == []


def test_a_silent_connection_delays_one_head_and_then_heads_are_asked_for(scene: Scene) -> None:
    scene.trust()
    scene.gate.silent = True
    scene.world.chain.mine()
    assert scene.turn(3.9) == []

    # A round is due after four seconds, whatever was announced.
    assert HEAD in scene.turn(0.2)
    assert scene.followed == scene.world.chain.height
    assert scene.turn(3) == [HEAD]


@on_both
def test_a_purchase_is_funded_though_the_connection_is_cut_again_and_again(
    make_world: Callable[..., World], gate: Gate
) -> None:
    world = make_world(rpc_url=f"ws://{gate.address}")
    world.executor._tempo = Tempo(ticks=time.monotonic, local=False)
    world.chain.rpc.call("evm_setIntervalMining", 1)
    try:
        world.executor.start()
        asked = [world.buy("5.00") for _ in range(2)]
        until = time.monotonic() + LONG
        while any(world.get(one).status != "funded" for one in asked):
            assert time.monotonic() < until
            time.sleep(0.7)
            gate.cut()
    finally:
        world.chain.rpc.call("evm_setIntervalMining", 0)


def test_the_doctor_tells_which_endpoint_announces_blocks(chain: LocalChain, gate: Gate) -> None:
    refusing = "ws://127.0.0.1:1/key-of-the-second"
    env = {"COORDINATOR_RPC_URL": f"ws://{gate.address},{refusing},{chain.url}"}
    found = [one for one in doctor.run(env) if one.name == "new blocks"]
    assert [one.status for one in found] == ["ok", "warn"]
    assert "announces them" in found[0].found and "asked for instead" in found[1].found
    assert "key-of-the-second" not in found[1].found


def test_the_doctor_wants_an_address_for_calls_where_the_announcing_one_takes_none(
    announcing: Callable[[Tell], str],
) -> None:
    env = {"COORDINATOR_NETWORK": "base-sepolia", "COORDINATOR_RPC_URL": announcing(tell_one)}
    (found,) = (one for one in doctor.run(env) if one.name == "endpoint")
    assert found.status == "fail" and "name an http:// or https:// URL" in (found.action or "")


# Endpoints that refuse, leave silent, and lie


@pytest.fixture
def announcing() -> Iterator[Callable[[Tell], str]]:
    """Serves whoever subscribes in the way that a test says; the URL."""
    with ExitStack() as stack:

        def make(tell: Tell) -> str:
            server: Server = stack.enter_context(serve(tell, "127.0.0.1", 0))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

        yield make


@pytest.fixture
def following() -> Iterator[Callable[..., Heard]]:
    made: list[HeadSubscription] = []

    def follow(*urls: str, silent_seconds: float = LONG) -> Heard:
        heard = Heard()
        made.append(HeadSubscription(urls, silent_seconds=silent_seconds, again_seconds=0.01))
        made[-1].tell(heard.told, heard.ended)
        made[-1].want(True)
        return heard

    yield follow
    for one in made:
        one.stop()


def message(number: object, *, subscription: str = "0x1") -> str:
    found = {"number": number, "hash": "0x" + "ab" * 32}
    params = f'{{"subscription": "{subscription}", "result": {found}}}'.replace("'", '"')
    return f'{{"jsonrpc": "2.0", "method": "eth_subscription", "params": {params}}}'


def accept(connection: ServerConnection) -> None:
    connection.recv()
    connection.send('{"jsonrpc": "2.0", "id": 1, "result": "0x1"}')


def refuse(connection: ServerConnection) -> None:
    connection.recv()
    connection.send('{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}')


def say_nothing(connection: ServerConnection) -> None:
    accept(connection)
    connection.recv()


def tell_one(connection: ServerConnection) -> None:
    accept(connection)
    connection.send(message("0x7"))
    connection.recv()


def tell_rubbish(connection: ServerConnection) -> None:
    accept(connection)
    for said in ("", "[", "null", "[1]", b"\xff", message(7), message("0xzz"), message("")):
        connection.send(said)
    connection.send(message("0x9", subscription="0x2"))
    connection.send('{"params": {"subscription": "0x1", "result": []}}')
    connection.send(message("0x7"))
    connection.recv()


@pytest.mark.parametrize("fault", [refuse, say_nothing])
def test_where_one_endpoint_announces_nothing_the_next_is_asked(
    announcing: Callable[[Tell], str],
    following: Callable[..., Heard],
    caplog: pytest.LogCaptureFixture,
    fault: Tell,
) -> None:
    heard = following(
        "ws://127.0.0.1:1/key-of-the-first",
        announcing(fault),
        announcing(tell_one),
        silent_seconds=0.2,
    )
    assert heard.came.acquire(timeout=LONG)
    assert heard.numbers[0] == 7
    for _ in range(2):
        assert heard.over.acquire(timeout=LONG)
    assert caplog.text.count("heads_not_announced") >= 1
    assert "key-of-the-first" not in caplog.text


def test_what_is_no_head_of_the_subscription_is_left_out(
    announcing: Callable[[Tell], str], following: Callable[..., Heard]
) -> None:
    heard = following(announcing(tell_rubbish))
    assert heard.came.acquire(timeout=LONG)
    assert heard.numbers == [7]


def test_nothing_is_connected_before_it_is_wanted_and_stopping_ends_it(gate: Gate) -> None:
    heard = Heard()
    subscription = HeadSubscription([f"ws://{gate.address}"])
    subscription.tell(heard.told, heard.ended)
    subscription.want(False)
    assert not gate.opened.acquire(timeout=0.2)
    subscription.want(True)
    assert gate.opened.acquire(timeout=LONG)
    subscription.stop()
    assert heard.over.acquire(timeout=LONG)
    subscription.want(True)
    assert not gate.opened.acquire(timeout=0.2)
