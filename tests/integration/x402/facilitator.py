"""A facilitator that settles on the chain, and fails in the ways that real ones do."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from eth_abi.abi import encode
from x402.schemas import SettleResponse, SupportedKind, SupportedResponse, VerifyResponse

from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.address import keccak256
from tests.integration.local_chain import LocalChain

NETWORK: Final = "eip155:84532"

HONEST: Final = "honest"
#: Settles, and never answers.
SILENT: Final = "accepts, then silent"
#: Settles, and a gateway before the server answers 502.
BAD_GATEWAY: Final = "settles, then 5xx"
#: Settles, and says that it failed: the server asks for payment again.
ASKS_TWICE: Final = "402 twice"
#: Settles only when it is let go on.
SLOW: Final = "slow"
#: Says that it settled, and does nothing.
NEVER: Final = "never settles"
#: Says that it settled, and tries when it is let go on, which may be too late.
LATE: Final = "settles after validBefore"
#: Says that the transaction is on its way, and sends it when it is let go on.
PENDING: Final = "settlement_pending"
FAULTS: Final = (SILENT, BAD_GATEWAY, ASKS_TWICE, SLOW, NEVER, LATE, PENDING)

_TYPES: Final = ("address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes")
_TRANSFER: Final = keccak256(f"transferWithAuthorization({','.join(_TYPES)})".encode())[:4]
_UNSENT: Final = "0x" + "00" * 32


@dataclass
class Facilitator:
    """Submits payments from an account of its own, which pays the gas.

    ``reached`` is set when a payment came to be settled; ``go`` lets one go on that waits.
    """

    chain: LocalChain
    fault: str = HONEST
    networks: tuple[str, ...] = (NETWORK,)
    nonces: list[str] = field(default_factory=list)
    late: list[tuple[str, str]] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def get_supported(self) -> SupportedResponse:
        kinds = [
            SupportedKind(x402_version=2, scheme="exact", network=network)
            for network in self.networks
        ]
        return SupportedResponse(kinds=kinds)

    async def verify(self, payload: Any, requirements: Any) -> VerifyResponse:
        """Ask the token itself; what it used before is valid: it is settled once all the same."""
        payer = payload.payload["authorization"]["from"]
        why = await asyncio.to_thread(self._refusal, payload.payload, requirements)
        return VerifyResponse(is_valid=not why, invalid_reason=why or None, payer=payer)

    async def settle(self, payload: Any, requirements: Any) -> SettleResponse:
        self.nonces.append(payload.payload["authorization"]["nonce"])
        return await asyncio.to_thread(self._settle, payload.payload)

    def submit_late(self) -> None:
        """Try now what was put off; the token may refuse it."""
        for sender, data in self.late:
            self.chain.send(sender, self.chain.deployment.usdc, data)
            self.chain.mine()
        self.late.clear()

    def _settle(self, signed: Any) -> SettleResponse:
        fault, payer = self.fault, signed["authorization"]["from"]
        self.reached.set()
        if fault == SLOW:
            self.go.wait()
        if fault in (NEVER, LATE, PENDING):
            if fault != NEVER:
                self.late.append((self.chain.stranger, _call(signed)))
            why = {"error_reason": "settlement_pending"} if fault == PENDING else {}
            return SettleResponse(
                success=fault != PENDING, transaction=_UNSENT, network=NETWORK, payer=payer, **why
            )
        tx_hash = self._submit(signed)
        if fault == SILENT:
            self.closed.wait()
        if fault == ASKS_TWICE:
            return SettleResponse(
                success=False,
                error_reason="unexpected_settle_error",
                transaction="",
                network=NETWORK,
                payer=payer,
            )
        return SettleResponse(success=True, transaction=tx_hash, network=NETWORK, payer=payer)

    def _submit(self, signed: Any) -> str:
        if self._used(signed["authorization"]):
            return _UNSENT
        # The node gives two that come at once one nonce, and keeps one of them.
        with self._one_at_a_time:
            tx_hash = self.chain.send(
                self.chain.stranger, self.chain.deployment.usdc, _call(signed)
            )
            self.chain.mine()
            while self.chain.rpc.call("eth_getTransactionReceipt", tx_hash) is None:
                self.chain.mine()
        return tx_hash

    def _used(self, authorization: Any) -> bool:
        data = keccak256(b"authorizationState(address,bytes32)")[:4] + encode(
            ("address", "bytes32"),
            (authorization["from"], bytes.fromhex(authorization["nonce"][2:])),
        )
        call = {"to": self.chain.deployment.usdc, "data": "0x" + data.hex()}
        return int(self.chain.rpc.call("eth_call", call, "latest"), 16) == 1

    def _refusal(self, signed: Any, requirements: Any) -> str:
        authorization = signed["authorization"]
        if authorization["to"].lower() != requirements.pay_to.lower():
            return "invalid_exact_evm_payload_recipient_mismatch"
        if int(authorization["value"]) != int(requirements.amount):
            return "invalid_exact_evm_payload_authorization_value"
        if self._used(authorization):
            return ""
        call = {
            "from": self.chain.stranger,
            "to": self.chain.deployment.usdc,
            "data": _call(signed),
        }
        (answer,) = self.chain.rpc.batch([("eth_call", [call, "latest"])])
        return "invalid_exact_evm_payload_signature" if isinstance(answer, RpcRefusal) else ""


def _call(signed: Any) -> str:
    a = signed["authorization"]
    words = encode(
        _TYPES,
        (
            a["from"],
            a["to"],
            int(a["value"]),
            int(a["validAfter"]),
            int(a["validBefore"]),
            bytes.fromhex(a["nonce"][2:]),
            bytes.fromhex(signed["signature"][2:]),
        ),
    )
    return "0x" + (_TRANSFER + words).hex()
