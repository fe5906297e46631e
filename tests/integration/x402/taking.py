"""Take signed payments on the chain, as a server's facilitator does."""

from __future__ import annotations

from typing import Any

from coordinator.chain.abi import token_abi
from coordinator.domain.purchase.purchase import PaymentAnswer
from tests.integration.local_chain import LocalChain

_FORM = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"


def call_of(paid: PaymentAnswer) -> str:
    """The call that takes the payment."""
    assert paid.payment is not None
    payload: dict[str, Any] = paid.payment["payload"]
    told = payload["authorization"]
    numbers = [int(told[name]) for name in ("value", "validAfter", "validBefore")]
    nonce, signature = (bytes.fromhex(t[2:]) for t in (told["nonce"], payload["signature"]))
    return token_abi().call(_FORM, told["from"], told["to"], *numbers, nonce, signature)


def submit(chain: LocalChain, paid: PaymentAnswer) -> str:
    """Put the payment into the pool; the transaction's hash."""
    return chain.send(chain.stranger, chain.deployment.usdc, call_of(paid))


def take(chain: LocalChain, paid: PaymentAnswer) -> str:
    """Have the payment mined; the transaction's hash."""
    tx_hash = submit(chain, paid)
    chain.mine()
    assert int(chain.receipt(tx_hash)["status"], 16) == 1
    return tx_hash
