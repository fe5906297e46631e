"""Keys: where they come from, and signing with them. Keys never leave this module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.gas import Fees
from coordinator.domain.steps import Attempt, Call

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)


class Signer:
    """One account: its address at once, its key only when something is signed."""

    def __init__(self, address: str, key: bytes | None, keystore: _Keystore | None = None) -> None:
        self.address = address
        self._key = key
        self._keystore = keystore
        self._account: Any = None

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def sign(self, call: Call, *, nonce: int, fees: Fees, chain_id: int) -> Attempt:
        """A signed EIP-1559 transaction of ``call``; sends nothing."""
        signed = self._unlocked().sign_transaction(
            {
                "type": 2,
                "chainId": chain_id,
                "nonce": nonce,
                "to": call.to,
                "value": 0,
                "data": call.data,
                "gas": call.gas_limit,
                "maxFeePerGas": fees.max_fee_per_gas,
                "maxPriorityFeePerGas": fees.max_priority_fee_per_gas,
            }
        )
        return Attempt(
            hash="0x" + bytes(signed.hash).hex(),
            raw="0x" + bytes(signed.raw_transaction).hex(),
            max_fee_per_gas=fees.max_fee_per_gas,
            max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
        )

    def sign_raw(self, transaction: dict[str, Any]) -> str:
        """The raw bytes of a complete transaction, such as a deployment."""
        signed = self._unlocked().sign_transaction(transaction)
        return "0x" + bytes(signed.raw_transaction).hex()

    def _unlocked(self) -> Any:
        if self._account is None:
            from eth_account import Account

            key = self._key if self._key is not None else self._open_keystore()
            self._account = Account.from_key(key)
        return self._account

    def _open_keystore(self) -> bytes:
        assert self._keystore is not None
        from eth_account import Account

        try:
            return bytes(Account.decrypt(self._keystore.document, self._keystore.password))
        except ValueError:
            raise ConfigurationError(
                f"the password does not open the keystore {self._keystore.path}"
            ) from None


class _Keystore:
    def __init__(self, path: Path, document: dict[str, Any], password: str) -> None:
        self.path = path
        self.document = document
        self.password = password


def load_signer(spec: str, secrets: Mapping[str, str]) -> Signer:
    """The signer of ``env:NAME`` or ``keystore:PATH``; ConfigurationError when it is missing.

    ``secrets`` looks names up in the environment, ``.env`` and their ``_FILE`` forms.
    """
    kind, _, rest = spec.partition(":")
    # What is given is never repeated: a key may have been put where its name belongs.
    if kind == "env" and _VARIABLE.fullmatch(rest):
        return _from_key(rest, secrets.get(rest))
    if kind == "keystore" and rest:
        return _from_keystore(Path(rest).expanduser(), secrets.get("COORDINATOR_KEYSTORE_PASSWORD"))
    raise ConfigurationError("COORDINATOR_SIGNER must be env:NAME or keystore:PATH")


def _from_key(name: str, text: str | None) -> Signer:
    if not text:
        raise ConfigurationError(f"{name} is not set: put the treasury's private key there")
    digits = text.strip().removeprefix("0x")
    try:
        key = bytes.fromhex(digits)
        return Signer(address_of_key(key), key)
    except ValueError:
        raise ConfigurationError(f"{name} is not a private key: 64 hex digits are") from None


def _from_keystore(path: Path, password: str | None) -> Signer:
    try:
        document = json.loads(path.read_text())
        address = checksummed("0x" + str(document["address"]).removeprefix("0x"))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigurationError(f"{path} is not a readable keystore file") from None
    if password is None:
        raise ConfigurationError("COORDINATOR_KEYSTORE_PASSWORD is not set (or its _FILE form)")
    return Signer(address, None, _Keystore(path, document, password))


def address_of_key(key: bytes) -> str:
    """The address of a 32-byte private key; ValueError when it is none."""
    if len(key) != 32:
        raise ValueError("a private key has 32 bytes")
    from coincurve import PublicKey

    point = PublicKey.from_valid_secret(key).format(compressed=False)
    return checksummed("0x" + keccak256(point[1:])[-20:].hex())
