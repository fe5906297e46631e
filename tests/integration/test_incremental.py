"""What agreed with the chain is not asked again, and nothing that changed stays unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.chain.comparisons import VALID_SECONDS
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either

GET = kernel_abi().call("getTransaction", "0x" + "00" * 32)[2:10]
REMAINING = vault_abi().call("remaining", "0x" + "00" * 32)[2:10]
STARTED = 3


class Asked:
    """Counts the reads of escrows, alone or together, in all that is asked."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self._texts: list[str] = []
        BadEndpoint(world.wiring.rpc, patch, self._tell)

    def _tell(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        self._texts += [params[0]["data"] for method, params in calls if method == "eth_call"]
        return ask(url, calls)

    def take(self) -> tuple[int, int]:
        """How many states and balances were asked for since this was called last."""
        texts, self._texts = self._texts, []
        found = [sum(text.count(selector) for text in texts) for selector in (GET, REMAINING)]
        return found[0], found[1]


def in_silence(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
    """Tell of each escrow that it was started, of which no event told."""
    return [
        f"{answer[:194]}{STARTED:064x}{answer[258:]}"
        if method == "eth_call" and params[0]["data"][2:10] == GET
        else answer
        for (method, params), answer in zip(calls, ask(url, calls), strict=True)
    ]


def fund(world: World, *amounts: str) -> list[Purchase]:
    return [world.fund(amount) for amount in amounts]


def test_only_pages_with_something_new_are_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.books.reconciler._PAGE", 1)
    first, *_ = fund(world, "1.00", "2.00", "3.00")
    asked = Asked(world, monkeypatch)
    assert world.discrepancies() == []
    assert asked.take() == (3, 3)
    world.chain.mine(3)
    assert world.discrepancies() == []
    assert asked.take() == (0, 0)
    world.chain.deliver(first.escrow_id)
    fund(world, "4.00")
    asked.take()
    assert world.discrepancies() == []
    assert asked.take() == (2, 2)
    # A comparison of everything asks everything, and the end of the window with its event.
    assert world.coordinator.reconcile(from_block=0).discrepancies == ()
    assert asked.take() == (5, 4)


def test_many_escrows_are_asked_in_a_few_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fund(world, "1.00", "2.00", "3.00", "4.00")
    calls: list[str] = []

    def look(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        calls.extend(str(params) for _, params in asked)
        return ask(url, asked)

    BadEndpoint(world.wiring.rpc, monkeypatch, look, unpacked=False)
    assert world.discrepancies() == []
    assert len([text for text in calls if GET in text]) == 1
    assert len([text for text in calls if REMAINING in text]) == 1


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("UPDATE escrows SET amount = 24000000", {"amount_differs"}),
        ("UPDATE escrows SET state = 'started'", {"state_behind"}),
        (
            "UPDATE journal SET amount = 24000000 WHERE kind = 'fund'",
            {"balance_differs", "escrow_balance_differs"},
        ),
    ],
    ids=["its amount", "its state", "its entry"],
)
def test_what_was_edited_after_it_agreed_is_named(
    world: World, statement: str, kinds: set[str]
) -> None:
    fund(world, "25.00")
    assert world.discrepancies() == []
    world.edit(statement)
    assert {kind for kind, _ in world.discrepancies()} == kinds
    # What differs is asked every time.
    assert {kind for kind, _ in world.discrepancies()} == kinds


def test_an_agreement_that_was_made_up_hides_nothing(world: World) -> None:
    fund(world, "25.00")
    world.edit("UPDATE escrows SET amount = 24000000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coordinator.books.reconciler._page_differences", lambda *_: ())
        assert world.discrepancies() == []
    # Whoever has the key could hide it; who made the row up has not.
    assert world.discrepancies() == []
    world.edit("UPDATE comparisons SET mac = ?", "00" * 32 + ":" + "00" * 64)
    assert world.discrepancies() == [("amount_differs", "1.00")]


def test_what_no_event_told_of_is_found_by_comparing_all_and_within_a_week(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (purchase,) = fund(world, "25.00")
    assert world.discrepancies() == []
    BadEndpoint(world.wiring.rpc, monkeypatch, in_silence)
    assert world.discrepancies() == []
    (found,) = world.coordinator.reconcile(from_block=0).discrepancies
    assert (found.kind, found.purchase_id) == ("state_behind", purchase.id)
    world.pass_time(VALID_SECONDS)
    assert [kind for kind, _ in world.discrepancies()] == ["state_behind"]


def test_what_agreed_with_a_lost_block_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fund(world, "25.00")
    # Without it the block that takes its place may be the same.
    world.chain.token_admin("mint", world.chain.stranger, 1)
    world.chain.mine()
    assert world.discrepancies() == []
    asked = Asked(world, monkeypatch)
    world.chain.rpc.call("anvil_reorg", 1, [])
    world.chain.mine()
    assert world.discrepancies() == []
    assert asked.take() == (1, 1)
    assert world.chain.balance(world.treasury) == Usdc("975")
