"""What tests of a node share: an account whose key they have, and short questions."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.evm.send_answers import classify
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.chain.signers.signers import Signer
from coordinator.chain.simulated import SimulatedRpc
from coordinator.domain.address import keccak256
from tests.integration.local_chain import LocalChain

GWEI = 10**9
UNKNOWN = "0x" + "ab" * 32
DAY = 86_400


def strict(chain: LocalChain, why: str) -> None:
    """Skip on Anvil, whose pool is laxer than a real node's."""
    if not isinstance(chain.rpc, SimulatedRpc):
        pytest.skip(f"Anvil: {why}")


class Wallet:
    """A funded account whose key the test has."""

    def __init__(self, chain: LocalChain, wei: int = 10**18) -> None:
        self.chain = chain
        key = secrets.token_bytes(32)
        self.address = address_of_key(key)
        self._signer = Signer.of_key(key)
        chain.rpc.call("anvil_setBalance", self.address, hex(wei))

    def raw(self, nonce: int, **fields: Any) -> str:
        transaction = {
            "type": 2,
            "chainId": self.chain.deployment.chain_id,
            "nonce": nonce,
            "to": self.chain.stranger,
            "value": 1,
            "data": "0x",
            "gas": 21_000,
            "maxFeePerGas": 2 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        }
        return self._signer.sign_raw(transaction | fields)

    def send(self, nonce: int, **fields: Any) -> Any:
        """The node's answer: a hash, or what its refusal proves."""
        return self.send_raw(self.raw(nonce, **fields))

    def send_raw(self, raw: str) -> Any:
        (answer,) = self.chain.rpc.send([("eth_sendRawTransaction", [raw])])
        return classify(answer.message).sent if isinstance(answer, RpcRefusal) else answer

    def count(self, at: Any = "latest") -> int:
        return int(self.chain.rpc.call("eth_getTransactionCount", self.address, at), 16)


def refusal(chain: LocalChain, method: str, *params: Any) -> RpcRefusal:
    (answer,) = chain.rpc.batch([(method, params)])
    assert isinstance(answer, RpcRefusal), answer
    return answer


def header(chain: LocalChain, at: Any = "latest") -> dict[str, Any]:
    found: dict[str, Any] = chain.rpc.call("eth_getBlockByNumber", at, False)
    return found


def mined(chain: LocalChain, tx_hash: str) -> bool:
    return chain.rpc.call("eth_getTransactionReceipt", tx_hash) is not None


def hash_of(raw: str) -> str:
    return "0x" + keccak256(bytes.fromhex(raw[2:])).hex()


def mint(chain: LocalChain, to: str, units: int) -> str:
    return chain.token_admin("mint", to, units)


def transfer_logs(chain: LocalChain, **wanted: Any) -> list[tuple[str, int]]:
    """(transaction, data as a number) of Circle's transfers."""
    transfer = token_abi().topic("Transfer")
    asked = {"address": chain.deployment.usdc, "topics": [transfer]} | wanted
    return [
        (log["transactionHash"], int(log["data"], 16))
        for log in chain.rpc.call("eth_getLogs", asked)
    ]


def create_data(chain: LocalChain, requester: str, *, amount: int = 25_000_000) -> str:
    terms = (amount, chain.time + DAY, 3600, bytes(32), 0, 0)
    return kernel_abi().call("createTransaction", chain.provider, requester, *terms)
