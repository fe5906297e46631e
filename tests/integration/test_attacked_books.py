"""Threads, large numbers and misplaced secrets do the books no harm."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import ConfigurationError, InvalidRequest, Usdc
from coordinator.chain.signers.opening import load_signer
from coordinator.config import Secrets
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both
from tests.integration.world import World

pytestmark = on_both

KEY = "0x" + "ab" * 32


def test_a_transfer_beyond_sqls_integers_does_not_stop_the_executor(world: World) -> None:
    chain = world.chain
    world.fund("5.00")
    chain.token_admin("mint", world.treasury, 2**63)
    chain.mine()
    purchase = world.fund("25.00")
    assert chain.remaining(purchase.escrow_key) == Usdc("25")
    minted = Usdc.from_base_units(2**63)
    assert world.discrepancies() == [("balance_differs", str(minted))]


@pytest.mark.parametrize("amount", ["1000000000.000001", "1000000000000"])
def test_a_purchase_above_a_thousand_million_usdc_is_refused(world: World, amount: str) -> None:
    with pytest.raises(InvalidRequest, match=r"above the largest purchase, 1000000000\.00"):
        world.buy(amount)
    assert world.coordinator.purchases() == []
    # The largest is judged like any other.
    assert world.buy("1000000000").status == "denied"
    assert world.usage() == (ZERO, ZERO)


def test_an_explained_difference_stays_explained_over_blocks_until_it_changes(
    world: World,
) -> None:
    world.fund("5.00")
    world.chain.set_balance(world.treasury, Usdc("990"))
    world.chain.mine()
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, str(found.amount)) == ("balance_differs", "-5.00")
    world.wiring.operations.explain(found.id, by="alice", reason="known", now=world.clock())
    for _ in range(3):
        assert world.discrepancies() == []
        world.chain.mine()
    world.chain.set_balance(world.treasury, Usdc("989"))
    world.chain.mine()
    assert world.discrepancies() == [("balance_differs", "-6.00")]


# Threads.


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def all_at_once(*acts: Callable[[], object]) -> None:
    """Run each in a thread of its own; the first fault of any is raised."""
    together = threading.Barrier(len(acts))
    faults: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        together.wait()
        try:
            act()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


@pytest.mark.usefixtures("many_switches")
def test_starts_from_many_threads_make_one_executor_thread(world: World) -> None:
    def running() -> int:
        return sum(t.name == "coordinator-executor" for t in threading.enumerate())

    executor = world.executor
    all_at_once(*[executor.start] * 8)
    assert running() == 1
    executor.stop()
    assert running() == 0


@pytest.mark.usefixtures("many_switches")
def test_each_snapshot_is_judged_by_its_own_policy(world: World) -> None:
    book, database = world.wiring.policies, world.wiring.database
    old, new = world.policy, world.make_policy(settle="manual")
    with database.read() as before:
        assert book.rules(before).policy.hash == old.hash
        world.wiring.activate_policy(new, author="alice", reason="a test", now=1)

        def see_old() -> None:
            for _ in range(300):
                assert book.rules(before).policy.hash == old.hash

        def see_new() -> None:
            with database.read() as after:
                for _ in range(300):
                    assert book.rules(after).policy.hash == new.hash

        all_at_once(see_old, see_new)
    assert book.current().hash == new.hash


def test_an_interrupt_while_waiting_to_write_keeps_no_turn(world: World) -> None:
    database = world.wiring.database
    held, done = threading.Event(), threading.Event()

    class Interrupted(Exception):
        pass

    def interrupt(*_: Any) -> None:
        raise Interrupted

    def hold() -> None:
        with database.write():
            held.set()
            done.wait(30)

    before = signal.signal(signal.SIGUSR1, interrupt)
    writer = threading.Thread(target=hold)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1))
    try:
        writer.start()
        assert held.wait(30)
        timer.start()
        with pytest.raises(Interrupted), database.write():
            raise AssertionError("another thread is writing")
    finally:
        timer.join()
        done.set()
        writer.join()
        signal.signal(signal.SIGUSR1, before)
    with database.write():
        pass
    assert world.buy("1.00").status == "approved"


# Secrets.


@pytest.mark.parametrize("spec", [KEY, "env:" + KEY, KEY[2:], "env:" + KEY[2:], KEY + ":env"])
def test_a_key_given_as_the_signer_is_not_repeated(spec: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_signer(spec, {})
    assert "COORDINATOR_SIGNER must be env:NAME, keystore:PATH, aws-kms:KEY_ID, pkcs11:URI," in str(
        refused.value
    )
    assert KEY[2:12] not in repr(refused.value)


def test_a_secret_given_as_its_files_path_is_not_repeated(tmp_path: Path) -> None:
    binary = tmp_path / KEY
    binary.write_bytes(b"\xff\xfe")
    for path in (KEY, str(binary)):
        with pytest.raises(ConfigurationError, match="TREASURY_PRIVATE_KEY_FILE") as refused:
            load_signer("env:TREASURY_PRIVATE_KEY", Secrets({"TREASURY_PRIVATE_KEY_FILE": path}))
        assert KEY[2:12] not in repr(refused.value)
