#!/usr/bin/env python3
"""Run the crew on Base Sepolia with the settings of .env: 4.50 USDC of test tokens in all.

Needs ETH for gas and the vault's test token in the treasury; `coordinator doctor` tells what is
missing, `coordinator fund` mints the token. --dry-run shows every step without a key.
"""

import _venv

_venv.ensure()

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from coordinator import Coordinator, CoordinatorError, Purchase
from coordinator.api.crew import Errand, crew_policy, planned, run_crew, summary
from coordinator.config import environment, load_settings
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ChainUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", help="the address that is paid")
    parser.add_argument("--run-id", default="testnet-1", help="the same id never pays twice")
    parser.add_argument("--dry-run", action="store_true", help="show every step, sign nothing")
    parser.add_argument("--json", action="store_true", help="print one object")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    if arguments.dry_run:
        return _show_plan(console, as_json=arguments.json)
    try:
        return _run(arguments, console)
    except (CoordinatorError, ValueError) as fault:
        console.print(f"error: {fault}", style="red", markup=False)
        return 5 if isinstance(fault, ChainUnavailable) else 2


def _show_plan(console: Console, *, as_json: bool) -> int:
    steps = list(planned())
    if as_json:
        keys = ("step", "does", "gas_limit")
        print(json.dumps([dict(zip(keys, step, strict=True)) for step in steps], indent=2))
        return 0
    table = Table("step", "does", "gas limit")
    for step, does, gas_limit in steps:
        table.add_row(step, does, f"{gas_limit:,}")
    console.print(table)
    return 0


def _run(arguments: argparse.Namespace, console: Console) -> int:
    if not arguments.provider:
        raise ValueError("--provider ADDRESS is needed: who is to be paid")
    settings = load_settings(environment())
    if settings.network != "base-sepolia":
        raise ValueError("COORDINATOR_NETWORK must be base-sepolia for this script")
    policy = crew_policy(checksummed(arguments.provider))

    def told(errand: Errand, purchase: Purchase) -> None:
        console.print(f"{errand.agent}: {purchase.amount} USDC, {purchase.status}")
        for transaction in purchase.transactions:
            console.print(f"  {transaction.step}: {transaction.url}", soft_wrap=True)

    with Coordinator.from_env(policy=policy) as coordinator:
        purchases = run_crew(coordinator, run_id=arguments.run_id, told=told)
        result = summary(coordinator, purchases)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        found = len(result["reconciliation"]["discrepancies"])
        console.print(f"{found} discrepancies; {result['report']['closing']} USDC left.")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
