"""A process is killed at every named point; what it left is finished, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import coordinator
from coordinator import Coordinator, Purchase, Usdc
from coordinator.config import load_settings
from coordinator.demo.stage import Stage, open_stage
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.ports import KillPoint
from coordinator.ledger.proofs.verification import verify
from coordinator.wiring import wire
from tests.chaos.leaks import Leaks, leaks  # noqa: F401
from tests.integration.prepared import Prepared, prepared
from tests.integration.stores import PostgresqlStore, on_either

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
_END = """
import sys
from coordinator import Coordinator
with Coordinator.from_env() as coordinator:
    agent = coordinator.agent("compute-agent")
    purchase = agent.get(idempotency_key=sys.argv[1])
    agent.wait_for(purchase.id, until="final", timeout_seconds=30)
    coordinator.recover(timeout_seconds=30)
"""
# Only payments for HTTP requests come there: x402/test_restarts.py kills them.
OF_PAYMENTS = {KillPoint.AUTHORISATIONS_SIGNED, KillPoint.AUTHORISATIONS_STORED}
POINTS = [p for p in KillPoint if p not in OF_PAYMENTS]
WHILE_FUNDING = [p for p in POINTS if p not in (KillPoint.HOLDS_ENDED, KillPoint.ROLLED_BACK)]
WHILE_ENDING = [p for p in POINTS if p not in (KillPoint.REQUEST_COMMITTED, KillPoint.ROLLED_BACK)]
AFTER_A_REORGANISATION = [KillPoint.ROLLED_BACK, KillPoint.EVENTS_STORED]
# A refused batch of a Safe leaves no escrow: its end takes no transaction.
WHILE_FAILING = [p for p in WHILE_ENDING if p.name.startswith(("EVENTS", "RECEIPTS", "HOLDS"))]
ON_BOTH = pytest.mark.parametrize("stage", ["sqlite", "postgresql"], indirect=True)
_SAFE_LATER = pytest.param("safe", marks=pytest.mark.campaign)
# A Safe in campaigns: test_safe_faults.py comes to the same points within one process.
WITH_SAFE = pytest.mark.parametrize("payer", ["wallet", _SAFE_LATER], indirect=True)
SAFE_ALONE = pytest.mark.parametrize("payer", [_SAFE_LATER], indirect=True)
Kill = Callable[[str, str, KillPoint], None]


@pytest.fixture(scope="module")
def payer(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "wallet"))


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, payer: str) -> Iterator[Stage]:
    with open_stage(keep=False, payer=payer) as stage:
        stage.close()
        if request.param == "sqlite":
            yield stage
            return
        store = PostgresqlStore(request.getfixturevalue("postgresql"))
        stage.environment["COORDINATOR_DATABASE_URL"] = store.make(store.url())
        yield stage
        stage.close()
        store.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with prepared(tmp_path_factory.mktemp("programs")) as made:
        yield made


@pytest.fixture
def kill(stage: Stage, programs: Prepared, leaks: Leaks) -> Iterator[Kill]:  # noqa: F811
    """Runs a program that dies at a point; no secret is in what it printed and stored."""
    environment = stage.environment
    leaks.guard(environment[n] for n in ("TREASURY_PRIVATE_KEY", "COORDINATOR_ID_SECRET"))
    leaks.watch(stage.folder, environment["COORDINATOR_DATABASE_URL"])

    def run(program: str, key: str, point: KillPoint) -> None:
        names = {"COORDINATOR_KILL_AT": point.value, "COORDINATOR_LOG_LEVEL": "DEBUG"}
        code, said = programs.run(
            program,
            key,
            environment={**os.environ, **environment, **names},
            folder=stage.folder,
            timeout_seconds=90,
        )
        leaks.look_at_process(programs.process)
        leaks.look_at("output of the killed process", said)
        assert code == -signal.SIGKILL, said

    yield run
    leaks.look_into_tables()
    assert "output of the killed process" in leaks.looked_at


def _buy(coordinator: Coordinator, key: str, **terms: Any) -> Purchase:
    return coordinator.agent("compute-agent").purchase(
        provider="paper-api",
        amount="3.00",
        purpose="recovery",
        category="api",
        idempotency_key=key,
        timeout_seconds=30,
        **terms,
    )


def _spent(coordinator: Coordinator) -> Usdc:
    return Usdc(coordinator.report().as_dict()["spent"])


def _assert_books_equal_the_chain(stage: Stage, coordinator: Coordinator) -> None:
    assert coordinator.recover(timeout_seconds=30)
    assert coordinator.reconcile().discrepancies == ()
    assert coordinator.wiring.journal.treasury_balance() == stage.treasury_usdc()
    assert verify(coordinator.wiring.audit).ok


def _buy_refused(stage: Stage, key: str) -> None:
    """A purchase whose funding is refused; a wallet has created its escrow."""
    with stage.blocks_by_hand() as mine:
        with Coordinator(
            wire(stage.environment, load_settings(stage.environment)), act=False
        ) as coordinator:
            _buy(coordinator, key, wait=False)
            assert coordinator.wiring.executor.run_once()
        stage.list_vault(False, wait=False)
        mine()
        stage.list_vault(True, wait=False)
        mine()


def _assert_it_ended(stage: Stage, key: str, *, spent: str, status: str = "cancelled") -> None:
    """Its hold ended once, with ``spent``: leaving a funded escrow costs a part of it."""
    with stage.open() as coordinator:
        agent = coordinator.agent("compute-agent")
        asked = agent.get(idempotency_key=key)
        ended = agent.wait_for(asked.id, until="final", timeout_seconds=30)
        assert (ended.status, ended.spent) == (status, Usdc(spent))
        if status == "cancelled":
            assert stage.escrow(ended).state is EscrowState.CANCELLED
        assert stage.remaining(ended) == Usdc("0")
        _assert_books_equal_the_chain(stage, coordinator)
        told = [row["event"] for row in coordinator.wiring.audit.rows(0, subject=asked.id)]
        ends = [event for event in told if event in ("hold_posted", "hold_voided")]
        assert ends == ["hold_posted" if ended.spent else "hold_voided"]


@on_either
@ON_BOTH
@WITH_SAFE
@pytest.mark.parametrize("point", WHILE_FUNDING)
def test_a_kill_at_any_point_ends_in_exactly_one_funded_escrow(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    kill(_BUY, point, point)

    with stage.open() as coordinator:
        purchase = _buy(coordinator, point)

        assert stage.escrow(purchase).state is EscrowState.FUNDED
        assert stage.fundings(purchase) == 1
        _assert_books_equal_the_chain(stage, coordinator)


@on_either
@ON_BOTH
@pytest.mark.parametrize("payer", ["safe"], indirect=True)
@pytest.mark.parametrize("point", [KillPoint.STEPS_ALLOCATED, KillPoint.ATTEMPTS_SENT])
def test_a_kill_while_a_batch_is_sent_ends_in_exactly_one_funded_escrow(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    kill(_BUY, f"batch-{point}", point)

    with stage.open() as coordinator:
        purchase = _buy(coordinator, f"batch-{point}")
        assert stage.escrow(purchase).state is EscrowState.FUNDED
        assert stage.fundings(purchase) == 1
        _assert_books_equal_the_chain(stage, coordinator)


@on_either
@ON_BOTH
@WITH_SAFE
@pytest.mark.parametrize("point", WHILE_ENDING)
def test_a_kill_while_settling_posts_the_hold_once(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    key = f"settle-{point}"
    with stage.open() as coordinator:
        purchase = _buy(coordinator, key)
        spent = _spent(coordinator)
        stage.deliver(purchase)
        coordinator.wait_for(purchase.id, until="delivered", timeout_seconds=30)
    kill(_SETTLE, key, point)

    with stage.open() as coordinator:
        agent = coordinator.agent("compute-agent")
        agent.settle(purchase.id)
        settled = agent.wait_for(purchase.id, until="final", timeout_seconds=30)

        assert stage.escrow(settled).state is EscrowState.SETTLED
        _assert_books_equal_the_chain(stage, coordinator)
        assert _spent(coordinator) == spent + Usdc("3.00")


@on_either
@ON_BOTH
@pytest.mark.parametrize("point", WHILE_ENDING)
def test_a_kill_while_cancelling_gives_the_hold_back_once(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    key = f"cancel-{point}"
    _buy_refused(stage, key)
    kill(_END, key, point)

    _assert_it_ended(stage, key, spent="0.00")


@on_either
@ON_BOTH
@SAFE_ALONE
@pytest.mark.parametrize("point", WHILE_FAILING)
def test_a_kill_after_a_batch_was_refused_gives_the_hold_back_once(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    key = f"refused-{point}"
    _buy_refused(stage, key)
    kill(_END, key, point)

    _assert_it_ended(stage, key, spent="0.00", status="failed")


@ON_BOTH
@WITH_SAFE
@pytest.mark.parametrize("point", [KillPoint.ATTEMPTS_STORED, KillPoint.RECEIPTS_STORED])
def test_a_kill_while_reclaiming_gives_the_hold_back_once(
    stage: Stage, kill: Kill, point: KillPoint
) -> None:
    key = f"reclaim-{point}"
    with stage.open() as coordinator:
        purchase = _buy(coordinator, key)
    assert purchase.deadline is not None
    now = int(stage.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    stage.rpc.call("evm_increaseTime", purchase.deadline + 1 - now)
    kill(_END, key, point)

    _assert_it_ended(stage, key, spent="0.15")


@ON_BOTH
@WITH_SAFE
@pytest.mark.parametrize("point", AFTER_A_REORGANISATION)
def test_a_kill_after_a_funding_was_lost_with_its_blocks_funds_it_once(
    stage: Stage, kill: Kill, point: KillPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"lost-{point}"
    monkeypatch.setitem(stage.environment, "COORDINATOR_FINALITY", "30")
    with stage.open() as coordinator:
        purchase = _buy(coordinator, key)
        first = min(t.block for t in purchase.transactions if t.block is not None)
    with stage.blocks_by_hand():
        height = int(stage.rpc.call("eth_blockNumber"), 16)
        stage.rpc.call("anvil_reorg", height - first + 1, [])
    assert stage.fundings(purchase) == 0
    kill(_BUY, key, point)

    with stage.open() as coordinator:
        assert coordinator.recover(timeout_seconds=30)
        again = coordinator.get(purchase.id)
        assert (again.id, again.escrow_id) == (purchase.id, purchase.escrow_id)
        assert stage.escrow(again).state is EscrowState.FUNDED
        assert stage.fundings(again) == 1
        events = [row["event"] for row in coordinator.wiring.audit.rows(0)]
        assert "journal_rolled_back" in events
        _assert_books_equal_the_chain(stage, coordinator)


def test_no_kill_point_is_missing() -> None:
    """Each is one at which a process is killed above, and is passed by the program."""
    tests = (value for name, value in globals().items() if name.startswith("test_a_kill_"))
    killed = {
        point
        for test in tests
        for mark in test.pytestmark
        if mark.args[:1] == ("point",)
        for point in mark.args[1]
    }
    assert killed == set(POINTS)
    package = Path(coordinator.__file__).parent
    rooms = ("treasury", "executor", "books")
    source = "".join(file.read_text() for room in rooms for file in (package / room).glob("*.py"))
    assert [p.name for p in KillPoint if f"KillPoint.{p.name}" not in source] == []
