"""One seeded run: agents, people, providers and faults around processes that may die."""

from __future__ import annotations

import random
import secrets
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from coordinator.books import ranges
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.terms import STATES
from coordinator.chain.simulated import SimulatedNode, genesis
from coordinator.chain.simulated.machine import Rules
from coordinator.chain.simulated.pool import Refused
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import (
    ChainUnavailable,
    IdempotencyConflict,
    LeaseLost,
    LedgerUnavailable,
    TxReverted,
)
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from coordinator.executor import Executor
from tests.simulation.faults import kinds, strike
from tests.simulation.invariants import Broken, Invariants
from tests.simulation.parts import Faults, Killed, Process, Time
from tests.simulation.payments import ACTIONS as PAYMENT_ACTIONS
from tests.simulation.payments import KEY, Payments, host_of
from tests.simulation.people import People, approvals, is_signed
from tests.simulation.tampering import Tampering

AGENTS: Final = ("ada", "bert", "cora")
PROVIDERS: Final = {"papers": genesis.ACCOUNTS[4], "data": genesis.ACCOUNTS[5]}
PAYEE: Final = genesis.ACCOUNTS[7]
STRANGER: Final = genesis.ACCOUNTS[8]
FINALITY: Final = 6
TOP_UPS: Final = {"top_up_below": "20", "top_up_to": "30", "top_up_daily_limit": "40"}
_UNAVAILABLE: Final = (ChainUnavailable, LedgerUnavailable, LeaseLost)
_HEALING_ROUNDS: Final = 400
_RANGES: Final = (ranges.RANGE_MAX, 3, 16)
_DAY: Final = 86_400


def policy(seed: int, *, signed: bool, pays: bool) -> Policy:
    """Limits tight enough that a run meets each of them."""
    people = {"approvers": ["alice", "bob"], "expires_after": "2h"}
    agent = {
        "per_purchase_limit": "45",
        "daily_limit": "120",
        "total_limit": "600",
        "approval_threshold": "25",
    }
    return Policy.from_dict(
        {
            "organisation": {"total_limit": "1500", "daily_limit": "250", "time_zone": "UTC"},
            "agents": {name: agent for name in AGENTS},
            "providers": {
                name: {"address": address, "service": name}
                | ({"hosts": [host_of(name)]} if pays else {})
                for name, address in PROVIDERS.items()
            },
            **({"x402": TOP_UPS} if pays else {}),
            "approvals": approvals(seed) if signed else people,
            "escrow": {"deadline_after": "12h", "dispute_window": "1h", "create_within": "1h"},
        }
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """The terms under which a key was used first."""

    agent: str
    key: str
    provider: str
    amount: str


class Simulation:
    """A run of ``seed``: ``step`` does one thing and checks every invariant.

    The same seed gives the same run: ``fingerprint`` tells it. ``Broken`` names the invariant,
    and ``trail`` the last things that were done. Whether its approvers sign the seed says too, or
    ``signed``.
    """

    def __init__(self, seed: int, *, signed: bool | None = None, pays: bool = False) -> None:
        self.seed = seed
        self.signed = is_signed(seed) if signed is None else signed
        self.people = People(self, random.Random(seed + 3)) if self.signed else None
        self.payments = Payments(self) if pays else None
        self.actions = self.ACTIONS | (PAYMENT_ACTIONS if pays else {})
        self.rng = random.Random(seed)
        self.paces = random.Random(seed + 2)
        self.time = Time()
        self.faults = Faults(random.Random(seed + 1))
        self.trail: deque[str] = deque(maxlen=60)
        self.asked: dict[tuple[str, str], Asked] = {}
        self.foreign: set[str] = set()
        self.withdrawals = 0
        self.node = SimulatedNode(
            clock=lambda: self.time.now, seed=seed, rules=Rules(epoch_blocks=FINALITY)
        )
        self.folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_memory()))
        self.database = self.folder / "coordinator.db"
        self.secrets = {
            "TREASURY_PRIVATE_KEY": "0x" + sha256(b"key %d" % seed).hexdigest(),
            "COORDINATOR_ID_SECRET": sha256(b"secret %d" % seed).hexdigest(),
        }
        self.settings = {}
        if pays:
            self.secrets[KEY] = "0x" + sha256(b"wallet %d" % seed).hexdigest()
            self.settings["x402_signer"] = f"env:{KEY}"
        self.processes: list[Process | None] = [None, None]
        self.invariants = Invariants(self)
        with self._seeded():
            first = self._process(0).wiring
            self.treasury = first.signer.address
            # Faults strike a database that stands, with its policy in force.
            first.policies  # noqa: B018
            self._fund_treasury()
            if self.payments is not None:
                self.payments.open(first.wallet or "")
            self.node.machine.automine = False
            self.tampering = Tampering(self)

    # Running.

    def step(self) -> None:
        """One thing happens, chosen by the seed; Broken when an invariant does not hold."""
        with self._seeded():
            (name,) = self.rng.choices(list(self.actions), list(self.actions.values()))
            self.trail.append(name)
            self._survive(partial(self._act, name))
            self.invariants.check()

    def do(self, name: str) -> None:
        """The thing of this name happens, an action or a fault; for state machines."""
        with self._seeded():
            self.trail.append(name)
            self._survive(partial(self._act, name))
            self.invariants.check()

    def heal(self) -> None:
        """Faults stop; then everything comes to an end within a bound, or is stranded."""
        with self._seeded():
            self.faults.heal()
            self.tampering.take_back()
            self.time.skew = 0
            self.node.call("anvil_setBalance", self.treasury, hex(10**18))
            self._admin(genesis.USDC, token_abi().call("unpause"))
            self._admin(genesis.KERNEL, kernel_abi().call("unpause"))
            for address in PROVIDERS.values():
                self._admin(genesis.USDC, token_abi().call("unBlacklist", address))
            for number in range(_HEALING_ROUNDS):
                self.trail.append(f"heal {number}")
                self._survive(self._round)
                self.node.mine(2)
                self.time.go(60 if number % 3 else 4 * 3600)
                self.invariants.check()
                if number % 5 == 4:
                    self._survive(self._unpause)
                if number > 20 and self.invariants.at_rest():
                    break
            self.invariants.check_end()

    def close(self) -> None:
        for process in self.processes:
            if process is not None:
                process.die()
        self.invariants.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def fingerprint(self) -> str:
        """The head's hash: of two runs of one seed it is the same."""
        return self.node.head_hash

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Ids are random in the product, and ranges long; here both come from the seed."""
        real, most = secrets.token_hex, ranges.RANGE_MAX
        secrets.token_hex = lambda n=32: self.rng.getrandbits(8 * n).to_bytes(n, "big").hex()
        ranges.RANGE_MAX = _RANGES[self.seed % len(_RANGES)]
        try:
            yield
        finally:
            secrets.token_hex, ranges.RANGE_MAX = real, most

    def _survive(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Killed:
            self._kill_whoever_acted()
        except _UNAVAILABLE as fault:
            self.invariants.refused(fault)
            self.trail.append(f"  {type(fault).__name__}: {str(fault)[:80]}")
        except Refused as refused:
            self.trail.append(f"  refused: {refused.message[:60]}")
        except Broken:
            raise
        except Exception as fault:
            raise Broken("an executor or a caller was stopped", repr(fault)) from fault

    def _kill_whoever_acted(self) -> None:
        process = self.processes[self._acting]
        self.trail.append(f"  killed {self._acting}")
        if process is not None:
            process.die()
        self.processes[self._acting] = None

    def _process(self, index: int) -> Process:
        self._acting = index
        process = self.processes[index]
        if process is None:
            process = self.processes[index] = Process(
                self.database,
                self.node,
                self.time,
                self.faults,
                policy=policy(self.seed, signed=self.signed, pays=self.payments is not None),
                secrets=self.secrets,
                finality=str(FINALITY),
                confirmations=str(1 + self.seed % 2),
                max_fee_gwei="40",
                **self.settings,
            )
        if self.people is not None and (in_force := self.people.policy()) is not None:
            process.opened.policy_source = in_force
        return process

    @property
    def _any(self) -> Process:
        return self._process(int(self.rng.random() < 0.15))

    # What payments need.

    agents: Final = AGENTS
    finality: Final = FINALITY
    providers: Final = PROVIDERS

    def someone(self) -> Process:
        """One of the two processes, the first one mostly."""
        return self._any

    @staticmethod
    def asked_for(agent: str, key: str, provider: str, amount: str) -> Asked:
        return Asked(agent, key, provider, amount)

    # What faults need.

    def terms(self, agent: str, key: str, provider: str, amount: str) -> Asked:
        """Note what is about to be asked under a fresh key."""
        asked = Asked(agent, key, provider, amount)
        return self.asked.setdefault((agent, key), asked)

    def open_process(self, index: int) -> Process:
        """One of the two processes, started if need be."""
        return self._process(index)

    def end_processes(self) -> None:
        """Both processes are gone; their leases stay as they are."""
        for process in filter(None, self.processes):
            process.die()
        self.processes = [None, None]

    # What happens.

    def _act(self, name: str) -> None:
        if name in PAYMENT_ACTIONS:
            assert self.payments is not None
            getattr(self.payments, name)()
        elif name in self.ACTIONS:
            getattr(self, f"_{name}")()
        else:
            strike(self, name)

    # What may happen, and how often.
    ACTIONS: Final = {
        "round": 38,
        "mine": 26,
        "request": 14,
        "approve": 5,
        "provider": 14,
        "settle": 6,
        "dispute": 1,
        "resolve": 1,
        "cancel": 2,
        "withdraw": 1,
        "pause": 1,
        "unpause": 9,
        "reconcile": 1,
        "time": 5,
        "fault": 10,
        "reorg": 5,
        "kill": 2,
    }

    def _round(self) -> None:
        process = self._any
        executor = process.wiring.executor
        try:
            if not self._run(executor):
                self.invariants.had_to_wait(process)
        finally:
            if executor.acting:
                self.invariants.acted()
        self.time.go(1)

    def _run(self, executor: Executor) -> bool:
        """Run one of the rounds that its thread runs: whole, for who asked, or for a block."""
        way = self.paces.choice(("whole", "whole", "asked", "block"))
        if way == "whole":
            return executor.run_once()
        return executor.run_round(quick=True, again=way == "asked", finalise=False)

    def _mine(self) -> None:
        self.node.mine(self.rng.choice((1, 1, 1, 2, 5)))
        self.time.go(2)

    def _request(self) -> None:
        rng = self.rng
        agent, provider = rng.choice(AGENTS), rng.choice(list(PROVIDERS))
        key, amount = f"key-{rng.randrange(400)}", f"{rng.randrange(100, 5000) / 100:.2f}"
        known = self.asked.get((agent, key))
        if known is not None and rng.random() < 0.8:
            provider, amount = known.provider, known.amount
        terms = Asked(agent, key, provider, amount)
        coordinator = self._any.coordinator
        # The promise may have been given although its answer is lost.
        self.asked.setdefault((agent, key), terms)
        try:
            purchase = coordinator.agent(agent).purchase(
                provider=provider,
                amount=amount,
                purpose="simulated",
                idempotency_key=key,
                wait=False,
            )
        except IdempotencyConflict:
            self.invariants.conflicted(terms)
            return
        if purchase.denied and known is None:
            del self.asked[agent, key]
            return
        if not purchase.denied:
            self.asked[agent, key] = terms
        self.invariants.answered(terms, purchase)

    def _approve(self) -> None:
        coordinator = self._any.coordinator
        waiting = coordinator.approvals()
        if not waiting:
            if self.people is not None:
                self.people.look_after(coordinator)
            return
        approval, approver = self.rng.choice(waiting), self.rng.choice(("alice", "bob"))
        if self.people is not None:
            self.people.decide(coordinator, approval)
            return
        if self.rng.random() < 0.75:
            # It may count although the answer is lost.
            self.invariants.approvals.add(approval.purchase.id)
            answer = coordinator.approve(approval.id, approver=approver)
            if answer.done:
                self.invariants.admitted(answer.purchase)
        else:
            coordinator.reject(approval.id, approver=approver, reason="no")

    def _escrow(self, *states: EscrowState) -> tuple[str, str] | None:
        """(escrow id, provider) of one of our escrows in one of ``states`` on the chain."""
        rows = self.invariants.rows("SELECT escrow_id, provider FROM escrows ORDER BY seq")
        fitting = [row for row in rows if self.state_of(row[0]) in states]
        return self.rng.choice(fitting) if fitting else None

    def state_of(self, escrow_id: str) -> EscrowState | None:
        """The kernel's state of an escrow; None when it has none."""
        answer = self.node.ask(
            [
                (
                    "eth_call",
                    [
                        {
                            "to": genesis.KERNEL,
                            "data": kernel_abi().call("getTransaction", escrow_id),
                        }
                    ],
                )
            ]
        )[0]
        if not isinstance(answer, str):
            return None
        return STATES[int(answer[2 + 64 * 3 : 2 + 64 * 4], 16)]

    def _provider(self) -> None:
        found = self._escrow(EscrowState.FUNDED, EscrowState.STARTED)
        if found is None:
            return
        escrow_id, provider = found
        started = self.state_of(escrow_id) is EscrowState.STARTED
        after = EscrowState.DELIVERED if started else EscrowState.STARTED
        if self.rng.random() < 0.1:
            after = EscrowState.CANCELLED
        self._move(provider, escrow_id, after)

    def _move(self, sender: str, escrow_id: str, after: EscrowState, proof: bytes = b"") -> None:
        data = kernel_abi().call("transitionState", escrow_id, STATES.index(after), proof)
        self.node.send_as(sender, genesis.KERNEL, data)

    def _purchase_in(self, *statuses: str) -> str | None:
        marks = ",".join("?" * len(statuses))
        rows = self.invariants.rows(
            f"SELECT id FROM purchases WHERE status IN ({marks}) ORDER BY seq", *statuses
        )
        return self.rng.choice(rows)[0] if rows else None

    def _settle(self) -> None:
        if purchase_id := self._purchase_in("delivered"):
            self._any.wiring.treasury.settle(purchase_id, approver="alice")
            self._sign_proposals()

    def _dispute(self) -> None:
        purchase_id = self._purchase_in("delivered")
        if purchase_id is None:
            return
        wiring = self._any.wiring
        escrow_id = wiring.purchases.get(purchase_id).escrow_id
        assert escrow_id is not None
        try:
            bond = wiring.chain.escrow(escrow_id).bond
        except TxReverted as gone:
            # Its block was lost, and the books do not know it yet.
            raise ChainUnavailable(str(gone)) from gone
        signature = None
        if self.people is not None:
            signature = self.people.dispute(wiring.treasury, purchase_id, bond)
        wiring.treasury.dispute(
            purchase_id, approver="alice", reason="empty", bond=bond, signature=signature
        )

    def _resolve(self) -> None:
        found = self._escrow(EscrowState.DISPUTED)
        if found is None:
            return
        rows = self.invariants.rows("SELECT amount FROM escrows WHERE escrow_id = ?", found[0])
        amount = rows[0][0]
        ours = self.rng.choice((0, amount // 2, amount))
        proof = b"".join(n.to_bytes(32, "big") for n in (ours, amount - ours, int(ours > 0)))
        self._move(genesis.ADMIN, found[0], EscrowState.SETTLED, proof)

    def _cancel(self) -> None:
        if purchase_id := self._purchase_in("awaiting_approval", "approved", "created"):
            self._any.coordinator.cancel(purchase_id, by="ada")

    def _withdraw(self) -> None:
        wiring = self._any.wiring
        self.withdrawals += 1
        wiring.treasury.withdraw(to=PAYEE, amount="3", approver="alice", reason="to the bank")
        self._sign_proposals()

    def _pause(self) -> None:
        scope = self.rng.choice(({}, {"agent": "ada"}, {"provider": "papers"}))
        self._any.coordinator.pause("simulated", by="olga", **scope)

    def _unpause(self) -> None:
        """An approver looks, and whoever runs token, kernel and database too."""
        if self.rng.random() < 0.5:
            self.tampering.take_back()
        self._admin(genesis.USDC, token_abi().call("unpause"))
        self._admin(genesis.KERNEL, kernel_abi().call("unpause"))
        coordinator = self._any.coordinator
        for pause in coordinator.wiring.operations.pauses():
            scope: dict[str, Any] = {}
            if pause.scope_kind != "organisation":
                scope = {pause.scope_kind: pause.scope_id or True}
            coordinator.unpause("looked at", by="alice", **scope)
        self._sign_proposals()

    def _sign_proposals(self) -> None:
        """Where approvers sign, what one of them has proposed waits for it."""
        if self.people is not None:
            self.people.sign_proposals(self._any.coordinator)

    def _reconcile(self) -> None:
        self._any.coordinator.reconcile()

    def _time(self) -> None:
        self.time.go(self.rng.choice((5, 5, 30, 30, 60, 60, 600, 1800, 3600, _DAY // 3)))

    def _kill(self) -> None:
        self._process(self.rng.randrange(2))
        self.faults.struck["kill:anywhere"] += 1
        raise Killed

    # Faults.

    def _fault(self) -> None:
        self.rng.choice(kinds(self))()

    def _reorg(self) -> None:
        if self.rng.random() < 0.7:
            # Blocks that the books have seen are the ones whose loss matters.
            self._survive(self._round)
        deep = self.rng.random() < 0.04
        depth = self.rng.randint(FINALITY, FINALITY + 3) if deep else self.rng.randint(1, 4)
        depth = min(depth, self.node.height - 3)
        if depth < 1:
            return
        first = self.node.height - depth + 1
        hashes = [
            mined.tx.hash
            for block in self.node.machine.chain.span(first, self.node.height)
            for mined in block.mined
        ]
        placed = {h: self.rng.randrange(depth) for h in hashes if self.rng.random() < 0.4}
        lost = {h for h in hashes if self.rng.random() < 0.3}
        # A transaction goes into no block before the one that was its sender's last.
        latest = 0
        for tx_hash, offset in placed.items():
            latest = placed[tx_hash] = max(latest, offset)
        self.node.reorg(depth, placed=placed, lost=lost)
        self.node.mine(2)
        self.faults.struck["reorg_below_final" if deep else "reorg"] += 1
        self.invariants.reorganised(below_final=deep)

    def _admin(self, to: str, data: str) -> None:
        self.node.send_as(genesis.ADMIN, to, data)

    def _fund_treasury(self) -> None:
        self.node.call("anvil_setBalance", self.treasury, hex(10**18))
        mint = token_abi().call("mint", self.treasury, Usdc("800").base_units)
        self._admin(genesis.USDC, mint)


def _memory() -> str | None:
    """A file system in memory, where there is one: the runs test order, not disks."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: faults that struck and purchases, each by kind, and its fingerprint.

    ``signed``: creates above the threshold, where approvers sign; ``again``: purchases that had to
    wait for them once more. ``taken``: payments for HTTP requests; ``unused``: those that ended
    without.
    """

    seed: int
    faults: Counter[str]
    purchases: Counter[str]
    fingerprint: str
    signed: int = 0
    again: int = 0
    taken: int = 0
    unused: int = 0


def run(seed: int, steps: int, *, signed: bool | None = None, pays: bool = False) -> Outcome:
    """A whole run; Broken when an invariant breaks, with what was done last as a note."""
    simulation = Simulation(seed, signed=signed, pays=pays)
    try:
        for _ in range(steps):
            simulation.step()
        simulation.heal()
        rows = simulation.invariants.rows("SELECT status, count(*) FROM purchases GROUP BY status")
        statuses = Counter({status: count for status, count in rows})
        waited = simulation.invariants.rows(
            "SELECT count(*) FROM audit WHERE event = 'purchase_awaiting_approval'"
            " AND body LIKE '%it has to be approved again%'"
        )
        return Outcome(
            seed,
            simulation.faults.struck,
            statuses,
            simulation.fingerprint,
            signed=simulation.people.paid if simulation.people is not None else 0,
            again=waited[0][0],
            taken=len(simulation.payments.taken) if simulation.payments is not None else 0,
            unused=simulation.invariants.unused(),
        )
    except Broken as broken:
        broken.add_note(f"seed {seed}, after: " + " · ".join(simulation.trail))
        raise
    finally:
        simulation.close()
