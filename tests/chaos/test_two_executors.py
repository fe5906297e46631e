"""Two executors that don't know of each other: two copies of one database, one key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator import Coordinator, LedgerUnavailable, Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.purchase.purchase import Purchase
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import fundings
from tests.chaos.fault_proxy import FaultProxy
from tests.integration.stores import edit, on_both, with_safe_in_campaigns
from tests.integration.world import World

pytestmark = [on_both, with_safe_in_campaigns]


class Twins:
    """A world and a second coordinator on a copy of its database, which both may act."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._here = (world.database, world.coordinator)
        copy = world.store.copy(world.database, "twin")
        edit(copy, "DELETE FROM leases")
        self._there: tuple[str, Coordinator] = (copy, world.open(copy))

    @contextmanager
    def second(self) -> Iterator[World]:
        """The world as the second executor has it."""
        self.world.database, self.world.coordinator = self._there
        try:
            yield self.world
        finally:
            self.world.database, self.world.coordinator = self._here

    def round_of_both(self) -> None:
        self.world.round()
        with self.second():
            self.world.round()

    def go(self) -> None:
        """Rounds of both and blocks; whoever was paused is looked at by an approver."""
        for _ in range(12):
            for coordinator in (self._here[1], self._there[1]):
                assert coordinator.wiring.executor.run_once()
                if coordinator.wiring.operations.pauses():
                    assert coordinator.unpause("both looked at", by="alice")
            self.world.chain.mine()
        self.round_of_both()

    def check_both(self, *asked: Purchase) -> None:
        """USDC left once for each purchase, and each of the two books equals the chain."""
        world = self.world
        assert [fundings(world, purchase) for purchase in asked] == [1] * len(asked)
        total = sum(purchase.amount.base_units for purchase in asked)
        assert world.chain.balance(world.treasury).base_units == 1_000_000_000 - total
        self.round_of_both()
        for view in (self._here, self._there):
            world.database, world.coordinator = view
            assert world.in_flight() == []
            funded = world.coordinator.purchases(status="funded")
            assert {p.escrow_key for p in funded} == {p.escrow_key for p in asked}
            # What was asked there alone is nobody's here until somebody explains it.
            for item in world.coordinator.reconcile().discrepancies:
                assert item.kind == "unknown_escrow"
                world.wiring.operations.explain(
                    item.id, by="alice", reason="asked there", now=world.clock()
                )
            world.check_books()
        world.database, world.coordinator = self._here


def test_the_chain_refuses_a_second_funding_under_other_nonces(
    world: World, tmp_path: Path
) -> None:
    first = world.fund("1.00")
    both = world.buy("25.00")
    twins = Twins(world)
    # Here something else comes first: the same purchase has other nonces than there.
    world.edit("UPDATE purchases SET seq = seq + 100 WHERE id = ?", both.id)
    world.restart()
    twins._here = (world.database, world.coordinator)
    here = world.buy("7.00")
    world.edit("UPDATE purchases SET seq = -1 WHERE id = ?", here.id)
    with twins.second():
        world.round()
    world.round()
    world.chain.mine()
    assert fundings(world, both) == 1
    twins.go()
    if world.safe is None:
        # Of two batches with one nonce the second is displaced.
        assert ("Escrow ID already used",) in world.rows(
            "SELECT revert_reason FROM steps WHERE status = 'reverted'"
        )
    twins.check_both(first, both, here)


@pytest.mark.parametrize("later", [0, 1, 3], ids=["same block", "next block", "3 blocks later"])
def test_two_that_use_the_same_nonces_fund_once(
    world: World, proxy: FaultProxy, tmp_path: Path, later: int
) -> None:
    first = world.fund("1.00")
    both = [world.buy("25.00"), world.buy("5.00")]
    twins = Twins(world)
    with proxy.faulty(faults.CUT_BEFORE, faults.sends()):
        world.round()
        if later:
            world.chain.mine(later)
            world.chain.pass_time(60)
    with twins.second():
        world.round()
    twins.go()
    twins.check_both(first, *both)


def test_two_that_act_at_the_same_time_fund_every_purchase_once(
    world: World, tmp_path: Path
) -> None:
    first = world.fund("1.00")
    both = [world.buy(f"{n}.00") for n in range(2, 10)]
    twins = Twins(world)
    gate = threading.Barrier(2)
    told: list[BaseException] = []

    def act(coordinator: Coordinator) -> None:
        for _ in range(10):
            gate.wait()
            try:
                coordinator.wiring.executor.run_once()
            except (ChainUnavailable, LedgerUnavailable):
                pass
            except BaseException as fault:
                told.append(fault)

    world.chain.rpc.call("evm_setAutomine", True)
    threads = [
        threading.Thread(target=act, args=(coordinator,))
        for coordinator in (twins._here[1], twins._there[1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == []
    world.chain.hold_blocks()
    twins.go()
    twins.check_both(first, *both)


def test_a_twin_that_wakes_when_all_is_done_adopts_it_and_sends_nothing(
    world: World, tmp_path: Path
) -> None:
    first = world.fund("1.00")
    asked = world.buy("25.00")
    twins = Twins(world)
    world.go()
    nonce = world.chain.nonce(world.signer)
    twins.go()
    assert world.chain.nonce(world.signer) == nonce
    assert world.chain.balance(world.treasury) == Usdc("974")
    twins.check_both(first, asked)
