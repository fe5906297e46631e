"""Keys: where they come from, and signing with them. Keys never leave this module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator.chain.networks import DEVELOPMENT_ACCOUNTS
from coordinator.chain.signers.transactions import UnsignedTransaction
from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Attempt, Call
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.plain_text import decode_file
from coordinator.domain.typed_data import TypedData

if TYPE_CHECKING:
    from coincurve import PrivateKey

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)


def refuse_development_key(address: str, network: str) -> None:
    """ConfigurationError when the key of ``address`` is one that everybody has."""
    if address in DEVELOPMENT_ACCOUNTS:
        raise ConfigurationError(
            f"{address} is a well-known development account: whatever is sent to it on {network} is"
            " stolen within seconds; make a key with `coordinator wallet new`"
        )


class Signer:
    """One account: its address at once, its key only when something is signed.

    Without key and keystore it signs nothing: ``can_sign`` is False.
    """

    def __init__(
        self, address: str, key: bytes | None = None, keystore: _Keystore | None = None
    ) -> None:
        self.address = address
        self._key = key
        self._keystore = keystore
        self._unlocked: PrivateKey | None = None

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    @property
    def can_sign(self) -> bool:
        """Whether this process has the treasury's key at all."""
        return self._key is not None or self._keystore is not None

    def open(self) -> None:
        """Unlock the key and compare it with the address; again, it does nothing.

        ConfigurationError when the password is wrong, the file holds another account's key, or
        there is only an address.
        """
        self._private()

    def sign(self, call: Call, *, nonce: int, fees: Fees, chain_id: int) -> Attempt:
        """A signed EIP-1559 transaction of ``call``; sends nothing."""
        unsigned = UnsignedTransaction(call, nonce=nonce, fees=fees, chain_id=chain_id)
        raw = unsigned.signed(self._private().sign_recoverable(unsigned.digest, hasher=None))
        return Attempt(
            hash="0x" + keccak256(raw).hex(),
            raw="0x" + raw.hex(),
            max_fee_per_gas=fees.max_fee_per_gas,
            max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
        )

    def sign_typed(self, message: TypedData) -> str:
        """Return the account's signature of EIP-712 data, as 0x and 130 hex digits."""
        raw = self._private().sign_recoverable(message.digest, hasher=None)
        return "0x" + (raw[:64] + bytes([raw[64] + 27])).hex()

    def sign_raw(self, transaction: dict[str, Any]) -> str:
        """The raw bytes of a complete transaction, such as a deployment."""
        from eth_account import Account

        signed = Account.from_key(self._private().secret).sign_transaction(transaction)
        return "0x" + bytes(signed.raw_transaction).hex()

    def _private(self) -> PrivateKey:
        if self._unlocked is None:
            from coincurve import PrivateKey

            key = self._key if self._key is not None else self._open_keystore()
            self._unlocked = PrivateKey(key)
        return self._unlocked

    def _open_keystore(self) -> bytes:
        if self._keystore is None:
            raise ConfigurationError(
                f"COORDINATOR_SIGNER gives only the address of {self.address}: nothing is signed"
                " here; do it on the host of `coordinator worker`, which has the key"
            )
        key = self._keystore.open()
        if address_of_key(key) != self.address:
            raise ConfigurationError(
                f"the keystore {self._keystore.path} names the address {self.address} but holds the"
                f" key of {address_of_key(key)}: USDC sent to the named address would be lost"
            )
        return key


class _Keystore:
    def __init__(self, path: Path, document: dict[str, Any], password: str) -> None:
        self.path = path
        self.document = document
        self.password = password

    def open(self) -> bytes:
        """Return the private key; ConfigurationError when the password is wrong."""
        from eth_account import Account

        try:
            return bytes(Account.decrypt(self.document, self.password))
        except (ValueError, TypeError, KeyError):
            quoted = self.password[:1] in ("'", '"') and self.password[:1] == self.password[-1:]
            hint = ", which begins and ends with a quote (Docker's --env-file keeps quotes)"
            raise ConfigurationError(
                f"the password{hint if quoted else ''} does not open the keystore {self.path}"
            ) from None


def load_signer(spec: str, secrets: Mapping[str, str]) -> Signer:
    """The signer of ``env:NAME``, ``keystore:PATH`` or ``address:0x…``, which signs nothing.

    ConfigurationError when the key is missing or what is given is none.

    ``secrets`` looks names up in the environment, ``.env`` and their ``_FILE`` forms.
    """
    kind, _, rest = spec.partition(":")
    # What is given is never repeated: a key may have been put where its name belongs.
    if kind == "env" and _VARIABLE.fullmatch(rest):
        return _from_key(rest, secrets.get(rest))
    if kind == "keystore" and rest:
        return _from_keystore(Path(rest).expanduser(), secrets.get("COORDINATOR_KEYSTORE_PASSWORD"))
    if kind == "address" and rest:
        return Signer(_address(rest))
    raise ConfigurationError(
        "COORDINATOR_SIGNER must be env:NAME, keystore:PATH, address:0x… or address"
    )


def _address(text: str) -> str:
    try:
        return checksummed(text)
    except ValueError:
        raise ConfigurationError(
            "COORDINATOR_SIGNER=address:… must be followed by the treasury's address, 0x and 40"
            " hex digits"
        ) from None


def _from_key(name: str, text: str | None) -> Signer:
    if not text:
        raise ConfigurationError(f"{name} is not set: put the treasury's private key there")
    digits = text.strip().removeprefix("0x")
    try:
        key = bytes.fromhex(digits)
        return Signer(address_of_key(key), key)
    except ValueError:
        raise ConfigurationError(f"{name} is not a private key: it must be 64 hex digits") from None


def _from_keystore(path: Path, password: str | None) -> Signer:
    document = read_keystore(path)
    if document is None:
        raise ConfigurationError(f"{path} is not a readable keystore file")
    if password is None:
        raise ConfigurationError("COORDINATOR_KEYSTORE_PASSWORD is not set (or its _FILE form)")
    keystore = _Keystore(path, document, password)
    address = address_in(document)
    if address is not None:
        return Signer(address, None, keystore)
    # Foundry's keystores do not say whose key they hold.
    key = keystore.open()
    return Signer(address_of_key(key), key)


def read_keystore(path: Path) -> dict[str, Any] | None:
    """The file's document; None when it is not a keystore."""
    try:
        document = json.loads(decode_file(path.read_bytes()))
        address_in(document)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return document if "crypto" in document or "Crypto" in document else None


def address_in(document: dict[str, Any]) -> str | None:
    """The address that a keystore claims, None when it says none; ValueError when it is wrong."""
    claimed = document.get("address")
    if claimed is None or claimed == "":
        return None
    return checksummed("0x" + str(claimed).removeprefix("0x"))


def address_of_key(key: bytes) -> str:
    """The address of a 32-byte private key; ValueError when it is none."""
    if len(key) != 32:
        raise ValueError("a private key has 32 bytes")
    from coincurve import PublicKey

    point = PublicKey.from_valid_secret(key).format(compressed=False)
    return checksummed("0x" + keccak256(point[1:])[-20:].hex())
