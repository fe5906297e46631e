"""Run the peer's own client as a provider until SIGTERM.

A program of its own: the `agirails` package pins web3 7, so it is started with the
interpreter of `.venv-peer`, and speaks to the test that started it by JSON lines:

    {"ready": true, "address": "0x…"}
    {"job": "0x…", "service": "…", "requester": "0x…", "amount": "25000000",
     "state": "DELIVERED", "window_ends_at": 1790000000}
    {"job": "0x…", "failed": "…"}

`amount` is in millionths of a USDC; `state` and `window_ends_at` (unix seconds) are
read back from the kernel, because the client reports a job as completed even where
its DELIVERED transition was refused. The provider's account needs ETH for gas and no
USDC. The key comes from the environment variable PEER_PRIVATE_KEY. The client's own
log goes to stderr.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any


def refuse_the_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise on a connection or a name look-up that would leave this machine."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return
    try:
        outside = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        outside = True
    if outside:
        print(f"refused to reach {host}", file=sys.stderr, flush=True)
        raise PermissionError(f"only loopback is allowed, not {host}")


# Before the client is imported, so that nothing it does at import escapes.
sys.addaudithook(refuse_the_outside)
# The switch of the client's delivery relay, a web service.
os.environ.pop("ACTP_DELIVERY_CHANNEL", None)

from agirails.client import ACTPClient  # noqa: E402
from agirails.config.networks import ContractAddresses, get_network  # noqa: E402
from agirails.level1 import agent as agent_module  # noqa: E402
from agirails.level1.agent import Agent  # noqa: E402
from agirails.level1.config import AgentBehavior, AgentConfig  # noqa: E402
from agirails.level1.job import Job, JobContext  # noqa: E402
from agirails.protocol.events import EventMonitor  # noqa: E402
from agirails.runtime.blockchain_runtime import BlockchainRuntime  # noqa: E402

ZERO_ADDRESS = "0x" + "0" * 40


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


class ReadableEvents(EventMonitor):
    """The client's event monitor, able to read logs with the web3 that it pins.

    In 4.8.0 the replaced method calls `create_filter(fromBlock=…)` without awaiting
    it: web3 7 knows no such argument and its method is a coroutine, so every poll
    ends in "Failed to poll transactions" and no provider on a chain ever sees a job.
    The client's parsing, filtering and matching stay its own.
    """

    async def _query_event_logs(
        self, event_obj: Any, from_block: int | str, to_block: int | str
    ) -> list[Any]:
        return list(await event_obj.get_logs(from_block=from_block, to_block=to_block))


async def open_runtime(arguments: argparse.Namespace, key: str) -> BlockchainRuntime:
    """Connect to the kernel and vault given, whatever addresses the client ships."""
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
        private_key=key,
        network=network,
        rpc_url=arguments.rpc_url,
        # Each poll reads every transaction of the last 7,200 blocks once more; the
        # default of ten a second would make a long test's polls last for seconds.
        rpc_rate_limit=1_000,
    )
    runtime.events = ReadableEvents.from_config(runtime.w3, network)
    # Two jobs found by the first poll would otherwise both read the first nonce.
    await runtime.nonce_manager.reset()
    return runtime


def accept_each_once() -> Callable[[Job], bool]:
    """Answer yes to a job's first sight, no to every later one.

    The client marks a job as seen when it is finished, but polls for COMMITTED: on
    blocks of two seconds it would start a job again while its own IN_PROGRESS is
    not mined yet.
    """
    seen: set[str] = set()

    def accept(job: Job) -> bool:
        first_sight = job.id not in seen
        seen.add(job.id)
        return first_sight

    return accept


async def provide(arguments: argparse.Namespace, key: str) -> None:
    runtime = await open_runtime(arguments, key)
    # `Agent.start` of 4.8.0 creates its client without a private key, and AgentConfig
    # has no option for one, so on a chain it always raises "private_key is required".
    # `runtime` is a public option of `ACTPClient.create`; this is the only way to it.
    vars(agent_module)["ACTPClient"] = SimpleNamespace(
        create=partial(ACTPClient.create, runtime=runtime)
    )
    agent = Agent(
        AgentConfig(
            name="peer",
            network="testnet",
            # The address: from a key the agent derives sha256, not the account.
            wallet=runtime.address,
            rpc_url=arguments.rpc_url,
            behavior=AgentBehavior(auto_accept=accept_each_once()),
        )
    )
    if arguments.poll_seconds is not None:
        agent.POLL_INTERVAL = arguments.poll_seconds

    async def work(job: Job, context: JobContext) -> dict[str, str]:
        await asyncio.sleep(arguments.work_seconds)
        return {"done": job.id}

    reports: set[asyncio.Task[None]] = set()

    async def report(job: Job) -> None:
        transaction = await runtime.get_transaction(job.id)
        if transaction is None:
            say(job=job.id, failed="the kernel does not know it")
            return
        say(
            job=job.id,
            service=job.service,
            requester=transaction.requester,
            amount=transaction.amount,
            state=transaction.state.value,
            window_ends_at=transaction.dispute_window,
        )

    def report_completed(job: Job, output: object) -> None:
        task = asyncio.create_task(report(job))
        reports.add(task)
        task.add_done_callback(reports.discard)

    agent.provide(arguments.service, work)
    agent.on("job:completed", report_completed)
    agent.on("job:failed", lambda job, error: say(job=job.id, failed=str(error)))

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await agent.start()
    say(ready=True, address=runtime.address)
    await stopped.wait()
    await agent.stop()
    await asyncio.gather(*reports)
    await runtime.w3.provider.disconnect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rpc-url", required=True)
    parser.add_argument("--kernel", required=True, help="the ACTP kernel's address")
    parser.add_argument("--vault", required=True, help="the escrow vault's address")
    parser.add_argument("--usdc", required=True, help="the vault's token")
    parser.add_argument("--service", required=True, help="the name that is hashed")
    parser.add_argument(
        "--poll-seconds", type=float, help="between two polls (the client's own: 2)"
    )
    parser.add_argument(
        "--work-seconds",
        type=float,
        default=0,
        help="from IN_PROGRESS to DELIVERED",
    )
    arguments = parser.parse_args()
    key = os.environ.pop("PEER_PRIVATE_KEY", None)
    if key is None:
        parser.error("PEER_PRIVATE_KEY is not set")
    # The client looks for an AGIRAILS.md and a .actp in the working directory.
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        asyncio.run(provide(arguments, key))


if __name__ == "__main__":
    main()
