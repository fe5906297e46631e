"""The least that the chain allows: the transactions of purchases, signed before, sent in batches.

Nonces and escrow ids are known, nothing is decided, kept, read again or awaited one by one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Attempt, Call
from coordinator.domain.usdc import Usdc
from tests.benchmarks.course import AMOUNT
from tests.benchmarks.scene import Scene, Treasury
from tests.integration.ledger.deciding import PROVIDER

_SERVICE = "papers"
_DAY = 86_400
_FEES = Fees(10**9, 10**6)


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds of encoding and signing, and from the first byte sent until all are in a block."""

    purchases: int
    encoding_seconds: float
    signing_seconds: float
    seconds: float
    blocks: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "purchases": self.purchases,
            "encoding_seconds": round(self.encoding_seconds, 3),
            "signing_seconds": round(self.signing_seconds, 3),
            "seconds": round(self.seconds, 3),
            "blocks": self.blocks,
        }


def fill(scene: Scene, treasury: Treasury, count: int, *, each_block: int) -> None:
    """Fund so many escrows, ``each_block`` of them in a block; blocks are mined by hand."""
    rpc, left = Rpc([scene.url], timeout_seconds=60), count
    while left:
        calls = _calls(scene, treasury, min(left, each_block))
        sends = [
            ("eth_sendRawTransaction", [attempt.raw]) for attempt in _sign(scene, treasury, calls)
        ]
        _check(rpc.send(sends))
        scene.chain.mine()
        left -= len(calls) // 2


def pay(scene: Scene, treasury: Treasury, url: str, count: int) -> Floor:
    """Fund so many escrows; each is checked afterwards."""
    began = time.perf_counter()
    calls = _calls(scene, treasury, count)
    encoded = time.perf_counter()
    attempts = _sign(scene, treasury, calls)
    signed = time.perf_counter()
    rpc = Rpc([url], timeout_seconds=30)
    sends = [("eth_sendRawTransaction", [attempt.raw]) for attempt in attempts]
    sending = scene.wait_for_block()
    first_block = scene.chain.height
    _check(rpc.send(sends))
    # When the last of a lane is in a block, all of it is.
    scene.wait_until(lambda: scene.mined(attempts[-1].hash), 120)
    seconds, blocks = time.perf_counter() - sending, scene.chain.height - first_block
    _check_funded(scene, attempts)
    return Floor(count, encoded - began, signed - encoded, seconds, blocks)


def _calls(scene: Scene, treasury: Treasury, count: int) -> list[Call]:
    """Create and link of each purchase, in the order of their nonces."""
    d, amount = scene.deployment, Usdc(AMOUNT)
    rail = ActpRail(d.kernel, d.vault, treasury.address)
    deadline, service_key = scene.chain.time + _DAY, service_hash(_SERVICE)
    first = int(scene.chain.kernel("requesterNonces", treasury.address))
    found: list[Call] = []
    for number in range(first, first + count):
        create = rail.create(
            purchase_id="",
            provider=PROVIDER,
            amount=amount,
            service=_SERVICE,
            deadline=deadline,
            dispute_window=2 * _DAY,
            create_nonce=number,
        )
        predicted = rail.predicted_id(
            provider=PROVIDER, amount=amount, service_key=service_key, create_nonce=number
        )
        escrow_key = "0x" + secrets.token_hex(32)
        link = rail.link(purchase_id="", escrow_id=predicted, escrow_key=escrow_key, amount=amount)
        found += [create, link]
    return found


def _sign(scene: Scene, treasury: Treasury, calls: Sequence[Call]) -> list[Attempt]:
    first, chain_id = scene.chain.nonce(treasury.address), scene.deployment.chain_id
    return [
        treasury.signer.sign(call, nonce=nonce, fees=_FEES, chain_id=chain_id)
        for nonce, call in enumerate(calls, first)
    ]


def _check(answers: Sequence[Any]) -> None:
    refused = [answer for answer in answers if isinstance(answer, RpcRefusal)]
    if refused:
        raise RuntimeError(f"the node refused {len(refused)} transactions: {refused[0].message}")


def _check_funded(scene: Scene, attempts: Sequence[Attempt]) -> None:
    receipts = scene.rpc.batch([("eth_getTransactionReceipt", [a.hash]) for a in attempts])
    failed = sum(int(receipt["status"], 16) != 1 for receipt in receipts)
    if failed:
        raise RuntimeError(f"{failed} transactions of the floor were reverted")
