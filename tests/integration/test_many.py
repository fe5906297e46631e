"""Many threads, and many processes, ask at once; what is admitted is funded, exactly once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from coordinator import LedgerUnavailable, Purchase, Status, Usdc
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import vault_abi
from coordinator.demo.stage import Stage, open_stage
from coordinator.domain.chain.events import EscrowState
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import Store, on_either, rows

AGENTS = [f"agent-{number}" for number in range(8)]
ONE = Usdc("1.00")
TERMS: dict[str, Any] = {"provider": "paper-api", "amount": "1.00", "purpose": "one of many"}

_POLICY = """
[organisation]
total_limit = "{limit}"
daily_limit = "unlimited"

[providers.paper-api]
address = "{provider}"
service = "papers"
"""
_AGENT = """
[agents.{agent}]
per_purchase_limit = "10"
daily_limit = "unlimited"
approval_threshold = "10"
"""
_ASK = """
import json
import sys
from coordinator import Coordinator
agent_id, count, terms = json.loads(sys.argv[1])
with Coordinator.from_env(act=False) as coordinator:
    agent = coordinator.agent(agent_id)
    agent.limits()
    print("ready", flush=True)
    sys.stdin.readline()
    asked = [agent.purchase(**terms, wait=False) for _ in range(count)]
    print(json.dumps([(p.id, p.status, p.reason and p.reason.code) for p in asked]))
"""


@pytest.fixture(params=["wallet", pytest.param("safe", marks=pytest.mark.campaign)])
def stage(request: pytest.FixtureRequest, store: Store) -> Iterator[Stage]:
    with open_stage(keep=False, payer=request.param) as stage:
        stage.close()
        stage.environment["COORDINATOR_DATABASE_URL"] = store.make(store.url())
        yield stage


class Crowd:
    """A coordinator whose only limit is the organisation's, and what its counter ever said."""

    def __init__(self, stage: Stage, *, limit: str) -> None:
        path = stage.folder / "many.toml"
        policy = _POLICY.format(limit=limit, provider=stage.provider)
        path.write_text(policy + "".join(_AGENT.format(agent=agent) for agent in AGENTS))
        self.stage = stage
        self.limit = Usdc(limit)
        self.used: list[Usdc] = []
        self._first_block = self._head()
        self.coordinator = stage.open(COORDINATOR_POLICY_FILE=str(path))
        self.coordinator.wiring.changes.subscribe(lambda changes: self.look())

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.coordinator.close()

    def look(self) -> None:
        """Note what is held and spent now; after every change of the ledger too."""
        (total,) = [s for s in self.coordinator.limits() if s.limit.window.value == "total"]
        self.used.append(total.usage.held + total.usage.spent)

    def ask(self, agent: str, key: str) -> Purchase:
        """Decided, however long the machine lets this thread wait for its turn to write."""
        while True:
            try:
                return self.coordinator.agent(agent).purchase(
                    **TERMS, idempotency_key=key, wait=False
                )
            except LedgerUnavailable:  # nothing was written: the same key asks again
                continue

    def check_all_is_funded_once_and_never_over(self) -> None:
        """By counters, holds, kernel and vault, at the end and at every block before it."""
        assert self.coordinator.recover(timeout_seconds=240)
        funded = self.coordinator.purchases(status="funded", limit=10_000)
        assert len(funded) * ONE.base_units == self.limit.base_units
        assert self._fundings() == Counter(purchase.escrow_key for purchase in funded)
        self._check_kernel([str(purchase.escrow_id) for purchase in funded])

        in_vault = self._vault_by_block()
        assert in_vault == sorted(in_vault)
        assert in_vault[-1] == self.limit
        self.look()
        assert max(self.used) == self.used[-1] == self.limit
        self._check_counters_are_the_holds()
        assert self.coordinator.reconcile().discrepancies == ()
        assert verify(self.coordinator.wiring.audit).ok

    def _fundings(self) -> Counter[str]:
        """How often the vault was funded under each escrow key."""
        asked = {
            "address": self.stage.deployment.vault,
            "topics": [vault_abi().topic("EscrowCreated")],
            "fromBlock": "0x0",
            "toBlock": "latest",
        }
        return Counter(log["topics"][1] for log in self.stage.rpc.call("eth_getLogs", asked))

    def _check_kernel(self, escrow_ids: list[str]) -> None:
        chain, head = self.coordinator.wiring.chain, self._head()
        escrows = chain.escrows_at(escrow_ids, block_number=head)
        assert len(escrows) == len(escrow_ids)
        assert {(e.state, e.amount) for e in escrows.values()} == {(EscrowState.FUNDED, ONE)}

    def _vault_by_block(self) -> list[Usdc]:
        """The vault's USDC at the end of every block since the treasury was funded."""
        usdc, vault = self.stage.deployment.usdc, self.stage.deployment.vault
        call = {"to": usdc, "data": token_abi().call("balanceOf", vault)}
        blocks = range(self._first_block, self._head() + 1)
        answers = self.stage.rpc.batch([("eth_call", [call, hex(n)]) for n in blocks])
        return [Usdc.from_base_units(int(answer, 16)) for answer in answers]

    def _head(self) -> int:
        return int(self.stage.rpc.call("eth_blockNumber"), 16)

    def _check_counters_are_the_holds(self) -> None:
        found = rows(
            self.stage.environment["COORDINATOR_DATABASE_URL"],
            "SELECT c.held, c.spent, sum(CASE h.status WHEN 'held' THEN h.amount ELSE 0 END),"
            " sum(h.posted) FROM counters c JOIN hold_charges g"
            " ON g.scope_kind = c.scope_kind AND g.scope_id = c.scope_id"
            ' AND g."window" = c."window" AND g.start = c.start'
            " JOIN holds h ON h.id = g.hold_id GROUP BY c.id, c.held, c.spent",
        )
        assert found
        assert [row[:2] for row in found] == [row[2:] for row in found]


# On PostgreSQL the ledger alone is asked by as many, in ledger/test_concurrency.py.
@pytest.mark.parametrize("threads", [40, pytest.param(200, marks=pytest.mark.campaign)])
def test_half_of_what_many_threads_ask_five_times_is_admitted_and_funded_once(
    stage: Stage, threads: int
) -> None:
    gate, half = threading.Barrier(threads), threads * 5 // 2
    with Crowd(stage, limit=str(half)) as crowd:

        def five(number: int) -> list[Purchase]:
            agent = AGENTS[number % len(AGENTS)]
            gate.wait()
            asked = [crowd.ask(agent, f"{number}-{n}") for n in range(5)]
            crowd.look()
            return asked

        with ThreadPoolExecutor(threads) as pool:
            asked = [purchase for five_of in pool.map(five, range(threads)) for purchase in five_of]

        assert len({purchase.id for purchase in asked}) == threads * 5
        assert Counter((p.status, p.reason and p.reason.code) for p in asked) == {
            (Status.APPROVED, None): half,
            (Status.DENIED, "organisation_limit"): half,
        }
        crowd.check_all_is_funded_once_and_never_over()


@on_either
def test_half_of_what_eight_processes_ask_is_admitted_while_one_executor_acts(
    stage: Stage,
) -> None:
    with Crowd(stage, limit="100") as crowd, ExitStack() as stack:
        crowd.coordinator.start()
        children = [_asking(stage, agent, stack) for agent in AGENTS]
        assert [_line(child) for child in children] == ["ready\n"] * len(children)
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        asked = [told for child in children for told in json.loads(_line(child))]
        assert [child.wait(timeout=60) for child in children] == [0] * len(children)

        assert len({purchase_id for purchase_id, _, _ in asked}) == 200
        reasons = [reason for _, status, reason in asked if status == "denied"]
        assert reasons == ["organisation_limit"] * 100
        crowd.check_all_is_funded_once_and_never_over()


def _asking(stage: Stage, agent: str, stack: ExitStack) -> subprocess.Popen[str]:
    """A process that asks 25 times as soon as it reads a line; ended with the stack."""
    child = subprocess.Popen(
        [sys.executable, "-c", _ASK, json.dumps([agent, 25, TERMS])],
        env={**os.environ, **stage.environment},
        cwd=stage.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.enter_context(child)
    stack.callback(child.kill)
    return child


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline()
