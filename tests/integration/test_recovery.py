"""A process is killed at every named point; what it left is finished, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import coordinator
from coordinator import Coordinator, Purchase, Usdc
from coordinator.domain.chain_events import EscrowState
from coordinator.domain.ports import KillPoint
from coordinator.interfaces.demo.stage import Stage, open_stage
from tests.integration.stores import PostgresqlStore

_BUY = """
import sys
from coordinator import Coordinator
with Coordinator.from_env() as coordinator:
    coordinator.agent("compute-agent").purchase(
        provider="paper-api", amount="3.00", purpose="recovery", category="api",
        idempotency_key=sys.argv[1], timeout_seconds=30)
    coordinator.recover(timeout_seconds=30)
"""
_SETTLE = """
import sys
from coordinator import Coordinator
with Coordinator.from_env() as coordinator:
    agent = coordinator.agent("compute-agent")
    purchase = agent.get(idempotency_key=sys.argv[1])
    agent.settle(purchase.id)
    agent.wait_for(purchase.id, until="final", timeout_seconds=30)
    coordinator.recover(timeout_seconds=30)
"""
_RECOVER = """
from coordinator import Coordinator
with Coordinator.from_env() as coordinator:
    coordinator.recover(timeout_seconds=30)
"""
# Passed only where something ends, or is taken back.
_AT_AN_END = {KillPoint.HOLDS_ENDED, KillPoint.ROLLED_BACK}


ON_BOTH = pytest.mark.parametrize("stage", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with open_stage(keep=False) as stage:
        stage.close()
        if request.param == "sqlite":
            yield stage
            return
        store = PostgresqlStore(request.getfixturevalue("postgresql"))
        stage.environment["COORDINATOR_DATABASE_URL"] = store.make(store.url())
        yield stage
        stage.close()
        store.close()


def _run_and_die(stage: Stage, program: str, key: str, kill_at: KillPoint) -> None:
    child = subprocess.run(
        [sys.executable, "-c", program, key],
        env={**os.environ, **stage.environment, "COORDINATOR_KILL_AT": kill_at},
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


def _buy(coordinator: Coordinator, key: str) -> Purchase:
    return coordinator.agent("compute-agent").purchase(
        provider="paper-api",
        amount="3.00",
        purpose="recovery",
        category="api",
        idempotency_key=key,
        timeout_seconds=30,
    )


def _assert_books_equal_the_chain(stage: Stage, coordinator: Coordinator) -> None:
    assert coordinator.recover(timeout_seconds=30)
    assert coordinator.reconcile().discrepancies == ()
    assert coordinator.wiring.journal.treasury_balance() == stage.treasury_usdc()
    assert coordinator.wiring.audit.verify().ok


@ON_BOTH
@pytest.mark.parametrize("point", [p for p in KillPoint if p not in _AT_AN_END])
def test_a_kill_at_any_point_ends_in_exactly_one_funded_escrow(
    stage: Stage, point: KillPoint
) -> None:
    _run_and_die(stage, _BUY, point, point)

    with stage.open() as coordinator:
        purchase = _buy(coordinator, point)

        assert stage.escrow(purchase).state is EscrowState.FUNDED
        assert stage.fundings(purchase) == 1
        _assert_books_equal_the_chain(stage, coordinator)


@ON_BOTH
@pytest.mark.parametrize(
    "point", [p for p in list(KillPoint)[1:] if p is not KillPoint.ROLLED_BACK]
)
def test_a_kill_while_settling_posts_the_hold_once(stage: Stage, point: KillPoint) -> None:
    key = f"settle-{point}"
    with stage.open() as coordinator:
        purchase = _buy(coordinator, key)
        spent = Usdc(coordinator.report().as_dict()["spent"])
        stage.deliver(purchase)
        coordinator.wait_for(purchase.id, until="delivered", timeout_seconds=30)
    _run_and_die(stage, _SETTLE, key, point)

    with stage.open() as coordinator:
        agent = coordinator.agent("compute-agent")
        agent.settle(purchase.id)
        settled = agent.wait_for(purchase.id, until="final", timeout_seconds=30)

        assert stage.escrow(settled).state is EscrowState.SETTLED
        _assert_books_equal_the_chain(stage, coordinator)
        assert Usdc(coordinator.report().as_dict()["spent"]) == spent + Usdc("3.00")


@ON_BOTH
def test_a_kill_after_a_rollback_funds_once_from_the_fork(stage: Stage) -> None:
    with stage.open() as coordinator:
        purchase = _buy(coordinator, "rolled-back")
    lost = [t for t in purchase.transactions if t.step in ("create", "link")]
    with stage.blocks_by_hand():
        head = int(stage.rpc.call("eth_blockNumber"), 16)
        depth = head - min(t.block for t in lost if t.block is not None) + 1
        stage.rpc.call("anvil_reorg", depth, [])
        assert stage.fundings(purchase) == 0
    _run_and_die(stage, _RECOVER, "", KillPoint.ROLLED_BACK)

    with stage.open() as coordinator:
        _assert_books_equal_the_chain(stage, coordinator)
        again = coordinator.get(purchase.id)

        assert (again.status, again.escrow_key) == ("funded", purchase.escrow_key)
        assert stage.escrow(again).state is EscrowState.FUNDED
        assert stage.fundings(again) == 1
        # The bytes are those that were signed before the blocks were lost.
        signed = {t.hash for t in purchase.transactions}
        assert {t.hash for t in again.transactions} == signed


def test_every_kill_point_is_passed_by_the_program() -> None:
    """A name that nothing reaches would make the matrix above a lie."""
    folder = Path(coordinator.__file__).parent
    files = ("treasury.py", "executor/loop.py", "executor/sender.py", "follower.py")
    source = "".join((folder / name).read_text() for name in files)
    missing = [point.name for point in KillPoint if f"KillPoint.{point.name}" not in source]
    assert missing == []
