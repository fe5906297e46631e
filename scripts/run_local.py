#!/usr/bin/env python3
"""Run the crew on a local chain of its own: three purchases, one of them approved by a human."""

import _venv

_venv.ensure()

import argparse
import json
import logging
import sys

from rich.console import Console

from coordinator import Coordinator, Purchase
from coordinator.api.crew import Errand, crew_policy, run_crew, summary
from coordinator.config import load_settings
from coordinator.demo.stage import open_stage
from coordinator.wiring import wire


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one object")
    arguments = parser.parse_args()
    logging.getLogger("coordinator").setLevel(logging.ERROR)
    console = Console(stderr=arguments.json)

    def told(errand: Errand, purchase: Purchase) -> None:
        console.print(f"{errand.agent}: {purchase.amount} USDC, {purchase.status}")

    with open_stage(keep=False) as stage:
        policy = crew_policy(stage.provider)
        settings = load_settings(stage.environment)
        stage.close()
        with Coordinator(wire(stage.environment, settings, policy=policy)) as coordinator:
            purchases = run_crew(coordinator, run_id="local", told=told)
            result = summary(coordinator, purchases)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        found = len(result["reconciliation"]["discrepancies"])
        console.print(f"{found} discrepancies; {result['report']['closing']} USDC left.")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
