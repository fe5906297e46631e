"""``scripts/bench gas``: gas and fees of a purchase, from receipts, beside the least there is.

So many purchases of a treasury whose vault may take nothing yet: the approval is part of them. The
floor funds as many escrows without any.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.domain.usdc import ZERO
from tests.benchmarks.buyers import open_buyers
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import Tell, elapsed, show_ratios, show_rows
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.floor import pay
from tests.benchmarks.machine import described
from tests.benchmarks.scene import BLOCK_SECONDS, Scene, open_scene

COUNTS: Final = (1, 20, 200)
QUICK_COUNTS: Final = (1, 20)
_WEI_IN_ETH: Final = 10**18
_TIMEOUT: Final = 300.0
_WORD: Final = "0x" + "00" * 32
_NOBODY: Final = "0x" + "00" * 20

TARGETS: Final[Mapping[str, Target]] = {}
_MEANINGS: Final = {
    "gas_over_floor_1": "one purchase: gas / of create and link alone",
    "gas_over_floor_20": "20 at once: the same of each",
    "gas_over_floor_200": "200 at once: the same of each",
}


@dataclass(frozen=True, slots=True)
class Paid:
    """One mined transaction of an account."""

    step: str
    gas: int
    wei: int


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="1 and 20 at once")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Buy, and read every transaction of the treasury back from the chain."""
    found: dict[int, tuple[list[Paid], list[Paid]]] = {}
    with open_scene() as scene:
        scene.blocks_every(BLOCK_SECONDS)
        for count in QUICK_COUNTS if arguments.quick else COUNTS:
            found[count] = _bought(scene, count)
            tell(f"{count:,} at once: {_each(found[count][0], count):,.0f} gas each")
    return summary_of(found)


def summary_of(found: Mapping[int, tuple[Sequence[Paid], Sequence[Paid]]]) -> dict[str, Any]:
    """What is printed of (ours, the floor's) transactions by how many purchases there were."""
    ratios = {
        f"gas_over_floor_{count}": round(_each(ours, count) / _each(floor, count), 3)
        for count, (ours, floor) in found.items()
    }
    everything = [paid for ours, _ in found.values() for paid in ours]
    return {
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "purchases": {
            str(count): {
                "gas_each": round(_each(ours, count)),
                "floor_gas_each": round(_each(floor, count)),
                "eth_each": sum(p.wei for p in ours) / count / _WEI_IN_ETH,
                "transactions": len(ours),
            }
            for count, (ours, floor) in found.items()
        },
        "gas_by_step": by_step(everything),
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def by_step(paid: Sequence[Paid]) -> dict[str, dict[str, float]]:
    """How often each step was paid for, and its gas: the mean and the most."""
    steps: dict[str, list[int]] = defaultdict(list)
    for one in paid:
        steps[one.step].append(one.gas)
    return {
        step: {"transactions": len(gas), "mean": round(mean(gas)), "most": max(gas)}
        for step, gas in sorted(steps.items())
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print gas and fees by number of purchases and by step."""
    rows = [
        [n, f"{f['gas_each']:,}", f"{f['floor_gas_each']:,}", f"{f['eth_each']:.3g}"]
        for n, f in summary["purchases"].items()
    ]
    show_rows("A purchase, on this chain", ["at once", "gas", "floor", "ETH"], rows)
    steps = [
        [step, f"{f['transactions']:,}", f"{f['mean']:,}", f"{f['most']:,}"]
        for step, f in summary["gas_by_step"].items()
    ]
    show_rows("Gas by step", ["step", "transactions", "mean", "most"], steps)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Gas of a purchase by how many at once."""
    found = summary["purchases"].items()
    ours = {count: each["gas_each"] for count, each in found}
    floor = {count: each["floor_gas_each"] for count, each in found}
    return Chart("Gas of one of so many purchases at once", {"ours": ours, "floor": floor})


def _each(paid: Sequence[Paid], count: int) -> float:
    return sum(one.gas for one in paid) / count


def _bought(scene: Scene, count: int) -> tuple[list[Paid], list[Paid]]:
    """Every transaction of ``count`` purchases and of as many of the floor."""
    urls = [f"sqlite:///{scene.folder}/gas-{count}-{part}.db" for part in ("ours", "floor")]
    ours, floor = scene.treasuries(urls)
    scene.chain.set_allowance(ours.address, ZERO)
    first = scene.chain.height
    with open_buyers(scene, ours, public=False) as buyers:
        # It has bought once to begin with.
        if count > 1:
            bought = buyers.at_once("not_waiting", count - 1, _TIMEOUT)
            if bought.funded != count - 1:
                raise RuntimeError(f"only {bought.funded} purchases of the benchmark were funded")
    pay(scene, floor, scene.url, count)
    return list(_paid(scene, ours.address, first)), list(_paid(scene, floor.address, first))


def _paid(scene: Scene, account: str, first: int) -> Iterator[Paid]:
    """Every mined transaction of an account since a block."""
    names = _steps()
    for number in range(first, scene.chain.height + 1):
        block = scene.rpc.call("eth_getBlockByNumber", hex(number), True)
        sent = [t for t in block["transactions"] if t["from"].lower() == account.lower()]
        asked = [("eth_getTransactionReceipt", [t["hash"]]) for t in sent]
        receipts = scene.rpc.batch(asked) if asked else []
        for transaction, receipt in zip(sent, receipts, strict=True):
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
    }
    return {data[:10]: step for step, data in calls.items()}
