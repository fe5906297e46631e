"""Four processes buy with one database, and the one that acts is killed: another takes over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from coordinator import Coordinator, Usdc
from coordinator.chain.actp.abi import vault_abi
from coordinator.demo.stage import Stage, open_stage
from coordinator.domain.chain.events import EscrowState
from coordinator.executor import LEASE_SECONDS
from coordinator.ledger.proofs.verification import verify
from tests.chaos.leaks import Leaks
from tests.chaos.processes import Process, Processes, processes
from tests.integration.stores import Store, on_both

pytestmark = on_both

_BUY = """
with Coordinator.from_env() as coordinator:
    agent = coordinator.agent("compute-agent")
    coordinator.start()
    say("ready")
    for number in range(terms["count"]):
        key = f"{terms['name']}-{number}"
        asked = agent.purchase(
            provider="paper-api", amount="2.00", purpose="one of many", category="api",
            idempotency_key=key, wait=False)
        say([key, asked.id, asked.status])
    for number in range(terms["count"]):
        bought = agent.get(idempotency_key=f"{terms['name']}-{number}")
        done = agent.wait_for(bought.id, timeout_seconds=90)
        say([f"{terms['name']}-{number}", done.id, done.status])
    say("done")
"""
_EACH = 5


@pytest.fixture
def stage(store: Store) -> Iterator[Stage]:
    with open_stage(keep=False) as stage:
        stage.close()
        stage.environment["COORDINATOR_DATABASE_URL"] = store.make(store.url())
        yield stage


@pytest.fixture
def running(stage: Stage, leaks: Leaks) -> Iterator[Processes]:
    with processes(stage, leaks) as running:
        yield running


def acting(watcher: Coordinator, buyers: list[Process]) -> Process | None:
    """The process that holds the lease, while it is alive."""
    holder = watcher.wiring.leases.present()
    if holder is None or not holder.alive:
        return None
    return next((buyer for buyer in buyers if buyer.pid == holder.pid), None)


def fundings(stage: Stage) -> Counter[str]:
    """How often the vault was funded under each escrow key."""
    asked = {
        "address": stage.deployment.vault,
        "topics": [vault_abi().topic("EscrowCreated")],
        "fromBlock": "0x0",
        "toBlock": "latest",
    }
    return Counter(log["topics"][1] for log in stage.rpc.call("eth_getLogs", asked))


@pytest.mark.each_choice
@pytest.mark.parametrize("kills", [1, 3])
def test_the_holder_of_the_lease_is_killed_and_another_takes_over(
    stage: Stage, running: Processes, kills: int
) -> None:
    with stage.blocks_by_hand() as mine, stage.open() as watcher:
        names = {running.start(_BUY, name=f"buyer-{n}", count=_EACH): n for n in range(4)}
        live = list(names)
        killed: list[int] = []
        deadline = time.monotonic() + 120
        while not all("ready" in buyer.said() for buyer in live):
            assert time.monotonic() < deadline, [buyer.errors()[-2000:] for buyer in live]
            time.sleep(0.05)
        for _ in range(kills):
            stage.wait_until(lambda: acting(watcher, live), "an executor")
            # In the middle of its work: bytes are in the pool and not in a block.
            stage.wait_until(stage.pool_size, "transactions in the pool")
            holder = acting(watcher, live)
            assert holder is not None
            holder.kill()
            ended = time.monotonic()
            live.remove(holder)
            killed.append(names[holder])
            stage.wait_until(lambda: acting(watcher, live), "another executor")
            # At once, because the dead are seen to be dead: not when their lease runs out.
            assert time.monotonic() - ended < LEASE_SECONDS
        live += [running.start(_BUY, name=f"buyer-{n}", count=_EACH) for n in killed]
        deadline = time.monotonic() + 120
        while not all("done" in buyer.said() for buyer in live):
            assert time.monotonic() < deadline, [buyer.errors()[-2000:] for buyer in live]
            if stage.pool_size():
                mine()
        check_all_funded_once(stage, watcher, live)


def check_all_funded_once(stage: Stage, watcher: Coordinator, live: list[Process]) -> None:
    funded = watcher.purchases(status="funded", limit=100)
    assert len(funded) == 4 * _EACH == len(watcher.purchases(limit=100))
    assert len({p.idempotency_key for p in funded}) == 4 * _EACH
    assert fundings(stage) == Counter(p.escrow_key for p in funded)
    for purchase in funded:
        assert stage.escrow(purchase).state is EscrowState.FUNDED
    # Whatever a process was told at the end is what became of it.
    told = {key: (found, status) for buyer in live for key, found, status in _told(buyer)}
    assert told == {p.idempotency_key: (p.id, "funded") for p in funded}
    assert stage.treasury_usdc() == Usdc("1000") - Usdc("40")
    for buyer in live:
        buyer.process.wait(30)
    assert watcher.recover(timeout_seconds=30)
    assert watcher.reconcile().discrepancies == ()
    assert watcher.wiring.journal.treasury_balance() == stage.treasury_usdc()
    assert verify(watcher.wiring.audit).ok


def _told(buyer: Process) -> list[tuple[str, str, str]]:
    last = {line[0]: tuple(line) for line in buyer.said() if isinstance(line, list)}
    return list(last.values())  # type: ignore[arg-type]
