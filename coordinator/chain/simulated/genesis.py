"""The first block of a simulated chain: unlocked accounts, USDC, kernel and vault."""

from __future__ import annotations

from typing import Any, Final

from coordinator.chain.networks import (
    ARCHIVE,
    DEVELOPMENT_ACCOUNTS,
    FEE_RECIPIENT,
    Deployment,
)
from coordinator.chain.simulated.contract import Contract
from coordinator.chain.simulated.kernel import Kernel
from coordinator.chain.simulated.state import Key
from coordinator.chain.simulated.token import FiatToken
from coordinator.chain.simulated.vault import EscrowVault
from coordinator.domain.address import checksummed, keccak256

ACCOUNTS: Final = DEVELOPMENT_ACCOUNTS
_ACCOUNT_WEI: Final = 10_000 * 10**18
_MINTER_ALLOWANCE: Final = 2**256 - 1


def fixed(name: str) -> str:
    """Return an address of no key, the same on every simulated chain."""
    return checksummed("0x" + keccak256(f"simulated {name}".encode())[-20:].hex())


KERNEL: Final = fixed("kernel")
VAULT: Final = fixed("vault")
USDC: Final = fixed("usdc")
ADMIN: Final = ACCOUNTS[0]


def deployment(chain_id: int) -> Deployment:
    """Return the contracts' addresses, the same on every simulated chain."""
    return Deployment(chain_id, KERNEL, VAULT, USDC, 0)


def balance_key(account: str) -> Key:
    return ("wei", account)


def nonce_key(account: str) -> Key:
    return ("nonce", account)


class Rail:
    """The contracts by address, in lower case."""

    def __init__(self, chain_id: int) -> None:
        admin = ADMIN.lower()
        self.token = FiatToken(USDC.lower(), admin, chain_id)
        self.vault = EscrowVault(VAULT.lower(), self.token, KERNEL.lower())
        self.kernel = Kernel(KERNEL.lower(), admin)
        rail: tuple[Contract, ...] = (self.token, self.vault, self.kernel)
        self.by_address: dict[str, Contract] = {c.address: c for c in rail}

    def first_state(self) -> dict[Key, Any]:
        """As our own deployment leaves it: the admin mints, and fees are shared."""
        kernel = self.kernel
        state: dict[Key, Any] = {balance_key(a.lower()): _ACCOUNT_WEI for a in ACCOUNTS}
        return state | {
            self.token.minter_key(ADMIN.lower()): _MINTER_ALLOWANCE,
            kernel.vault_key(self.vault.address): True,
            kernel.key("fee_recipient"): FEE_RECIPIENT.lower(),
            kernel.key("archive"): ARCHIVE.lower(),
        }
