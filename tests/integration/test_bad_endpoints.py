"""An endpoint that lags, forgets or lies makes the executor wait; it never costs USDC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator import ConfigurationError, Usdc
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import BatchRefused, RpcRefusal
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.integration.bad_endpoint import (
    HEADER_NOT_FOUND,
    INTERNAL_ERROR,
    Ask,
    BadEndpoint,
    Call,
    Tell,
    alone,
    instead,
)
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either
HOUR = 3600
HEADER = "eth_getBlockByNumber"


@pytest.fixture(autouse=True)
def _sends_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.executor.sender._RESEND_SECONDS", 0)


def check_funded_once(world: World, asked: Purchase) -> None:
    purchase = world.get(asked)
    assert purchase.status == "funded", purchase.reason
    assert world.chain.state(purchase.escrow_id) is EscrowState.FUNDED
    assert [(t.step, t.status) for t in purchase.transactions] == [
        ("create", "mined"),
        ("link", "mined"),
    ]
    assert world.hold(purchase) == ("held", ZERO)
    assert world.chain.remaining(purchase.escrow_key) == purchase.amount
    world.check_books()


# Logs that are left out.


def test_empty_logs_of_a_block_with_our_transactions_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fund("5.00")
    purchase = world.buy_and_send("25.00")
    world.chain.mine()
    cursor = world.wiring.books.cursor()
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, instead("eth_getLogs", []))
    for _ in range(2):
        with pytest.raises(ChainUnavailable, match="leaves the logs of 0x"):
            world.round()
    assert world.wiring.books.cursor() == cursor
    endpoint.heal()
    world.go()
    check_funded_once(world, purchase)


def test_a_link_proved_mined_and_left_out_of_the_logs_is_put_into_the_books(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.buy_and_send("25.00")
    world.chain.mine()
    empty, unmined = instead("eth_getLogs", []), instead("eth_getTransactionReceipt", None)

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return empty(url, calls, lambda url, calls: unmined(url, calls, ask))

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    with pytest.raises(ChainUnavailable, match="leaves logs of block"):
        world.round()
    assert world.moves(purchase) == []
    endpoint.heal()
    world.round()
    # Before anything is decided on it, the block is read a second time.
    assert (world.status(purchase), world.in_flight()) == ("funded", [])
    assert world.chain.balance(world.treasury) == Usdc("975")
    world.check_books()


@pytest.mark.parametrize("created", [True, False])
def test_what_was_funded_before_the_start_block_is_not_bought_again(
    world: World, created: bool
) -> None:
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    chain.mine(3)
    world.coordinator.close()
    world.database = world.store.url("late")
    world.change_host()
    world.coordinator = world.open(world.database, start_block=str(chain.height))
    again = world.buy("25.00", idempotency_key="papers")
    world.round()
    if not created:
        chain.kernel_admin("pause")
    world.go()
    chain.mine()
    world.round()
    stranded = world.get(again).stranded
    assert stranded is not None
    assert "rebuild with an earlier COORDINATOR_START_BLOCK" in stranded.message
    assert world.hold(again) == ("held", ZERO)
    assert world.usage() == (Usdc("25"), ZERO)
    assert chain.balance(chain.deployment.vault) == chain.remaining(bought.escrow_key) == Usdc("25")
    assert chain.balance(world.treasury) == Usdc("975")


def test_a_wait_names_an_endpoint_that_went_down_and_not_a_missing_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        raise ChainUnavailable("the endpoint 127.0.0.1 did not answer")

    world.coordinator.close()
    with world.open(act=True) as coordinator:
        coordinator.start()
        purchase = coordinator.agent(AGENT).purchase(
            provider="paper-api", amount="5.00", purpose="a test", wait=False
        )
        # Its own executor is about to act, whether or not it has the lease already.
        first = coordinator.wiring.blockers.of(purchase)
        assert first is None or first.code != "nobody_acts"
        endpoint = BadEndpoint(coordinator.wiring.rpc, monkeypatch, down)
        found = coordinator.wait_for(purchase.id, timeout_seconds=3)
        endpoint.heal()
    assert found.blocker is not None and found.blocker.code == "chain_unavailable"
    assert "did not answer" in found.blocker.message


# Answers that are none.


@pytest.mark.parametrize("answer", [HEADER_NOT_FOUND, None], ids=["refused", "null"])
@pytest.mark.parametrize(
    "method",
    [
        "eth_getBlockByNumber",
        "eth_maxPriorityFeePerGas",
        "eth_getTransactionCount",
        "eth_getBalance",
        "eth_call",
        "eth_getLogs",
        "eth_getTransactionReceipt",
        "eth_sendRawTransaction",
        "eth_chainId",
    ],
)
def test_an_answer_that_is_none_only_makes_the_executor_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, answer: RpcRefusal | None
) -> None:
    world.fund("5.00")
    first = world.buy_and_send("10.00")
    world.chain.mine()
    second = world.buy("25.00")
    # As after a start: no endpoint was asked for its chain yet.
    coordinator = world.restart()
    rpc = coordinator.wiring.rpc
    if method != "eth_chainId":
        coordinator.wiring.executor  # noqa: B018 - which asks once whether the endpoint is right
    else:
        coordinator.wiring.chain.observe()
        for known in rpc._endpoints.all:
            known.right_chain = False
    endpoint = BadEndpoint(rpc, monkeypatch, instead(method, answer))
    for _ in range(3):
        try:
            world.round()
        except ChainUnavailable as fault:
            assert fault.money_moved is False
        world.chain.mine()
    endpoint.heal()
    world.go()
    for purchase in (first, second):
        check_funded_once(world, purchase)


def test_a_nodes_own_error_does_not_end_a_withdrawal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.round()
    book, payee = world.wiring.operations, world.chain.payee
    world.wiring.treasury.withdraw(to=payee, amount="10", approver="alice", reason="a test")
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, alone("eth_call", INTERNAL_ERROR))
    world.round()
    assert [order.status for order in book.orders()] == ["approved"]
    endpoint.heal()
    world.go()
    assert [order.status for order in book.orders()] == ["done"]
    assert world.chain.balance(payee) == Usdc("10")


def test_a_nodes_own_error_does_not_strand_a_purchase(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.to_settle()
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, alone("eth_call", INTERNAL_ERROR))
    world.round()
    assert world.get(purchase).stranded is None
    endpoint.heal()
    world.go()
    assert world.status(purchase) == "settled"
    world.check_books()


@pytest.mark.parametrize("answer", [INTERNAL_ERROR, None], ids=["refused", "null"])
def test_an_approval_whose_receipt_is_not_told_is_not_taken_for_a_strangers(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: RpcRefusal | None
) -> None:
    """It leaves no event in the books that would contradict it."""
    purchase = world.buy_and_send("25.00")
    endpoint = BadEndpoint(
        world.wiring.rpc, monkeypatch, instead("eth_getTransactionReceipt", answer)
    )
    for _ in range(8):
        world.chain.mine()
        if answer is None:
            world.round()
        else:
            with pytest.raises(ChainUnavailable, match="refused receipts"):
                world.round()
    assert world.rows("SELECT count(*) FROM steps WHERE status = 'displaced'") == [(0,)]
    assert world.wiring.operations.pauses() == []
    endpoint.heal()
    world.go()
    check_funded_once(world, purchase)


# Nodes that are behind, or prune.


def test_a_dispute_window_is_known_however_late_its_delivery_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = world.chain
    purchase = world.fund("25.00")
    chain.deliver(purchase.escrow_id, window_seconds=HOUR)
    chain.mine(200)
    monkeypatch.setattr("coordinator.books.ranges.RANGE_MAX", 50)

    def pruned(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        oldest = chain.height - 128
        return [
            RpcRefusal(-32000, "missing trie node")
            if method == "eth_call" and params[1] != "latest" and int(params[1], 16) < oldest
            else answer
            for (method, params), answer in zip(calls, ask(url, calls), strict=True)
        ]

    BadEndpoint(world.wiring.rpc, monkeypatch, pruned)
    world.round()
    assert world.get(purchase).window_ends == chain.window_ends(purchase.escrow_id)
    world.pass_time(2 * HOUR)
    world.go()
    assert world.status(purchase) == "settled"
    world.check_books()


def behind(block: int) -> Tell:
    """A node whose newest block is ``block``."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return ask(
            url,
            [
                (m, [hex(block), False])
                if (m, list(params)) == ("eth_getBlockByNumber", ["latest", False])
                else (m, params)
                for m, params in calls
            ],
        )

    return tell


def test_a_node_that_is_behind_what_was_seen_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = world.chain
    chain.set_balance(world.treasury, Usdc("10"))
    chain.mine()
    world.round()
    poor = chain.height
    chain.set_balance(world.treasury, Usdc("1000"))
    chain.mine()
    world.round()
    world.unpause()
    purchase = world.buy("25.00")
    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, behind(poor))
    with pytest.raises(ChainUnavailable, match=f"at block {poor}, behind block {poor + 1}"):
        world.round()
    # Neither failed for the USDC that was missing then, nor signed.
    assert (world.status(purchase), world.in_flight()) == ("approved", [])
    endpoint.heal()
    world.go()
    assert world.status(purchase) == "funded"


def test_an_absurd_head_is_forgotten(make_world: Callable[..., World]) -> None:
    world = make_world(finality="1")
    world.round()
    purchase = world.buy("25.00")
    absurd = hex(10**12)

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        """A node that answers for a block which is not there as for its newest."""
        near = [
            (m, ["latest" if p == absurd and m != HEADER else p for p in ps]) for m, ps in calls
        ]
        return [
            {**answer, "number": absurd} if m == HEADER and ps[0] == "latest" else answer
            for (m, ps), answer in zip(near, ask(url, near), strict=True)
        ]

    with pytest.MonkeyPatch.context() as patch:
        BadEndpoint(world.wiring.rpc, patch, tell)
        with pytest.raises(ChainUnavailable):
            world.round()
    world.go()
    check_funded_once(world, purchase)


# Several endpoints.


def two_endpoints(world: World) -> tuple[str, str]:
    """Two names of one node."""
    return world.chain.url, world.chain.url.replace("127.0.0.1", "localhost")


def test_a_send_goes_to_the_next_endpoint_when_the_first_is_down(world: World) -> None:
    _, live = two_endpoints(world)
    world.coordinator = world.open(rpc_url=f"http://127.0.0.1:1,{live}")
    purchase = world.buy_and_send("25.00")
    world.go()
    check_funded_once(world, purchase)


def test_a_second_endpoint_of_another_chain_is_refused_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Anvil.start(chain_id=31337) as other:
        world.coordinator = world.open(rpc_url=f"{world.chain.url},{other.url}")
        host = other.url.removeprefix("http://")
        with pytest.raises(ConfigurationError, match=rf"{host} .* is an endpoint of chain 31337"):
            world.round()
    assert world.rows("SELECT count(*) FROM steps") == [(0,)]


def test_a_second_endpoint_that_turns_to_another_chain_is_passed_over_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two_endpoints(world)
    world.coordinator = world.open(rpc_url=f"{first},{second}")
    world.executor  # noqa: B018 - which asks once whether the endpoints are right
    purchase = world.buy("25.00")

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        if url == first:
            raise ChainUnavailable("it is down")
        assert [method for method, _ in calls] == ["eth_chainId"], "nothing else is asked of it"
        return ["0x1"]

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    for _ in range(3):
        with pytest.raises(ChainUnavailable):
            world.round()
    assert (world.status(purchase), world.in_flight()) == ("approved", [])
    alarms = [r.message for r in caplog.records if "endpoint_on_wrong_chain" in r.message]
    assert len(alarms) == 1 and "localhost" in alarms[0]
    endpoint.heal()
    world.go()
    check_funded_once(world, purchase)


def test_an_endpoint_that_takes_small_batches_is_asked_in_small_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        sizes.append(len(calls))
        if len(calls) > 3:
            raise BatchRefused("too many calls in a batch")
        return ask(url, calls)

    BadEndpoint(world.wiring.rpc, monkeypatch, tell, unpacked=False)
    asked = world.buy("25.00")
    world.go()

    assert world.status(asked) == "funded"
    assert max(sizes[-10:]) <= 3, "the size that it takes is kept"
    assert world.coordinator.reconcile().discrepancies == ()


def test_a_revert_is_believed_from_a_node_that_has_forgotten_the_block(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = world.buy_and_send("25.00")
    chain = world.chain
    chain.kernel_admin("approveEscrowVault", chain.deployment.vault, False)
    chain.mine()
    chain.kernel_admin("approveEscrowVault", chain.deployment.vault, True)
    chain.mine()

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        method, params = calls[0]
        pruned = len(calls) == 1 and method == "eth_call" and params[1] != "latest"
        return [HEADER_NOT_FOUND] if pruned else ask(url, calls)

    BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    world.go()

    assert world.status(asked) == "cancelled"
    reason = world.get(asked).reason
    assert reason is not None
    assert "the contract refused it" in reason.message


@pytest.mark.parametrize("status", ["0x1", "0x0"], ids=["success", "revert"])
def test_a_preconfirmed_receipt_that_names_another_block_proves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    asked = world.buy_and_send()
    hold = world.hold(asked)

    def preconfirmed(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        return [
            {
                "transactionHash": params[0],
                "blockNumber": hex(world.chain.height),
                "blockHash": "0x" + "ab" * 32,
                "status": status,
                "gasUsed": "0x1",
                "effectiveGasPrice": "0x1",
                "logs": [],
            }
            if method == "eth_getTransactionReceipt"
            else answer
            for (method, params), answer in zip(calls, answers, strict=True)
        ]

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, preconfirmed)
    in_flight = len(world.in_flight())
    for _ in range(3):
        world.round()
        assert world.status(asked) == "approved"
        assert world.hold(asked) == hold
        assert len(world.in_flight()) == in_flight
    assert world.rows("SELECT count(*) FROM attempts WHERE block_hash IS NOT NULL") == [(0,)]
    endpoint.heal()
    world.chain.mine()
    world.go()
    check_funded_once(world, asked)
    world.check_books()
