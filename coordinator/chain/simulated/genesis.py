"""What a simulated chain has from its first block: unlocked accounts, USDC, kernel and vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from coordinator.chain.networks import Deployment
from coordinator.chain.simulated.contract import Contract
from coordinator.chain.simulated.kernel import Kernel
from coordinator.chain.simulated.state import Key
from coordinator.chain.simulated.token import FiatToken
from coordinator.chain.simulated.vault import EscrowVault
from coordinator.domain.address import checksummed, keccak256

# The accounts of the mnemonic that development nodes share ("test test … junk").
ACCOUNTS: Final = (
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
    "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
    "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
    "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
)
_ACCOUNT_WEI: Final = 10_000 * 10**18
_MINTER_ALLOWANCE: Final = 2**256 - 1


def _fixed(name: str) -> str:
    return checksummed("0x" + keccak256(f"simulated {name}".encode())[-20:].hex())


KERNEL: Final = _fixed("kernel")
VAULT: Final = _fixed("vault")
USDC: Final = _fixed("usdc")
ADMIN: Final = ACCOUNTS[0]
FEE_RECIPIENT: Final = ACCOUNTS[2]
ARCHIVE: Final = ACCOUNTS[3]


def deployment(chain_id: int) -> Deployment:
    """Where the contracts are, on every simulated chain."""
    return Deployment(chain_id, KERNEL, VAULT, USDC, 0)


def balance_key(account: str) -> Key:
    return ("wei", account)


def nonce_key(account: str) -> Key:
    return ("nonce", account)


class Rail:
    """The contracts by address, in lower case."""

    def __init__(self) -> None:
        admin = ADMIN.lower()
        self.token = FiatToken(USDC.lower(), admin)
        self.vault = EscrowVault(VAULT.lower(), self.token, KERNEL.lower())
        self.kernel = Kernel(KERNEL.lower(), admin)
        rail: tuple[Contract, ...] = (self.token, self.vault, self.kernel)
        self.by_address: Mapping[str, Contract] = {c.address: c for c in rail}

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
