"""What a simulated process is made of: a clock, a database that dies, a transport with faults."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, make_url

from coordinator.api.coordinator import Coordinator
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.simulated import SimulatedNode, SimulatedRpc
from coordinator.config import Secrets, load_settings
from coordinator.domain.errors import ChainUnavailable, LedgerUnavailable
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.sqlite import SqliteDatabase
from coordinator.ledger.tx.leases import LeaseBook
from coordinator.wiring import Wiring
from tests.compiled import COMPILED

Call = tuple[str, Sequence[Any]]
Ask = Callable[[str, Sequence[Call]], list[Any]]

NODE_A, NODE_B = "http://127.0.0.1:1", "http://127.0.0.1:2"


class Killed(BaseException):
    """The process is gone at this instant: nothing after it was done."""


@dataclass(slots=True)
class Time:
    """The true time, a tick counter, and how wrong the processes' clock is; all in seconds."""

    now: int = 1_767_268_800
    skew: int = 0
    ticks: float = 0.0

    def clock(self) -> int:
        return self.now + self.skew

    def go(self, seconds: int) -> None:
        self.now += seconds
        self.ticks += seconds


@dataclass(slots=True)
class Faults:
    """The faults that are armed; each is counted when it strikes."""

    rng: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    # How many more times each strikes.
    armed: Counter[str] = field(default_factory=Counter)
    kill_at: KillPoint | None = None
    lag: int = 0
    fork_lie: int = 0
    nonces_too_many: int = 0
    forgotten: set[tuple[str, str]] = field(default_factory=set)

    def strikes(self, name: str) -> bool:
        """Whether the fault is armed; it is used up by one."""
        if self.armed[name] <= 0:
            return False
        self.armed[name] -= 1
        self.struck[name] += 1
        return True

    def heal(self) -> None:
        """No fault strikes any more."""
        self.armed.clear()
        self.kill_at, self.lag, self.fork_lie = None, 0, 0

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """Nothing strikes meanwhile; what is armed stays so."""
        armed, kill_at = self.armed, self.kill_at
        self.armed, self.kill_at = Counter(), None
        try:
            yield
        finally:
            self.armed, self.kill_at = armed, kill_at

    def reach(self, point: KillPoint) -> None:
        if point is self.kill_at:
            self.kill_at = None
            self.struck[f"kill:{point}"] += 1
            raise Killed


class SimulatedDatabase(SqliteDatabase):
    """SQLite without waiting for the disk: a kill loses nothing that was committed."""

    def __init__(self, path: Path, time: Time, faults: Faults) -> None:
        super().__init__(make_url(f"sqlite:///{path}"), lock_timeout_seconds=5)
        self._time = time
        self._faults = faults
        # A process that starts again would compile each statement anew.
        self._engine = self._engine.execution_options(compiled_cache=COMPILED)

        @event.listens_for(self.engine, "connect")
        def _hurry(connection: Any, _: object) -> None:
            connection.execute("PRAGMA synchronous=OFF")

    def now_ms(self, connection: Connection) -> int:
        return self._time.clock() * 1000

    def now(self) -> int:
        return self._time.clock()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        if self._faults.strikes("database_busy"):
            raise LedgerUnavailable("the database was locked; nothing was written")
        with super().write() as connection:
            yield connection
            if self._faults.strikes("database_full"):
                raise LedgerUnavailable("the disk is full; nothing was written")
            if self._faults.strikes("kill_before_commit"):
                raise Killed
        if self._faults.strikes("kill_after_commit"):
            raise Killed


class Transport:
    """What stands between a process and its two nodes, which share one chain."""

    def __init__(self, node: SimulatedNode, faults: Faults) -> None:
        self._node = node
        self._faults = faults
        self._forgotten = faults.forgotten

    def tell(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        sends = any(method == "eth_sendRawTransaction" for method, _ in calls)
        faults = self._faults
        if faults.strikes("send_cut" if sends else "read_cut"):
            raise ChainUnavailable("cut before it arrived")
        if not sends:
            return self._read(url, calls, ask)
        if faults.strikes("kill_before_send"):
            raise Killed
        answers = ask(url, calls)
        if faults.strikes("kill_after_send"):
            raise Killed
        if faults.strikes("answer_lost"):
            raise ChainUnavailable("accepted, and the answer was lost")
        if faults.strikes("pool_lost"):
            self._node.call("anvil_dropAllTransactions")
        return answers

    def _read(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        faults = self._faults
        lag = faults.lag if url == NODE_A and faults.strikes("stale_node") else 0
        top = max(0, self._node.height - lag)
        answers = ask(url, [_as_of(call, top) for call in calls] if lag else calls)
        if lag:
            answers = [_behind(c, a, top) for c, a in zip(calls, answers, strict=True)]
        asked = {method for method, _ in calls}
        if "eth_getLogs" in asked and faults.strikes("logs_left_out"):
            answers = [
                [log for log in answer if not self._forgets(log)] if m == "eth_getLogs" else answer
                for (m, _), answer in zip(calls, answers, strict=True)
            ]
        if "eth_getLogs" in asked and faults.strikes("logs_doubled"):
            answers = [
                [*answer, *reversed(answer)] if method == "eth_getLogs" else answer
                for (method, _), answer in zip(calls, answers, strict=True)
            ]
        if "eth_getTransactionReceipt" in asked and faults.strikes("preconfirmed"):
            answers = [
                self._preconfirmed(params[0]) if method == "eth_getTransactionReceipt" else answer
                for (method, params), answer in zip(calls, answers, strict=True)
            ]
        counts = url == NODE_A and "eth_getTransactionCount" in asked
        if counts and faults.strikes("absurd_nonce"):
            answers = [
                hex(int(answer, 16) + faults.nonces_too_many)
                if method == "eth_getTransactionCount" and isinstance(answer, str)
                else answer
                for (method, _), answer in zip(calls, answers, strict=True)
            ]
        if faults.fork_lie and url == NODE_B:
            answers = [
                {**a, "hash": "0x" + "f0" * 32} if _lied_about(m, a) else a
                for (m, _), a in zip(calls, answers, strict=True)
            ]
        return answers

    def _forgets(self, log: dict[str, Any]) -> bool:
        """Whether this endpoint leaves the log out; no log is ever left out twice."""
        place = (log["blockHash"], log["logIndex"])
        if place in self._forgotten:
            return False
        self._forgotten.add(place)
        return True

    def _preconfirmed(self, tx_hash: str) -> dict[str, Any]:
        return {
            "transactionHash": tx_hash,
            "blockNumber": hex(self._node.height),
            "blockHash": "0x" + "ab" * 32,
            "status": "0x1",
            "gasUsed": "0x1",
            "effectiveGasPrice": "0x1",
            "logs": [],
        }


def _lied_about(method: str, answer: Any) -> bool:
    return method == "eth_getBlockByNumber" and answer is not None and answer["number"] != "0x0"


def _as_of(call: Call, top: int) -> Call:
    method, params = call
    if method in ("eth_getBlockByNumber", "eth_call", "eth_getTransactionCount"):
        return method, [hex(top) if p == "latest" else p for p in params]
    return call


def _behind(call: Call, answer: Any, top: int) -> Any:
    method, _ = call
    if isinstance(answer, RpcRefusal) or answer is None:
        return answer
    if method == "eth_getBlockByNumber" and int(answer["number"], 16) > top:
        return None
    if method == "eth_getTransactionReceipt" and int(answer["blockNumber"], 16) > top:
        return None
    if method == "eth_getLogs":
        return [log for log in answer if int(log["blockNumber"], 16) <= top]
    return answer


class SimulatedWiring(Wiring):
    """The product's wiring on a simulated chain, database and clock."""

    def __init__(self, path: Path, time: Time, faults: Faults, **terms: Any) -> None:
        super().__init__(clock=time.clock, ticks=lambda: time.ticks, reach=faults.reach, **terms)
        self._path, self._time, self._faults = path, time, faults

    @cached_property
    def database(self) -> SimulatedDatabase:
        database = SimulatedDatabase(self._path, self._time, self._faults)
        migrate(database)
        return database

    @cached_property
    def leases(self) -> LeaseBook:
        return LeaseBook(
            self.database,
            chain_id=self.deployment.chain_id,
            signer=self.signer.address,
            now_ms=lambda: self._time.clock() * 1000,
            ticks=lambda: self._time.ticks,
        )


class Process:
    """One process of the coordinator, which may die at any instant."""

    def __init__(
        self,
        path: Path,
        node: SimulatedNode,
        time: Time,
        faults: Faults,
        *,
        policy: Policy,
        secrets: dict[str, str],
        **settings: str,
    ) -> None:
        self.faults = faults
        rpc = SimulatedRpc(
            {NODE_A: node, NODE_B: node},
            Transport(node, faults).tell,
            sleep=lambda _: None,
            ticks=lambda: time.ticks,
        )
        chosen = {"network": "simulated", **settings}
        env = {f"COORDINATOR_{name.upper()}": value for name, value in chosen.items()}
        wiring = SimulatedWiring(
            path,
            time,
            faults,
            settings=load_settings(env),
            secrets=Secrets(secrets),
            policy=policy,
            rpc=rpc,
        )
        self.opened = wiring
        self.coordinator = Coordinator(wiring, act=False)

    @property
    def wiring(self) -> Wiring:
        return self.coordinator.wiring

    def die(self) -> None:
        """Leave the lease and everything else as it is."""
        wiring = self.coordinator.opened
        if "database" in wiring.__dict__:
            wiring.database.close()
