"""Start a coordinator: the steps that ask the chain, write, or refuse, each by its name.

Building objects is ``wiring``; ``api.runtime`` says when these steps are taken.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from coordinator.chain.networks import (
    Deployment,
    Network,
    local_deployment_path,
    read_local_deployment,
    shipped_deployment,
)
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer, refuse_development_key
from coordinator.config import Settings, read_policy
from coordinator.domain.errors import ChainUnavailable, ConfigurationError, LedgerTampered
from coordinator.domain.hosts import HostRole, host_name_of
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint, Reach
from coordinator.ledger.audit.host_key import HostKey
from coordinator.ledger.audit.hosts import OwnHost
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.tx.identity import Identity, IdentityBook
from coordinator.ledger.tx.policies import PolicyBook

log = logging.getLogger(__name__)

_ANY_GENESIS = ""
# A setting of whoever signs nothing: the treasury is the one that the database belongs to.
ADDRESS_OF_DATABASE: Final = "address"


def open_ledger(url: str) -> Database:
    """Open the database and bring its schema up to date; nothing stays open when that fails."""
    database = open_database(url)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def throwaway_ledger(owner: object) -> tuple[str, Callable[[], object]]:
    """Return the URL of a database that does not outlive ``owner``, and what removes it sooner."""
    folder = tempfile.mkdtemp(prefix="coordinator-")
    remove = weakref.finalize(owner, _remove, folder, os.getpid())
    return f"sqlite:///{folder}/coordinator.db", remove


def _remove(folder: str, pid: int) -> None:
    # A forked child that ends runs this too.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def load_treasury_key(settings: Settings, secrets: Mapping[str, str], network: Network) -> Signer:
    """Return the treasury's signer; ConfigurationError for one that the network forbids."""
    return _load_key(settings.signer, secrets, network, "COORDINATOR_SIGNER")


def load_former_keys(
    settings: Settings, secrets: Mapping[str, str], network: Network
) -> list[Signer]:
    """Return the signers of the accounts that the treasury had before, the last one first."""
    name = "COORDINATOR_FORMER_SIGNERS"
    return [_load_key(spec, secrets, network, name) for spec in settings.former_signer_specs]


def load_x402_key(
    settings: Settings, secrets: Mapping[str, str], network: Network, own: Sequence[str]
) -> Signer | None:
    """Return the signer of the wallet that pays for HTTP requests; None where there is none.

    ConfigurationError when it is one of our ``own`` accounts.
    """
    if not settings.x402_signer:
        return None
    name = "COORDINATOR_X402_SIGNER"
    signer = _load_key(settings.x402_signer, secrets, network, name)
    if signer.address in own:
        raise ConfigurationError(
            f"{name} is {signer.address}, an account of the treasury: payments for HTTP requests"
            " need a wallet of their own"
        )
    return signer


def _load_key(spec: str, secrets: Mapping[str, str], network: Network, setting: str) -> Signer:
    if spec.startswith("env:") and network.name == "base":
        raise ConfigurationError(
            f"{setting}=env:… is refused on base: use keystore:PATH, aws-kms:KEY_ID or pkcs11:URI"
        )
    signer = load_signer(spec, secrets, setting=setting)
    if not (network.local or network.simulated):
        refuse_development_key(signer.address, network.name)
    return signer


def address_of_database(book: IdentityBook) -> Signer:
    """Return a signer that has the address of the database's key and signs nothing."""
    known = book.identity()
    if known is None:
        raise ConfigurationError(
            "COORDINATOR_SIGNER=address takes the treasury that the database belongs to, and it"
            " belongs to none yet: write address:0x…, or start the worker first"
        )
    return Signer(known.signer)


def load_host(
    settings: Settings, secrets: Mapping[str, str], network: Network, signer: Signer
) -> OwnHost:
    """Return this host; its key is made where there is none. A simulated network keeps none.

    Whoever has the treasury's key has a host key of its own file: another process beside it, which
    only decides, must not sign as a worker.
    """
    role = HostRole.WORKER if signer.can_sign else HostRole.DECIDER
    return OwnHost(
        _host_key(settings, secrets, network, role),
        settings.host_name or host_name_of(platform.node(), role),
        signer.sign_typed if signer.can_sign else None,
    )


def _host_key(
    settings: Settings, secrets: Mapping[str, str], network: Network, role: HostRole
) -> HostKey:
    if settings.host_key_file is not None:
        return HostKey.load(settings.host_key_file.expanduser())
    if text := secrets.get("COORDINATOR_HOST_KEY"):
        return HostKey.parse(text, "COORDINATOR_HOST_KEY")
    if network.simulated:
        return HostKey.generate()
    return HostKey.load(settings.state_folder / f"{role}.hostkey")


def find_genesis(network: Network, rpc: Rpc, book: IdentityBook) -> str:
    """Return a local chain's genesis hash, from the database where the chain is down.

    Other networks have one chain under one id: theirs is empty.
    """
    if not network.local:
        return _ANY_GENESIS
    try:
        return read_genesis(rpc)
    except ChainUnavailable:
        claimed = book.identity()
        if claimed is None:
            raise
        return claimed.genesis


def read_genesis(rpc: Rpc) -> str:
    """Return the hash of the chain's first block."""
    return str(rpc.call("eth_getBlockByNumber", "0x0", False)["hash"])


def find_contracts(
    settings: Settings, network: Network, rpc: Rpc, genesis: Callable[[], str]
) -> Deployment:
    """Return the contracts in use: the deployments file's, overridden by settings."""
    found = _deployment_file(settings, network, rpc, genesis)
    return Deployment(
        chain_id=found.chain_id,
        kernel=settings.kernel_address or found.kernel,
        vault=settings.vault_address or found.vault,
        usdc=settings.usdc_address or found.usdc,
        block=found.block,
    )


def _deployment_file(
    s: Settings, network: Network, rpc: Rpc, genesis: Callable[[], str]
) -> Deployment:
    if not network.local:
        return shipped_deployment(network.chain_ids[0])
    _check_local_chain(network, rpc)
    for chain_id in network.chain_ids:
        path = local_deployment_path(s.deployments_folder, chain_id, genesis())
        if path.exists():
            return read_local_deployment(path)
    if s.kernel_address and s.vault_address and s.usdc_address:
        chain_id = int(rpc.call("eth_chainId"), 16)
        return Deployment(chain_id, s.kernel_address, s.vault_address, s.usdc_address, 0)
    raise ConfigurationError("this local chain has no contracts yet: run `coordinator deploy`")


def _check_local_chain(network: Network, rpc: Rpc) -> None:
    try:
        chain_id = int(rpc.call("eth_chainId"), 16)
    except ChainUnavailable:
        return
    if chain_id not in network.chain_ids:
        known = " or ".join(map(str, network.chain_ids))
        raise ConfigurationError(
            f"COORDINATOR_RPC_URL is an endpoint of chain {chain_id}; network"
            f" {network.name} is {known}: nothing was signed"
        )


def claim_database(book: IdentityBook, identity: Identity, *, formers: Sequence[str] = ()) -> None:
    """Bind a fresh database to this treasury; ConfigurationError when it is another one's."""
    known = book.identity()
    if known is not None and known.signer in formers:
        raise ConfigurationError(
            f"this database is still that of {known.signer}, which COORDINATOR_FORMER_SIGNERS"
            " names: stop every process, then run `coordinator rotate begin`"
        )
    book.claim(identity)


def activate_policy(
    ledger: Ledger, source: Policy | Path, *, now: Callable[[], int]
) -> ConfigurationError | None:
    """Put the policy of the file, or of code, in force; return what is wrong with it.

    On one host whenever it was changed. Where several hosts may have files of their own, only
    when there is no policy yet: later ones are applied by hand. A faulty file is raised where no
    policy is in force; else the one in force applies, and whoever asks for new spending is to be
    refused: the file's limits may be lower, and nobody can tell. Where the policy in force is
    changed by signatures alone, no file is.
    """
    policies, many_hosts = ledger.policies, ledger.database.many_hosts
    if (signed := _changed_by_signatures(policies)) is not None:
        _compare(signed, source)
        return None
    try:
        if not (many_hosts and policies.any_applied()):
            _activate(ledger, source, only_first=many_hosts, now=now)
        return None
    except ConfigurationError as fault:
        if not policies.any_applied():
            raise
        log.warning(
            "policy_file_faulty: the policy in force, %s…, still applies; new spending waits"
            " for a corrected file: %s",
            policies.current().hash[:12],
            "; ".join(fault.faults),
        )
        return fault


def _changed_by_signatures(policies: PolicyBook) -> Policy | None:
    """Return the policy in force if only signatures change it."""
    try:
        current = policies.current() if policies.any_applied() else None
    except LedgerTampered:
        # Whoever is asked to decide by it tells; pausing and looking work without a policy.
        return None
    return current if current is not None and current.approvals.signatures == "required" else None


def _compare(current: Policy, source: Policy | Path) -> None:
    """Tell the operator that the file is another policy than approvers have signed."""
    try:
        differs = read_policy(source).hash != current.hash
    except ConfigurationError:
        differs = True
    if differs:
        log.info(
            "policy_file_differs: %s… is in force; `coordinator policy draft` proposes the file",
            current.hash[:12],
        )


def _activate(
    ledger: Ledger, source: Policy | Path, *, only_first: bool, now: Callable[[], int]
) -> None:
    policy = read_policy(source)
    changed = ledger.activate_policy(
        policy,
        author=os.environ.get("USER") or "coordinator",
        reason=f"read from {'code' if isinstance(source, Policy) else source.name}",
        now=now(),
        only_first=only_first,
    )
    if changed:
        log.info("policy_activated hash=%s", policy.hash)


def kill_switch(spec: str | None) -> Reach:
    """Kill this process at a kill point, for tests of recovery: ``NAME`` or ``NAME:n``-th time."""
    if not spec:
        return lambda point: None
    name, _, count = spec.partition(":")
    wanted, left = KillPoint(name), [int(count or 1)]

    def reach(point: KillPoint) -> None:
        if point is wanted:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach
