"""What an account paid for, from the receipts of its transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.safe.roles import EXECUTE
from tests.benchmarks.scene import Scene

_WORD: Final = "0x" + "00" * 32
_NOBODY: Final = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class Paid:
    """One mined transaction of an account."""

    step: str
    gas: int
    wei: int


def paid_by(scene: Scene, account: str, first: int) -> list[Paid]:
    """Every mined transaction of an account since a block; RuntimeError for one that failed."""
    return list(_paid(scene, account.lower(), first))


def gas_each(paid: Sequence[Paid], count: int) -> float:
    """The gas of all, shared by so many purchases."""
    return sum(one.gas for one in paid) / count


def _paid(scene: Scene, account: str, first: int) -> Iterator[Paid]:
    names = _steps()
    for number in range(first, scene.chain.height + 1):
        block = scene.rpc.call("eth_getBlockByNumber", hex(number), True)
        sent = [t for t in block["transactions"] if t["from"].lower() == account]
        asked = [("eth_getTransactionReceipt", [t["hash"]]) for t in sent]
        receipts = scene.rpc.batch(asked) if asked else []
        for transaction, receipt in zip(sent, receipts, strict=True):
            if int(receipt["status"], 16) != 1:
                raise RuntimeError(f"the benchmark's transaction {transaction['hash']} failed")
            gas, price = int(receipt["gasUsed"], 16), int(receipt["effectiveGasPrice"], 16)
            step = names.get(transaction["input"][:10], "other")
            yield Paid(step, gas, gas * price)


def _steps() -> dict[str, str]:
    """Names of steps by the selectors of their calls."""
    kernel, token = kernel_abi(), token_abi()
    create = [_NOBODY, _NOBODY, 0, 0, 0, _WORD, 0, 0]
    calls = {
        "create": kernel.call("createTransaction", *create),
        "link": kernel.call("linkEscrow", _WORD, _NOBODY, _WORD),
        "approve": token.call("approve", _NOBODY, 0),
        "batch": "0x" + EXECUTE.selector.hex(),
    }
    return {data[:10]: step for step, data in calls.items()}
