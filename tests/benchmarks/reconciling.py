"""``python -m tests.benchmarks.reconciling WHAT``: one reading of a chain, in a process of its own.

WHAT is ``bare``, which downloads the logs and does nothing with them, ``rebuild``, ``full``, which
reads everything again and compares it, or ``incremental``, which goes on where the books are. The
settings are those of the environment. Prints JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from coordinator import Coordinator
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.wiring import Wiring

# Of the blocks made here these have 50,000 logs, 35 MB: more at once takes longer, not less.
RANGE_MAX: Final = 100


def main() -> None:
    what = sys.argv[1]
    with Coordinator.from_env(act=False) as coordinator:
        opened = coordinator.opened
        # What is built once is not part of it.
        start, head = opened.follower.start_block, opened.chain.observe().head.number
        before, began, used = _resident_mb(), time.perf_counter(), time.process_time()
        if what == "bare":
            found = {"logs": _download(opened, start, head)}
        elif what == "rebuild":
            found = _told(coordinator.rebuild())
        elif what == "full":
            found = _told(coordinator.reconcile(from_block=start))
        else:
            found = _told(coordinator.reconcile())
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    more = {
        "seconds": round(seconds, 3),
        "processor": round(processor, 3),
        "memory_mb": round(_most_mb() - before, 1),
    }
    print(json.dumps(found | more))


def _told(found: Any) -> dict[str, Any]:
    return {
        "events": found.events,
        "from_block": found.from_block,
        "to_block": found.to_block,
        "differences": len(found.discrepancies),
    }


def _download(opened: Wiring, start: int, head: int) -> int:
    """Ask for every log that the books are made of, range by range; how many there are."""
    d, kernel, vault = opened.deployment, kernel_abi(), vault_abi()
    topics = [kernel.topic(n) for n in ("TransactionCreated", "EscrowLinked", "StateTransitioned")]
    topics += [vault.topic(n) for n in ("EscrowCreated", "EscrowPayout")]
    topics.append(token_abi().topic("Transfer"))
    wanted = {"address": [d.kernel, d.vault, d.usdc], "topics": [topics]}
    logs = 0
    for first in range(start, head + 1, RANGE_MAX):
        span = {"fromBlock": hex(first), "toBlock": hex(min(head, first + RANGE_MAX - 1))}
        logs += len(opened.rpc.call("eth_getLogs", {**wanted, **span}))
    return logs


def _resident_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return _most_mb()


def _most_mb() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS.
    return most / 1024 / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    main()
