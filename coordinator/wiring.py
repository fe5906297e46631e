"""Build the objects of one coordinator from its settings; the only file that knows every part.

Building changes nothing: ``startup`` has the steps that write, claim or refuse.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.alerts.notify_urls import NotifyUrls
from coordinator.books.backup import Backup, back_up
from coordinator.books.follower import Follower
from coordinator.books.rebuilder import Rebuilder
from coordinator.books.reconciler import Reconciler
from coordinator.books.reporting import Reporter
from coordinator.budgets.budgets import Budgets
from coordinator.budgets.upkeep import Upkeep
from coordinator.chain.actp.terms import MINIMUM_AMOUNT
from coordinator.chain.networks import NETWORKS, Deployment, Network
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.signers import Signer
from coordinator.config import Secrets, Settings, id_secret
from coordinator.domain.access.destinations import Networks, networks
from coordinator.domain.audit import Head
from coordinator.domain.chain.escrow_key import EscrowKeys, audit_key, secret_mark
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.observed import Emit, Event
from coordinator.domain.policy.payees import Contracts, contracts_of
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Chain, Clock, Reach, Ticks
from coordinator.domain.usdc import Usdc
from coordinator.executor import Executor
from coordinator.executor.blocking import Blockers
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.tempo import Tempo
from coordinator.ledger.audit.hosts import OwnHost
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.proofs.verification import Verification, verify
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.process_bound import Opened
from coordinator.ledger.tx.identity import Identity
from coordinator.ledger.tx.transaction import TxUrl
from coordinator.startup import (
    ADDRESS_OF_DATABASE,
    address_of_database,
    find_contracts,
    find_genesis,
    kill_switch,
    load_host,
    load_treasury_key,
    open_ledger,
    throwaway_ledger,
)
from coordinator.treasury.fresh_balances import FreshBalances
from coordinator.treasury.treasury import Treasury
from coordinator.webhooks.delivery import Deliverer
from coordinator.webhooks.sending import Sender

if TYPE_CHECKING:
    from coordinator.chain.simulated import SimulatedRpc
    from coordinator.chain.simulated.simulation import Simulation


class Wiring(Ledger):
    """The parts of one coordinator, each built when it is first used.

    The database is opened then, and brought to the present schema. The chain's parts import web3
    and are built only by what acts or reads the chain. Without a ``clock`` it is the database's:
    several hosts that share one decide by the same. ``rpc`` is a transport to use instead of the
    settings' endpoints. On the simulated network what is not given is made for this process: the
    chain, its clock, the secrets and the database.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        *,
        policy: Policy | Path | None = None,
        clock: Clock | None = None,
        ticks: Ticks = time.monotonic,
        reach: Reach = lambda point: None,
        rpc: Rpc | None = None,
    ) -> None:
        self.settings = settings
        self.secrets = secrets
        self.ticks = ticks
        self.reach = reach
        # Whether this process may ask the chain; whoever only decides does not.
        self.acts = True
        # The policy that was given, or the file that should have it.
        self.policy_source = policy if policy is not None else settings.policy_file
        self._clock = clock
        self._rpc = rpc
        self._opened = Opened("this coordinator")
        self._remove_ledger: Callable[[], object] = lambda: None
        self._observers: list[Emit] = []
        # Each is told the seconds of every decision on a request.
        self.timers: list[Callable[[float], object]] = []
        if self.network.simulated:
            from coordinator.chain.simulated.simulation import throwaway_secrets

            self.secrets = throwaway_secrets(secrets)

    @cached_property
    def clock(self) -> Clock:
        if self._clock is None and self.network.simulated:
            return self._simulated_rpc.node.now
        return self._clock or self.database.now

    @cached_property
    def network(self) -> Network:
        return NETWORKS[self.settings.network]

    @property
    def tx_url(self) -> TxUrl:
        return self.network.tx_url

    @cached_property
    def rpc(self) -> Rpc:
        if self._rpc is None and not self.network.simulated:
            return Rpc(self.settings.rpc_urls or (self.network.rpc_url,), ticks=self.ticks)
        return self._rpc or self._simulated_rpc

    @cached_property
    def _simulated_rpc(self) -> SimulatedRpc:
        from coordinator.chain.simulated.simulation import simulated_rpc

        return simulated_rpc(self._rpc, self.network.chain_ids[0], self.signer.address)

    @cached_property
    def simulation(self) -> Simulation | None:
        """Controls of the simulated chain, for tests; None on other networks."""
        if not self.network.simulated:
            return None
        from coordinator.chain.simulated.simulation import Simulation

        return Simulation(self._simulated_rpc, wake=self.wake)

    @cached_property
    def signer(self) -> Signer:
        if self.settings.signer == ADDRESS_OF_DATABASE:
            return address_of_database(self.identity_book)
        return load_treasury_key(self.settings, self.secrets, self.network)

    @cached_property
    def database(self) -> Database:
        # A missing key or id secret is told before a file is made.
        self._id_secret  # noqa: B018
        if self.settings.signer != ADDRESS_OF_DATABASE:
            self.signer  # noqa: B018
        url = self.settings.database_url
        if self.network.simulated and "database_url" not in self.settings.model_fields_set:
            url, self._remove_ledger = throwaway_ledger(self)
        return open_ledger(url)

    @cached_property
    def _genesis(self) -> str:
        return find_genesis(self.network, self.rpc, self.identity_book)

    @cached_property
    def deployment(self) -> Deployment:
        """The contracts in use."""
        if self.network.simulated:
            return self._simulated_rpc.node.deployment
        return find_contracts(self.settings, self.network, self.rpc, lambda: self._genesis)

    @property
    def identity(self) -> Identity:
        """The identity that a database of this treasury is claimed for."""
        d = self.deployment
        mark = secret_mark(self._id_secret)
        return Identity(
            d.chain_id, self._genesis, d.kernel, d.vault, d.usdc, self.signer.address, mark
        )

    @cached_property
    def contracts(self) -> Contracts:
        """The treasury and the rail's contracts, none of which can be paid."""
        d = self.deployment
        return contracts_of(
            treasury=self.signer.address, usdc=d.usdc, vault=d.vault, kernel=d.kernel
        )

    @cached_property
    def _id_secret(self) -> bytes:
        return id_secret(self.secrets)

    @cached_property
    def audit(self) -> AuditLog:
        key = audit_key(self._id_secret)
        return AuditLog(self.database, key, treasury=self.signer.address, own=lambda: self.own_host)

    @cached_property
    def own_host(self) -> OwnHost:
        """This host, whose key signs what it writes."""
        return load_host(self.settings, self.secrets, self.network, self.signer)

    def verify_audit(self, expected: Head | None = None) -> Verification:
        """Recompute the audit log, and compare with it what the other tables hold."""
        return verify(self.audit, expected)

    @cached_property
    def budgets(self) -> Budgets:
        return Budgets(
            costs=self.costs,
            runs=self.runs,
            increases=self.increases,
            allocations=self.allocations,
            overlays=self.overlays,
            limits=self.limits,
            policies=self.policies,
            clock=self.clock,
        )

    @cached_property
    def notify_urls(self) -> NotifyUrls:
        return NotifyUrls(self.policies, self.policy_source, self.secrets)

    @cached_property
    def webhook_networks(self) -> Networks:
        """The networks besides public ones that webhooks may be in."""
        return networks(self.settings.webhook_allow)

    @cached_property
    def deliverer(self) -> Deliverer:
        return Deliverer(
            outbox=self.outbox,
            webhooks=self.webhooks,
            events=self.events,
            leases=self.webhook_leases,
            changes=self.changes,
            secrets=self.webhook_secrets,
            sender=Sender(self.webhook_networks),
            clock=self.clock,
            ticks=self.ticks,
        )

    @cached_property
    def blockers(self) -> Blockers:
        return Blockers(
            operations=self.operations,
            policies=self.policies,
            notices=self.notices,
            leases=self.leases,
            trouble=lambda: self.executor.trouble if "executor" in self.__dict__ else None,
            starting=lambda: "executor" in self.__dict__ and self.executor.starting,
        )

    @cached_property
    def chain(self) -> Chain:
        from coordinator.chain.actp.chain import ActpChain

        s = self.settings
        chain = ActpChain(
            self.rpc,
            self.network,
            self.deployment,
            self.signer,
            confirmations=s.confirmations,
            finality=s.finality or self.network.finality,
            max_fee_wei=s.max_fee_wei,
        )
        chain.check()
        return chain

    @cached_property
    def follower(self) -> Follower:
        start = self.settings.start_block
        return Follower(
            chain=self.chain,
            books=self.books,
            steps=self.steps,
            start_block=self.deployment.block if start is None else start,
            clock=self.clock,
            reach=self.reach,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            chain=self.chain,
            books=self.books,
            journal=self.journal,
            comparisons=self.comparisons,
            operations=self.operations,
            row_faults=partial(self.evidence.row_faults, self.database),
            follower=self.follower,
            clock=self.clock,
            writes_books=self.signer.can_sign,
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The audit log as this host's worker has seen it; on a simulated chain this process."""
        name = f"audit-{self.deployment.chain_id}-{self.signer.address.lower()}"
        if self._genesis:
            name += f"-{self._genesis[2:10]}"
        path = None if self.network.simulated else self.settings.state_folder / f"{name}.json"
        return Checkpoint(path, self.audit, self.checkpoints)

    @cached_property
    def executor(self) -> Executor:
        return Executor(
            chain=self.chain,
            ledger=self,
            checkpoint=self.checkpoint,
            follow=lambda seen, final: self.follower.follow(seen, finalise=final).receipts,
            drift=self.reconciler.drift,
            upkeep=Upkeep(budgets=self.budgets, notices=self.notices, ticks=self.ticks).run,
            max_fee_wei=self.settings.max_fee_wei,
            ticks=self.ticks,
            allowance_limit=Usdc(self.settings.allowance_limit),
            clock=self.clock,
            reach=self.reach,
            tempo=Tempo(
                ticks=self.ticks,
                local=self.network.local,
                poll_seconds=self.settings.poll_seconds,
            ),
        )

    @cached_property
    def escrow_keys(self) -> EscrowKeys:
        return EscrowKeys(self._id_secret, self.deployment.chain_id, self.deployment.kernel)

    @cached_property
    def _fresh_balances(self) -> FreshBalances:
        return FreshBalances(
            lambda: self.chain, self.operations, self.signer.address, self.clock, lambda: self.acts
        )

    @cached_property
    def treasury(self) -> Treasury:
        return Treasury(
            group_commit=self.group_commit,
            operations=self.operations,
            evidence=self.evidence,
            escrow_keys=self.escrow_keys,
            address=self.signer.address,
            contracts=self.contracts,
            minimum=MINIMUM_AMOUNT,
            clock=self.clock,
            reach=self.reach,
            wake=self.wake,
            emit=self.emit,
            read_balances=self._fresh_balances.read,
            measure=self._measure,
        )

    @cached_property
    def reporter(self) -> Reporter:
        return Reporter(ledger=self, clock=self.clock)

    @cached_property
    def rebuilder(self) -> Rebuilder:
        return Rebuilder(
            chain=self.chain,
            books=self.books,
            operations=self.operations,
            follower=self.follower,
            reconciler=self.reconciler,
            audit=self.audit,
            imports=self.imports,
            checkpoint=self.checkpoint,
            clock=self.clock,
        )

    def back_up(self, path: Path) -> Backup:
        """A checked copy of the database; needs no chain. InvalidRequest before the first use."""
        if self.identity_book.identity() is None:
            raise InvalidRequest(f"the database {self.database.name} has nothing to back up yet")
        return back_up(self.database, path, self.audit)

    def on_event(self, emit: Emit) -> None:
        """Call ``emit`` with what this process decides, holds, posts and voids, after commits."""
        self._observers.append(emit)

    def _measure(self, seconds: float) -> None:
        for timer in self.timers:
            timer(seconds)

    def emit(self, event: Event) -> None:
        """Give the event to whoever observes; the port of everything that has events."""
        for observer in self._observers:
            observer(event)

    def close(self) -> None:
        """Stop the executor, let others act, and close the database.

        Closing again does nothing, nor does closing what the parent of a forked process uses.
        """
        if not self._opened.here():
            return
        self._opened.close()
        built = self.__dict__
        if "deliverer" in built:
            self.deliverer.stop()
        if "executor" in built:
            self.executor.stop()
        if "changes" in built:
            self.changes.close()
        if "database" in built:
            self.database.close()
        self._remove_ledger()

    def check(self) -> None:
        """Refuse a forked child (ForkedProcess) and any use after the close (CoordinatorClosed)."""
        self._opened.check()

    def here(self) -> bool:
        """Return False in a process that was forked from the one that uses it."""
        return self._opened.here()

    def wake(self) -> None:
        """Let the executor of this process, and those who wait in it, look at once."""
        if "executor" in self.__dict__:
            self.executor.wake()
        if "changes" in self.__dict__:
            self.changes.look()


def _free_builders() -> None:
    """Let a forked child build parts that a thread of its parent was building (Python 3.11)."""
    for part in (*vars(Wiring).values(), *vars(Ledger).values()):
        if hasattr(part, "lock") and isinstance(part, cached_property):
            setattr(part, "lock", threading.RLock())  # noqa: B010 - unknown to type checkers


os.register_at_fork(after_in_child=_free_builders)


def wire(
    env: Mapping[str, str], settings: Settings, *, policy: Policy | Path | None = None
) -> Wiring:
    """The wiring of an environment; COORDINATOR_KILL_AT is for tests of recovery."""
    return Wiring(
        settings, Secrets(env), policy=policy, reach=kill_switch(env.get("COORDINATOR_KILL_AT"))
    )
