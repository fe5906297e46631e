"""Signing with one account, wherever its key is. Keys never leave this package."""

from __future__ import annotations

from typing import Any, Protocol

from coordinator.chain.networks import DEVELOPMENT_ACCOUNTS
from coordinator.chain.signers.secp256k1 import address_of_key, make_recoverable
from coordinator.chain.signers.transactions import UnsignedTransaction
from coordinator.domain.address import keccak256
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Attempt, Call
from coordinator.domain.errors import ConfigurationError


def refuse_development_key(address: str, network: str) -> None:
    """ConfigurationError when the key of ``address`` is one that everybody has."""
    if address in DEVELOPMENT_ACCOUNTS:
        raise ConfigurationError(
            f"{address} is a well-known development account: whatever is sent to it on {network} is"
            " stolen within seconds; make a key with `coordinator wallet new`"
        )


class Key(Protocol):
    """A private key that signs 32 bytes, in memory, in a file or in a device."""

    @property
    def name(self) -> str:
        """Name for people, such as ``the keystore PATH``; no secret."""

    def open(self) -> str:
        """Make the key ready to sign and return its address.

        ConfigurationError when that takes a person; SignerUnavailable when it may work later.
        """

    def sign(self, digest: bytes) -> bytes:
        """Return r and s in 64 bytes, s low or high; or with low s and the recovery id, in 65.

        Raises as ``open`` does; the key was opened before.
        """


class Digested(Protocol):
    """EIP-712 data of whatever shape."""

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are signed."""


class RawKey:
    """A key in this process's memory."""

    name = "the key"

    def __init__(self, key: bytes) -> None:
        from coincurve import PrivateKey

        self.address = address_of_key(key)
        self._key = PrivateKey(key)

    def open(self) -> str:
        return self.address

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign_recoverable(digest, hasher=None)


class Signer:
    """One account: its address at once, its key only when something is signed.

    Without a key it signs nothing: ``can_sign`` is False. ``setting`` is the name of what it was
    read from, for messages.
    """

    def __init__(
        self, address: str, key: Key | None = None, *, setting: str = "COORDINATOR_SIGNER"
    ) -> None:
        self.address = address
        self._key = key
        self._setting = setting
        self._opened: Key | None = None

    @classmethod
    def of_key(cls, key: bytes) -> Signer:
        """Return the signer of a private key; ValueError when it is none."""
        raw = RawKey(key)
        return cls(raw.address, raw)

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    @property
    def can_sign(self) -> bool:
        """Whether this process has, or reaches, the account's key at all."""
        return self._key is not None

    def open(self) -> None:
        """Make the key ready and compare it with the address; again, it does nothing.

        ConfigurationError when the password or PIN is wrong, the key is another account's, or there
        is only an address; SignerUnavailable when the device or service does not answer.
        """
        self._ready()

    def sign(self, call: Call, *, nonce: int, fees: Fees, chain_id: int) -> Attempt:
        """A signed EIP-1559 transaction of ``call``; sends nothing."""
        raw = self._signed(
            UnsignedTransaction.of_call(call, nonce=nonce, fees=fees, chain_id=chain_id)
        )
        return Attempt(
            hash="0x" + keccak256(raw).hex(),
            raw="0x" + raw.hex(),
            max_fee_per_gas=fees.max_fee_per_gas,
            max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
        )

    def sign_typed(self, message: Digested) -> str:
        """Return the account's signature of EIP-712 data, as 0x and 130 hex digits."""
        signature = self._sign(message.digest)
        return "0x" + (signature[:64] + bytes([signature[64] + 27])).hex()

    def sign_raw(self, transaction: dict[str, Any]) -> str:
        """The raw bytes of a complete transaction of type 2, such as a deployment."""
        return "0x" + self._signed(UnsignedTransaction.of_request(transaction)).hex()

    def _signed(self, transaction: UnsignedTransaction) -> bytes:
        return transaction.signed(self._sign(transaction.digest))

    def _sign(self, digest: bytes) -> bytes:
        key = self._ready()
        signature = key.sign(digest)
        if len(signature) == 65:
            return signature
        try:
            return make_recoverable(signature, digest, self.address)
        except ValueError:
            raise ConfigurationError(
                f"{key.name} gave a signature that is not by {self.address}: nothing was signed"
            ) from None

    def _ready(self) -> Key:
        if self._opened is not None:
            return self._opened
        if self._key is None:
            raise ConfigurationError(
                f"{self._setting} gives only the address of {self.address}: nothing is signed"
                " here; do it on the host of `coordinator worker`, which has the key"
            )
        address = self._key.open()
        if address != self.address:
            raise ConfigurationError(
                f"{self._key.name} should be of the address {self.address} but holds the"
                f" key of {address}: USDC sent to the named address would be lost"
            )
        self._opened = self._key
        return self._opened
