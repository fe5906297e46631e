"""The foundation of one coordinator, built from its settings: chain, key, database, contracts.

Building changes nothing: ``startup`` has the steps that write, claim or refuse.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.books.safe_check import SafeCheck
from coordinator.chain.networks import NETWORKS, Deployment, Network
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.signers import Signer
from coordinator.config import Settings, id_secret
from coordinator.domain.audit import Head
from coordinator.domain.chain.escrow_key import audit_key, secret_mark
from coordinator.domain.errors import ConfigurationError, LedgerTampered
from coordinator.domain.observed import Emit, Event
from coordinator.domain.policy.payees import Contracts, contracts_of
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, Reach, Ticks
from coordinator.ledger.audit.hosts import OwnHost
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.chain.safe_checks import SafeChecks
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
    load_former_keys,
    load_host,
    load_treasury_key,
    load_x402_key,
    open_ledger,
    throwaway_ledger,
)

if TYPE_CHECKING:
    from coordinator.chain.evm.payer import Payer
    from coordinator.chain.simulated import SimulatedRpc
    from coordinator.chain.simulated.simulation import Simulation


class Foundation(Ledger):
    """The parts that every other needs: chain, key, database, contracts, host.

    Each is built when it is first used. The database is opened then, and brought to the present
    schema. Without a ``clock`` it is the database's: several hosts that share one decide by the
    same. ``rpc`` is a transport to use instead of the settings' endpoints. On the simulated network
    what is not given is made for this process: the chain, its clock, the secrets and the database.
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
        self._listed_count: int | None = None
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

    @abstractmethod
    def wake(self) -> None:
        """Let the executor of this process, and those who wait in it, look at once."""

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
    def former_signers(self) -> Sequence[Signer]:
        """The signers of the accounts that the treasury had before, the last one first."""
        return load_former_keys(self.settings, self.secrets, self.network)

    @cached_property
    def x402_signer(self) -> Signer | None:
        """The signer of the wallet that pays for HTTP requests, if there is one."""
        own = [self.signer.address, *self.own_addresses]
        return load_x402_key(self.settings, self.secrets, self.network, own)

    @property
    def treasury_address(self) -> str:
        """The account whose USDC is paid: the signer's own, or the Safe that it is a module of."""
        return self.settings.safe_address or self.signer.address

    @property
    def own_addresses(self) -> Sequence[str]:
        return [self.treasury_address, *(former.address for former in self.former_accounts)]

    @property
    def former_accounts(self) -> Sequence[Signer]:
        """The former signers that had USDC of their own: a Safe's keys have none."""
        return () if self.settings.safe_address else self.former_signers

    @property
    def wallet(self) -> str | None:
        return self.x402_signer.address if self.x402_signer is not None else None

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
        treasury, signer = self.treasury_address, self.signer.address
        return Identity(
            d.chain_id, self._genesis, d.kernel, d.vault, d.usdc, treasury, signer, mark
        )

    @cached_property
    def contracts(self) -> Contracts:
        """The treasury and the rail's contracts, none of which can be paid."""
        d = self.deployment
        return contracts_of(
            treasury=self.treasury_address,
            signer=self.signer.address,
            usdc=d.usdc,
            vault=d.vault,
            kernel=d.kernel,
            formers=[former.address for former in self.former_signers],
            wallet=self.wallet,
        )

    @property
    def _payer(self) -> Payer | None:
        """The Safe that pays; None where the account that signs pays itself."""
        s = self.settings
        if s.safe_address is None or s.roles_address is None:
            return None
        from coordinator.chain.safe.payer import SafePayer

        d = self.deployment
        return SafePayer(
            *(s.safe_address, s.roles_address),
            usdc=d.usdc,
            vault=d.vault,
            listed=self._listed,
        )

    def count_listed(self) -> None:
        """Read anew how many providers the role lists: the owners write it from the policy's.

        Calls are composed in a transaction, where nothing else may be read from the database.
        """
        try:
            self._listed_count = len(self.policies.current().providers)
        except (ConfigurationError, LedgerTampered):
            # Whoever decides by the policy tells what is wrong with it.
            self._listed_count = self._listed_count or 0

    def _listed(self) -> int:
        if self._listed_count is None:
            self.count_listed()
        return self._listed_count or 0

    @cached_property
    def _safe_check(self) -> SafeCheck | None:
        """The look at a Safe's storage; None where the account that signs pays itself."""
        s = self.settings
        if s.safe_address is None or s.roles_address is None:
            return None
        from coordinator.chain.safe.checking import SafeInspector
        from coordinator.chain.safe.configuration import Places

        d = self.deployment
        inspector = SafeInspector(
            rpc=self.rpc,
            places=Places(
                safe=s.safe_address,
                roles=s.roles_address,
                kernel=d.kernel,
                vault=d.vault,
                usdc=d.usdc,
            ),
            member=self.signer.address,
            wallet=self.wallet,
        )
        return SafeCheck(
            read=lambda: inspector.read(self.policies.current()),
            checks=SafeChecks(self.transactions),
            clock=self.clock,
            ticks=self.ticks,
        )

    @cached_property
    def _id_secret(self) -> bytes:
        return id_secret(self.secrets)

    @cached_property
    def audit(self) -> AuditLog:
        key = audit_key(self._id_secret)
        present, *formers = self.own_addresses
        return AuditLog(
            self.database,
            key,
            treasury=present,
            signer=self.signer.address,
            formers=formers,
            own=lambda: self.own_host,
        )

    @cached_property
    def own_host(self) -> OwnHost:
        """This host, whose key signs what it writes."""
        return load_host(self.settings, self.secrets, self.network, self.signer)

    def verify_audit(self, expected: Head | None = None) -> Verification:
        """Recompute the audit log, and compare with it what the other tables hold."""
        return verify(self.audit, expected, pins=self.settings.pins)

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
