"""The doctor's checks of the chain: endpoint, contracts, token, balances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from coordinator.chain.networks import (
    Deployment,
    Network,
)
from coordinator.chain.rpc.client import Rpc
from coordinator.config import Settings, read_policy
from coordinator.doctor.check import Check, guarded, skipped, start_anvil
from coordinator.doctor.local import LocalPatient
from coordinator.doctor.treasury import checks_of_the_treasury
from coordinator.doctor.wallet import checks_of_the_wallet
from coordinator.domain.access.urls import call_urls
from coordinator.domain.chain.gas import eth
from coordinator.domain.errors import ConfigurationError, CoordinatorError
from coordinator.domain.policy.payees import contracts_of, unpayable_providers
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.executor.tempo import idle_calls_a_day
from coordinator.startup import find_contracts, read_genesis

# Circle's own on Base Sepolia: people get it from Circle's faucet and wonder.
_CIRCLE_BASE_SEPOLIA: Final = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
_SKEW_SECONDS_MAX: Final = 60
_TIMEOUT_SECONDS: Final = 5
_CHECKS: Final = (
    "contracts",
    "payees",
    "token",
    "USDC balance",
    "gas balance",
    "allowance",
    "clock",
)


class ChainPatient:
    """The endpoint and what it tells."""

    def __init__(self, local: LocalPatient) -> None:
        self._local = local
        self._deployment: Deployment | None = None

    def checks(self) -> Iterator[Check]:
        settings, network = self._local.settings, self._local.network
        if settings is None or network is None:
            for name in ("endpoint", "chain id", "client", *_CHECKS):
                yield skipped(name, "the settings are wrong")
            return
        if network.simulated:
            for name in ("endpoint", "chain id", "client", *_CHECKS):
                yield skipped(name, "the simulated chain lives inside each process", "chain")
            return
        urls = settings.rpc_urls or (network.rpc_url,)
        rpc = Rpc(urls, timeout_seconds=_TIMEOUT_SECONDS, tries=1)
        start = start_anvil(urls[0]) if network.local else None
        found = guarded("endpoint", "chain", lambda: _endpoint(rpc, start, settings))
        yield found
        if found.status == "fail":
            for name in ("chain id", "client", *_CHECKS):
                yield skipped(name, "the endpoint does not answer", "chain")
            return
        chain_id = guarded("chain id", "configuration", lambda: _chain_id(rpc, network))
        yield chain_id
        yield guarded("client", "configuration", lambda: _client(rpc, network))
        for url in settings.ws_urls:
            yield guarded("new blocks", "chain", partial(_announced, url))
        if not network.local:
            yield _calls(self._local.settings)
        if chain_id.status == "fail":
            for name in _CHECKS:
                yield skipped(name, "the endpoint is on another chain", "chain")
            return
        yield guarded("contracts", "configuration", lambda: self._contracts(rpc, network))
        if self._deployment is None:
            for name in _CHECKS[1:-1]:
                yield skipped(name, "the contracts are unknown", "chain")
        else:
            yield self._payees(self._deployment)
            yield from self._money(rpc, network, self._deployment)
            yield from checks_of_the_treasury(self._local, network, rpc, self._deployment)
        yield guarded("clock", "chain", lambda: _clock(rpc, network))

    def _contracts(self, rpc: Rpc, network: Network) -> Check:
        from coordinator.chain.actp.abi import kernel_abi
        from coordinator.chain.actp.checks import contract_faults

        name, settings = "contracts", self._local.settings
        assert settings is not None
        check_settings = "check COORDINATOR_KERNEL_ADDRESS, _VAULT_ADDRESS, _USDC_ADDRESS"
        action = "coordinator deploy" if network.local else check_settings
        try:
            d = find_contracts(settings, network, rpc, lambda: read_genesis(rpc))
        except ConfigurationError as fault:
            return Check(name, "fail", str(fault), action if network.local else None)
        for what, address in (("kernel", d.kernel), ("vault", d.vault), ("token", d.usdc)):
            if str(rpc.call("eth_getCode", address, "latest")) == "0x":
                return Check(name, "fail", f"there is no {what} at {address}", action)
        faults = contract_faults(rpc, d)
        if not faults and not _read(rpc, kernel_abi(), d.kernel, "approvedEscrowVaults", d.vault):
            faults = [f"the kernel {d.kernel} does not accept the vault {d.vault}"]
        if faults:
            return Check(name, "fail", "; ".join(faults), check_settings)
        self._deployment = d
        if _read(rpc, kernel_abi(), d.kernel, "paused"):
            found = f"the kernel {d.kernel} is paused: nothing can be funded"
            return Check(name, "warn", found, "wait until its admin unpauses it", "chain")
        return Check(name, "ok", f"kernel {d.kernel}, vault {d.vault}")

    def _payees(self, d: Deployment) -> Check:
        """Whether every provider of the policy file can be paid."""
        local, name = self._local, "payees"
        assert local.settings is not None
        try:
            policy = read_policy(local.settings.policy_file)
        except ConfigurationError:
            return skipped(name, "the policy is wrong")
        contracts = contracts_of(
            treasury=local.treasury or "",
            signer=local.signer.address if local.signer is not None else None,
            usdc=d.usdc,
            vault=d.vault,
            kernel=d.kernel,
        )
        faults = [f"{one}: {why}" for one, why in unpayable_providers(policy, contracts)]
        if faults:
            action = f"edit {local.settings.policy_file}"
            return Check(name, "fail", "; ".join(faults), action)
        return Check(name, "ok", f"providers that can be paid: {len(policy.providers)}")

    def _money(self, rpc: Rpc, network: Network, d: Deployment) -> Iterator[Check]:
        from coordinator.chain.abi import token_abi

        signer = self._local.signer
        symbol = guarded("token", "configuration", lambda: _token(rpc, d))
        if signer is None:
            yield symbol
            for name in ("USDC balance", "gas balance", "allowance"):
                yield skipped(name, "the treasury's key is not known")
            return
        key, me = signer.address, self._local.treasury or signer.address

        def balance(token: str, of: str = me) -> Usdc:
            return Usdc.from_base_units(int(_read(rpc, token_abi(), token, "balanceOf", of)))

        yield guarded("token", "chain", lambda: _wrong_token(network, d, balance) or symbol)
        fund = "coordinator fund" if network.name != "base" else f"send USDC to {me}"
        send = "coordinator fund" if network.local else f"send ETH to {key}"

        def usdc_balance() -> Check:
            held = balance(d.usdc)
            if held == ZERO:
                return Check("USDC balance", "warn", "0.00 USDC", fund, "chain")
            return Check("USDC balance", "ok", f"{held} USDC", None, "chain")

        def gas_balance() -> Check:
            wei = int(rpc.call("eth_getBalance", key, "latest"), 16)
            if wei < 5 * 10**14:
                found = f"{eth(wei)} ETH: not enough to fund a purchase and settle it"
                return Check("gas balance", "warn", found, send, "chain")
            return Check("gas balance", "ok", f"{eth(wei)} ETH", None, "chain")

        def allowance() -> Check:
            units = int(_read(rpc, token_abi(), d.usdc, "allowance", me, d.vault))
            allowed = Usdc.from_base_units(min(units, 10**18))
            if me != key:
                found = f"the vault may take {allowed} USDC; a purchase approves its own amount"
                return Check("allowance", "warn" if units else "ok", found, None, "chain")
            found = f"the vault may take {allowed} USDC; raised when a purchase needs more"
            return Check("allowance", "ok", found, None, "chain")

        yield guarded("USDC balance", "chain", usdc_balance)
        yield guarded("gas balance", "chain", gas_balance)
        yield guarded("allowance", "chain", allowance)
        yield from checks_of_the_wallet(self._local, network, lambda of: balance(d.usdc, of))


def _endpoint(rpc: Rpc, start: str | None, settings: Settings) -> Check:
    started = time.monotonic()
    try:
        number = int(rpc.call("eth_blockNumber"), 16)
    except CoordinatorError as fault:
        action = start or "set COORDINATOR_RPC_URL to one that answers"
        if start is None and set(rpc.urls) <= set(call_urls(",".join(settings.ws_urls))):
            action = "name an http:// or https:// URL beside it in COORDINATOR_RPC_URL"
        return Check("endpoint", "fail", str(fault), action, "chain")
    milliseconds = int((time.monotonic() - started) * 1000)
    found = f"{', '.join(rpc.hosts)}, block {number:,}, {milliseconds} ms"
    return Check("endpoint", "ok", found, None, "chain")


def _announced(url: str) -> Check:
    """Whether a WebSocket endpoint takes a subscription."""
    from coordinator.chain.rpc.redaction import Redaction
    from coordinator.chain.rpc.subscription import connected, fault_text, subscribe

    name, host = "new blocks", urlsplit(url).netloc.rpartition("@")[2]
    try:
        with connected(url) as connection:
            subscribe(connection)
    except Exception as fault:
        why = Redaction([url])(fault_text(fault))
        found = f"{host} announces none, and they are asked for instead: {why}"
        action = "correct its URL in COORDINATOR_RPC_URL, or take it out"
        return Check(name, "warn", found, action, "chain")
    return Check(name, "ok", f"{host} announces them", None, "chain")


def _chain_id(rpc: Rpc, network: Network) -> Check:
    """Of every endpoint that answers."""
    from coordinator.chain.abi import quantity

    surveyed = rpc.survey([("eth_chainId", [])])
    told = {host: quantity(said[0]) for host, said in surveyed if isinstance(said, list)}
    wrong = {host: said for host, said in told.items() if said not in network.chain_ids}
    if told and not wrong:
        return Check("chain id", "ok", ", ".join(map(str, sorted(set(told.values())))))
    wanted = " or ".join(map(str, network.chain_ids))
    found = "; ".join(f"{said} at {host}" for host, said in wrong.items()) or "no answer"
    found += f", but {network.name} is {wanted}: nothing will be signed"
    return Check("chain id", "fail", found, "set COORDINATOR_NETWORK or COORDINATOR_RPC_URL")


def _calls(settings: Settings | None) -> Check:
    safe = settings is not None and settings.payer == "safe"
    calls = idle_calls_a_day(settings.poll_seconds if settings else None, watches=safe)
    found = f"a worker with nothing to do makes about {calls:,} a day"
    return Check("calls", "ok", f"{found} (COORDINATOR_POLL_SECONDS lowers it)")


def _client(rpc: Rpc, network: Network) -> Check:
    said = str(rpc.call("web3_clientVersion"))[:60]
    if network.local and "anvil" not in said.lower():
        found = f"{said}: network anvil needs an Anvil node"
        return Check("client", "fail", found, "set COORDINATOR_NETWORK or COORDINATOR_RPC_URL")
    return Check("client", "ok", said)


def _token(rpc: Rpc, d: Deployment) -> Check:
    from coordinator.chain.abi import token_abi

    decimals = int(_read(rpc, token_abi(), d.usdc, "decimals"))
    symbol = str(_read(rpc, token_abi(), d.usdc, "symbol"))[:20]
    if decimals != 6:
        return Check("token", "fail", f"{symbol} {d.usdc} has {decimals} decimals, not 6")
    return Check("token", "ok", f"{symbol} {d.usdc}")


def _wrong_token(network: Network, d: Deployment, balance: Callable[[str], Usdc]) -> Check | None:
    """Circle's USDC in the treasury's hands where the vault takes another token."""
    if network.name != "base-sepolia" or d.usdc.lower() == _CIRCLE_BASE_SEPOLIA.lower():
        return None
    circle = balance(_CIRCLE_BASE_SEPOLIA)
    if circle == ZERO or balance(d.usdc) != ZERO:
        return None
    found = f"you hold {circle} Circle USDC; this vault takes {d.usdc}, which anybody may mint"
    return Check("token", "warn", found, "coordinator fund", "chain")


def _clock(rpc: Rpc, network: Network) -> Check:
    block_at = int(rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    ahead = block_at - int(time.time())
    # A local chain makes blocks only when something happens, so an old one means nothing.
    behind = 0 if network.local else -ahead
    if max(ahead, behind) <= _SKEW_SECONDS_MAX:
        return Check(
            "clock", "ok", f"within {_SKEW_SECONDS_MAX} s of the latest block", None, "chain"
        )
    where = f"{ahead} s ahead of" if ahead > 0 else f"{-ahead} s behind"
    found = f"the latest block is {where} this machine's clock"
    return Check("clock", "warn", found, "set the clock, or use an endpoint in sync", "chain")


def _read(rpc: Rpc, abi: Any, to: str, function: str, *arguments: Any) -> Any:
    data = abi.call(function, *arguments)
    return abi.result(function, rpc.call("eth_call", {"to": to, "data": data}, "latest"))
