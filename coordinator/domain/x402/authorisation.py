"""Make what pays for a request: USDC's ``TransferWithAuthorization`` (EIP-3009)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.typed_data import Domain, TypedData
from coordinator.domain.usdc import Usdc

_NAME: Final = "TransferWithAuthorization"
_FIELDS: Final = (
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
)


@dataclass(frozen=True, slots=True)
class Authorisation:
    """``amount`` from ``wallet`` to ``payee`` in a block whose time is below ``valid_before``.

    ``valid_before`` is in unix seconds; the token takes each ``nonce`` (32 bytes, hex) of a wallet
    once.
    """

    wallet: str
    payee: str
    amount: Usdc
    valid_before: int
    nonce: str

    def message(self, token: Domain) -> TypedData:
        """Return what the wallet signs for the ``token``."""
        nonce = bytes.fromhex(self.nonce[2:])
        units, until = self.amount.base_units, self.valid_before
        return TypedData(token, _NAME, _FIELDS, (self.wallet, self.payee, units, 0, until, nonce))

    def payload(self, signature: str) -> dict[str, Any]:
        """Return it as the scheme ``exact`` has it, with the wallet's signature."""
        return {
            "signature": signature,
            "authorization": {
                "from": self.wallet,
                "to": self.payee,
                "value": str(self.amount.base_units),
                "validAfter": "0",
                "validBefore": str(self.valid_before),
                "nonce": self.nonce,
            },
        }
