"""EIP-3009 authorisations as a wallet's key signs them, by another library than ours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account

from coordinator.chain.abi import token_abi
from coordinator.domain.usdc import Usdc
from tests.integration.local_chain import LocalChain

_TRANSFER: Final = (
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,{signature})"
)
_FIELDS: Final = {
    "from": "address",
    "to": "address",
    "value": "uint256",
    "validAfter": "uint256",
    "validBefore": "uint256",
    "nonce": "bytes32",
}
FOR_EVER: Final = 2**255


@dataclass(frozen=True)
class Authorisation:
    """A payment of ``amount`` to ``to`` by the account of ``key``, which anybody may submit."""

    chain: LocalChain
    key: str
    to: str
    amount: Usdc
    nonce: str = field(default_factory=lambda: "0x" + secrets.token_hex(32))
    valid_after: int = 0
    valid_before: int = FOR_EVER

    @property
    def owner(self) -> str:
        return str(Account.from_key(self.key).address)

    def terms(self) -> list[Any]:
        """The arguments of the token's function, but for the signature."""
        nonce = bytes.fromhex(self.nonce[2:])
        value = self.amount.base_units
        return [self.owner, self.to, value, self.valid_after, self.valid_before, nonce]

    def signature(self) -> bytes:
        domain = {
            "name": self.chain.token("name"),
            "version": self.chain.token("version"),
            "chainId": int(self.chain.rpc.call("eth_chainId"), 16),
            "verifyingContract": self.chain.deployment.usdc,
        }
        types = {
            "TransferWithAuthorization": [{"name": n, "type": kind} for n, kind in _FIELDS.items()]
        }
        message = dict(zip(_FIELDS, self.terms(), strict=True))
        return bytes(Account.sign_typed_data(self.key, domain, types, message).signature)

    def call(self, signature: bytes | None = None) -> str:
        """The call data with the signature in one piece."""
        signed = self.signature() if signature is None else signature
        return token_abi().call(_TRANSFER.format(signature="bytes"), *self.terms(), signed)

    def call_by_parts(self) -> str:
        """The call data with v, r and s."""
        signed, form = self.signature(), _TRANSFER.format(signature="uint8,bytes32,bytes32")
        parts = signed[64], signed[:32], signed[32:64]
        return token_abi().call(form, *self.terms(), *parts)

    def submit(self) -> str:
        """Put it into the pool, as a facilitator does; the transaction's hash."""
        return self.chain.send(self.chain.stranger, self.chain.deployment.usdc, self.call())

    def use(self) -> str:
        """Have it mined; the transaction's hash."""
        tx_hash = self.submit()
        self.chain.mine()
        assert int(self.chain.receipt(tx_hash)["status"], 16) == 1
        return tx_hash
