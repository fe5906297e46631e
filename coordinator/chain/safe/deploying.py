"""Deploying a treasury: the audited contracts that a chain lacks, then the Safe and its role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.chain.abi import revert_reason
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.safe.addresses import (
    CANONICAL,
    SAFE_PROXY_FACTORY,
    SAFE_SINGLETON_FACTORY,
    SAFE_SINGLETON_FACTORY_HASH,
    SINGLETON_FACTORY,
    SINGLETON_FACTORY_COST_WEI,
    SINGLETON_FACTORY_HASH,
    SINGLETON_FACTORY_SENDER,
    Canonical,
)
from coordinator.chain.safe.configuration import Places
from coordinator.chain.safe.creation_code import CreationCode
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.refusals import role_refusal
from coordinator.chain.safe.safe_transactions import SAFE_CODE_HASH, SafeTransaction, create_safe
from coordinator.chain.safe.sending import Sender
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import keccak256
from coordinator.domain.errors import ConfigurationError

_DEPLOY: Final = Signature("deploy(bytes,bytes32)")
# Above the receipts (Roles 5.5M, SafeL2 5.3M). A factory does not fail with the creation that it
# tries, so that an estimate may be of one that ran out of gas.
_DEPLOYMENT_GAS: Final = 8_000_000
# Anvil has the Safe singleton factory's program here (github.com/Arachnid's proxy).
_ANVIL_FACTORY: Final = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
_FACTORIES: Final = (
    (SAFE_SINGLETON_FACTORY, SAFE_SINGLETON_FACTORY_HASH),
    (SINGLETON_FACTORY, SINGLETON_FACTORY_HASH),
)


def missing(rpc: Rpc) -> tuple[list[str], list[Canonical]]:
    """Return the factories, by address, and the contracts that the chain does not have.

    ConfigurationError where one has other code than the audited one.
    """
    asked = [*_FACTORIES, *((c.address, c.code_hash) for c in CANONICAL)]
    there = [is_there(rpc, address, code_hash) for address, code_hash in asked]
    factories = [a for (a, _), found in zip(_FACTORIES, there, strict=False) if not found]
    found = zip(CANONICAL, there[len(_FACTORIES) :], strict=True)
    return factories, [contract for contract, has in found if not has]


def is_there(rpc: Rpc, address: str, code_hash: str) -> bool:
    """Whether this code is at the address; ConfigurationError for other code."""
    code = bytes.fromhex(str(rpc.call("eth_getCode", address, "latest")).removeprefix("0x"))
    if not code:
        return False
    if keccak256(code).hex() != code_hash:
        raise ConfigurationError(
            f"{address} has other code on this chain than the contract that was audited: don't use"
            " this chain for a treasury"
        )
    return True


def deploy_canonical(sender: Sender, code: CreationCode) -> list[str]:
    """Deploy what the chain lacks; return the names, in order.

    ConfigurationError before anything is sent where code is missing, or a factory that only its
    authors can deploy.
    """
    factories, contracts = missing(sender.rpc)
    deploying = [_deployment(contract, code) for contract in contracts]
    done = [_make_factory(sender, code, address) for address in factories]
    for contract, call in zip(contracts, deploying, strict=True):
        sender.send(call, gas=_DEPLOYMENT_GAS)
        if not is_there(sender.rpc, contract.address, contract.code_hash):
            raise ConfigurationError(f"{call.title}: there is no code afterwards")
        done.append(contract.name)
    return done


def deploy_safe(
    sender: Sender, places: Places, limits: ChainLimits, *, salt_nonce: int = 0
) -> bool:
    """Create the Safe of the limits' owners; False when it was there already."""
    if is_there(sender.rpc, places.safe, SAFE_CODE_HASH):
        return False
    data = create_safe(limits.owners, limits.threshold, salt_nonce=salt_nonce)
    title = f"create the Safe {places.safe}"
    sender.send(InnerCall(SAFE_PROXY_FACTORY.address, data, title))
    if not is_there(sender.rpc, places.safe, SAFE_CODE_HASH):
        raise ConfigurationError(f"{title}: another address was made, so its owners differ")
    return True


def execute(
    sender: Sender, safe: str, transaction: SafeTransaction, signatures: bytes, title: str
) -> dict[str, Any]:
    """Execute what owners have signed; the receipt. TxReverted where the Safe or a call refuses."""
    return sender.send(InnerCall(safe, transaction.call(signatures), title))


def first_refusal(rpc: Rpc, safe: str, calls: Sequence[InnerCall]) -> str | None:
    """Return the first of these calls that fails by itself in the Safe's name, and why.

    A Safe's transaction hides the reason of a call that fails in it. A call that needs those
    before it must not be asked about.
    """
    asked = [{"from": safe, "to": c.to, "data": "0x" + c.data.hex()} for c in calls]
    answers = rpc.batch([("eth_call", [one, "latest"]) for one in asked])
    for call, answer in zip(calls, answers, strict=True):
        if isinstance(answer, RpcRefusal):
            known = role_refusal(answer.data)
            return f"{call.title}: {known or revert_reason(answer, ())}"
    return None


def _deployment(contract: Canonical, code: CreationCode) -> InnerCall:
    creation, title = code.of(contract), f"deploy {contract.name} at {contract.address}"
    if contract.factory == SAFE_SINGLETON_FACTORY:
        return InnerCall(contract.factory, contract.salt + creation, title)
    return InnerCall(contract.factory, _DEPLOY.call(creation, contract.salt), title)


def _make_factory(sender: Sender, code: CreationCode, address: str) -> str:
    if address == SAFE_SINGLETON_FACTORY:
        return _copy_on_anvil(sender.rpc)
    title = f"the ERC-2470 factory {SINGLETON_FACTORY}"
    signed = code.singleton_factory_transaction()
    funding = InnerCall(SINGLETON_FACTORY_SENDER, b"", f"pay for {title}")
    sender.send(funding, value=SINGLETON_FACTORY_COST_WEI)
    tx_hash = sender.rpc.call("eth_sendRawTransaction", signed)
    sender.receipt(str(tx_hash), title)
    if not is_there(sender.rpc, address, SINGLETON_FACTORY_HASH):
        raise ConfigurationError(f"{title} has no code after its transaction {tx_hash}")
    return title


def _copy_on_anvil(rpc: Rpc) -> str:
    if not str(rpc.call("web3_clientVersion")).lower().startswith("anvil"):
        raise ConfigurationError(
            f"this chain has no Safe singleton factory at {SAFE_SINGLETON_FACTORY}: ask for it at"
            " github.com/safe-global/safe-singleton-factory"
        )
    code = rpc.call("eth_getCode", _ANVIL_FACTORY, "latest")
    rpc.call("anvil_setCode", SAFE_SINGLETON_FACTORY, code)
    return f"the Safe singleton factory {SAFE_SINGLETON_FACTORY}"
