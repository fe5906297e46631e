"""Checks of kernel, vault and token that have to pass before anything is signed."""

from __future__ import annotations

from typing import Any

from coordinator.chain.abi import token_abi, uint
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.usdc import DECIMALS


def check_contracts(rpc: Rpc, d: Deployment) -> None:
    """Refuse contracts that do not belong together; ConfigurationError lists every fault."""
    if faults := contract_faults(rpc, d):
        raise ConfigurationError(*faults)


def contract_faults(rpc: Rpc, d: Deployment) -> list[str]:
    """Say what is wrong with kernel, vault and token, whichever state they are in."""
    calls = [
        (d.vault, vault_abi().call("token")),
        (d.vault, vault_abi().call("kernel")),
        (d.kernel, kernel_abi().call("approvedEscrowVaults", d.vault)),
        (d.usdc, token_abi().call("decimals")),
    ]
    token, kernel, approved, decimals = rpc.batch(
        [("eth_call", [{"to": to, "data": data}, "latest"]) for to, data in calls]
    )
    faults = []
    if not _is_address(token, d.usdc):
        faults.append(f"the vault {d.vault} does not take the token {d.usdc}")
    if not _is_address(kernel, d.kernel):
        faults.append(f"the vault {d.vault} does not belong to the kernel {d.kernel}")
    if not _is_word(approved):
        faults.append(f"{d.kernel} does not answer as an ACTP kernel does")
    else:
        faults += version_faults(rpc, d)
    if not isinstance(decimals, str) or decimals == "0x" or uint(decimals) != DECIMALS:
        faults.append(f"the token {d.usdc} does not have {DECIMALS} decimals")
    return faults


def version_faults(rpc: Rpc, d: Deployment) -> list[str]:
    """Say what of kernel and vault only another version answers.

    The supported one counts creates by requester, has a bond for disputes, reverts `Tx missing`
    for an unknown transaction (others return an empty one, or a tuple of another shape), and its
    vault tells what remains of an escrow.
    """
    unknown = "0x" + "00" * 32
    calls = [
        (d.kernel, kernel_abi().call("requesterNonces", d.kernel)),
        (d.kernel, kernel_abi().call("disputeBondBps")),
        (d.vault, vault_abi().call("remaining", unknown)),
        (d.kernel, kernel_abi().call("getTransaction", unknown)),
    ]
    nonces, bond, remaining, transaction = rpc.batch(
        [("eth_call", [{"to": to, "data": data}, "latest"]) for to, data in calls]
    )
    faults = []
    missing = isinstance(transaction, RpcRefusal) and "Tx missing" in _message(transaction)
    if not (_is_word(nonces) and _is_word(bond) and missing):
        faults.append(f"the kernel {d.kernel} is of a version that is not supported")
    if not _is_word(remaining):
        faults.append(f"the vault {d.vault} is of a version that is not supported")
    return faults


def _message(refusal: RpcRefusal) -> str:
    """The refusal's words; some nodes give a revert's reason only in its data."""
    data = refusal.data if isinstance(refusal.data, str) else ""
    try:
        return refusal.message + bytes.fromhex(data.removeprefix("0x")).decode(errors="ignore")
    except ValueError:
        return refusal.message


def _is_word(answer: Any) -> bool:
    return isinstance(answer, str) and len(answer) == 66


def _is_address(answer: Any, address: str) -> bool:
    return isinstance(answer, str) and answer[-40:].lower() == address[2:].lower()
