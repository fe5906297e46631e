"""One account's transactions, each sent and then looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from coordinator.chain.abi import quantity, revert_reason
from coordinator.chain.rpc.client import Rpc, RpcRefusal, RpcRefused
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.gas import suggested_fees
from coordinator.domain.errors import ChainUnavailable, TxReverted

_TIP_WEI: Final = 1_000_000
_RECEIPT_SECONDS: Final = 60
# EIP-7825 allows a transaction no more.
_GAS_MAX: Final = 16_777_216
_GAS_MARGIN_PERCENT: Final = 115


@dataclass(frozen=True, slots=True)
class Sender:
    """The account that pays for a deployment; ``signer`` is None for one the node unlocked."""

    rpc: Rpc
    address: str
    signer: Signer | None = None

    def send(self, call: InnerCall, *, value: int = 0, gas: int | None = None) -> dict[str, Any]:
        """Send it and return its receipt; TxReverted with the call's title where it fails."""
        gas = self._estimated(call, value) if gas is None else gas
        fields = {"nonce": self._nonce(), "gas": gas, "to": call.to, "value": value}
        tx_hash = self.submit(fields | self.fees() | {"data": "0x" + call.data.hex()})
        receipt = self.receipt(tx_hash, call.title)
        if quantity(receipt["status"]) != 1:
            raise TxReverted(f"{call.title}: the transaction {tx_hash} failed")
        return receipt

    def fees(self) -> dict[str, int]:
        """Return what a transaction says of the chain and of its price, as it is at present."""
        block = self.rpc.call("eth_getBlockByNumber", "latest", False)
        fees = suggested_fees(quantity(block["baseFeePerGas"]), _TIP_WEI, 0, None)
        assert fees is not None
        return {
            "type": 2,
            "chainId": quantity(self.rpc.call("eth_chainId")),
            "maxFeePerGas": fees.max_fee_per_gas,
            "maxPriorityFeePerGas": fees.max_priority_fee_per_gas,
        }

    def submit(self, transaction: dict[str, Any]) -> str:
        """Sign it, unless the node does, and send it without waiting; return its hash."""
        if self.signer is not None:
            raw = self.signer.sign_raw(transaction)
            (answer,) = self.rpc.send([("eth_sendRawTransaction", [raw])])
        else:
            written = {k: hex(v) if isinstance(v, int) else v for k, v in transaction.items()}
            unlocked = written | {"from": self.address}
            (answer,) = self.rpc.send([("eth_sendTransaction", [unlocked])])
        if isinstance(answer, RpcRefusal):
            raise RpcRefused(answer)
        return str(answer)

    def receipt(self, tx_hash: str, title: str) -> dict[str, Any]:
        """Wait for a transaction to be mined; ChainUnavailable when it is not."""
        waiting = Retrying(
            stop=stop_after_delay(_RECEIPT_SECONDS),
            wait=wait_fixed(0.02),
            retry=retry_if_result(lambda receipt: receipt is None),
        )
        try:
            found: dict[str, Any] = waiting(self.rpc.call, "eth_getTransactionReceipt", tx_hash)
        except RetryError:
            raise ChainUnavailable(
                f"{tx_hash} ({title}) was not mined within {_RECEIPT_SECONDS} seconds"
            ) from None
        return found

    def _estimated(self, call: InnerCall, value: int) -> int:
        asked = {"from": self.address, "to": call.to, "data": "0x" + call.data.hex()}
        (answer,) = self.rpc.batch([("eth_estimateGas", [asked | {"value": hex(value)}])])
        if isinstance(answer, RpcRefusal):
            raise TxReverted(f"{call.title}: {revert_reason(answer, ())}")
        return min(quantity(answer) * _GAS_MARGIN_PERCENT // 100, _GAS_MAX)

    def _nonce(self) -> int:
        return quantity(self.rpc.call("eth_getTransactionCount", self.address, "pending"))
