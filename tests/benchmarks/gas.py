"""``scripts/bench gas``: gas and fees of a purchase, from receipts, beside the least there is.

So many purchases of a treasury whose vault may take nothing yet: the approval is part of them. The
floor funds as many escrows without any. Then those of a wallet and of a Safe that bought before.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, Final

from coordinator.domain.usdc import ZERO
from tests.benchmarks.buyers import open_buyers
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import Tell, elapsed, show_ratios, show_rows
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.floor import pay
from tests.benchmarks.machine import described
from tests.benchmarks.receipts import Paid, gas_each, paid_by
from tests.benchmarks.scene import BLOCK_SECONDS, Scene, open_scene
from tests.benchmarks.steady import (
    BATCHES,
    SAFE,
    WALLET,
    Steady,
    steady_gas,
    steady_ratios,
    steady_rows,
)

COUNTS: Final = (1, 20, 200)
QUICK_COUNTS: Final = (1, 20)
_WEI_IN_ETH: Final = 10**18
_TIMEOUT: Final = 300.0

TARGETS: Final[Mapping[str, Target]] = {
    "safe_gas_each_10": Target(520_000),
    "safe_gas_each_25": Target(520_000),
}
_MEANINGS: Final = {
    "gas_over_floor_1": "one purchase: gas / of create and link alone",
    "gas_over_floor_20": "20 at once: the same of each",
    "gas_over_floor_200": "200 at once: the same of each",
} | {
    name: meaning
    for count in BATCHES
    for name, meaning in (
        (f"safe_gas_each_{count}", f"a Safe's batch of {count}: gas of each"),
        (f"safe_over_wallet_{count}", f"a Safe's batch of {count}: gas / a wallet's"),
        (f"safe_over_floor_{count}", f"a Safe's batch of {count}: gas / the floor's"),
    )
}


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
            tell(f"{count:,} at once: {gas_each(found[count][0], count):,.0f} gas each")
    # Another chain: on one where somebody bought, the first purchase above would cost less.
    with open_scene() as scene:
        steady = steady_gas(scene)
    for count, paid in steady.items():
        safe, wallet = (gas_each(paid[name], count) for name in (SAFE, WALLET))
        tell(f"{count:,} of a Safe: {safe:,.0f} gas each, of a wallet {wallet:,.0f}")
    return summary_of(found, steady)


def summary_of(
    found: Mapping[int, tuple[Sequence[Paid], Sequence[Paid]]], steady: Steady
) -> dict[str, Any]:
    """What is printed of (ours, the floor's) transactions by how many purchases there were."""
    ratios = {
        f"gas_over_floor_{count}": round(gas_each(ours, count) / gas_each(floor, count), 3)
        for count, (ours, floor) in found.items()
    } | steady_ratios(steady)
    everything = [paid for ours, _ in found.values() for paid in ours]
    return {
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "purchases": {
            str(count): {
                "gas_each": round(gas_each(ours, count)),
                "floor_gas_each": round(gas_each(floor, count)),
                "eth_each": sum(p.wei for p in ours) / count / _WEI_IN_ETH,
                "transactions": len(ours),
            }
            for count, (ours, floor) in found.items()
        },
        "steady": steady_rows(steady),
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
    batches = [
        [count, name, f"{f['gas_each']:,}", f"{f['transactions']:,}"]
        for count, by_name in summary["steady"].items()
        for name, f in by_name.items()
    ]
    columns = ["at once", "paid by", "gas", "transactions"]
    show_rows("A purchase that is not the first", columns, batches)
    steps = [
        [step, f"{f['transactions']:,}", f"{f['mean']:,}", f"{f['most']:,}"]
        for step, f in summary["gas_by_step"].items()
    ]
    show_rows("Gas by step", ["step", "transactions", "mean", "most"], steps)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Gas of a purchase by how many at once, of an account's first and of later ones."""
    values: dict[str, dict[str, float | None]] = defaultdict(dict)
    for count, each in summary["purchases"].items():
        label = f"{count}, first"
        values[WALLET][label], values["floor"][label] = each["gas_each"], each["floor_gas_each"]
    for count, by_name in summary["steady"].items():
        for name, each in by_name.items():
            values[name][f"{count}, later"] = each["gas_each"]
    return Chart("Gas of one of so many purchases at once: first and later ones", values)


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
    return paid_by(scene, ours.address, first), paid_by(scene, floor.address, first)
