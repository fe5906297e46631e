"""The nearest package, agirails, as somebody careful would use it: run by its own Python.

    PEER_PRIVATE_KEY=0x… .venv-peer/bin/python tests/benchmarks/careful_caller.py --rpc-url URL …

It says ``ready``, waits for a line, funds ``--count`` escrows and prints JSON. All creates are
asked for at once, each is awaited until it is mined, then its escrow is linked. The allowance is
there already: the package's own approval before each link, one more transaction, is left out. The
package numbers its transactions itself; nothing of it is changed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version

from agirails.config.networks import ContractAddresses, get_network
from agirails.runtime.base import CreateTransactionParams
from agirails.runtime.blockchain_runtime import BlockchainRuntime

ZERO_ADDRESS = "0x" + "0" * 40
DAY = 86_400
USDC = 10**6


async def connect(arguments: argparse.Namespace, key: str) -> BlockchainRuntime:
    """The package's runtime on the kernel and vault given, whatever addresses it ships."""
    published = get_network("base-sepolia")
    network = dataclasses.replace(
        published,
        rpc_url=arguments.rpc_url,
        contracts=ContractAddresses(
            actp_kernel=arguments.kernel,
            escrow_vault=arguments.vault,
            usdc=arguments.usdc,
            eas=ZERO_ADDRESS,
            eas_schema_registry=ZERO_ADDRESS,
        ),
        actp_kernel_deployment_block=None,
        aa=None,
    )
    runtime = await BlockchainRuntime.create(
        private_key=key, network=network, rpc_url=arguments.rpc_url, rpc_rate_limit=10_000
    )
    await runtime.nonce_manager.reset()
    return runtime


async def pay(arguments: argparse.Namespace, key: str) -> dict[str, object]:
    runtime = await connect(arguments, key)
    units = str(int(float(arguments.amount) * USDC))
    created_at: list[float] = []

    async def one(number: int) -> None:
        tx_id = await runtime.create_transaction(
            CreateTransactionParams(
                provider=arguments.provider,
                requester=runtime.address,
                amount=units,
                deadline=int(time.time()) + DAY,
                dispute_window=2 * DAY,
                service_description="papers",
            )
        )
        created_at.append(time.perf_counter())
        await runtime.kernel.link_escrow(tx_id, arguments.vault, tx_id)

    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(arguments.count)))
    ended = time.perf_counter()
    await runtime.w3.provider.disconnect()
    return {
        "name": f"agirails {version('agirails')}",
        "seconds": ended - began,
        "creating_seconds": max(created_at) - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("rpc-url", "kernel", "vault", "usdc", "provider", "amount"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    key = os.environ.pop("PEER_PRIVATE_KEY")
    # The package looks for an AGIRAILS.md and a .actp in the working directory.
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        print(json.dumps(asyncio.run(pay(arguments, key))))


if __name__ == "__main__":
    main()
