"""The peer, open-agentpay, on the same work: run by its own Python, which has nothing of ours.

    .venv-agentpay/bin/python tests/benchmarks/peer.py --folder DIR --payments 0,10000 --seconds 2

Prints JSON. A decision is ``SQLitePolicyEngine.reserve``: limits checked and the amount reserved in
one durable transaction. Each caller has a connection of its own, made by the peer's own factory.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import uuid
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, time

from agentpay.policy import (
    PolicyConfig,
    SQLitePolicyEngine,
    create_buyer_connection,
    init_buyer_database,
)

CALLERS = (1, 8)
AMOUNT = 1_000_000
BIG = 10**15
SECONDS_BETWEEN = 30
WALLET, PAYEE, ASSET = ("0x" + digit * 40 for digit in "123")
WITHOUT = (
    "It checks three limits (one payment, 24 hours, in all) of one wallet and a rate, where ours"
    " are eleven: no pools, categories, tasks, sessions, providers or pairs; no answer to"
    " the same key again, no approvals, no audit row. It adds its payments up at every decision."
)


def engine(path: Path) -> SQLitePolicyEngine:
    connection = create_buyer_connection(path)
    init_buyer_database(connection)
    config = PolicyConfig(
        id="benchmark",
        wallet_address=WALLET,
        max_per_tx_base_units=100 * AMOUNT,
        rolling_budget_24h_base_units=BIG,
        lifetime_budget_base_units=BIG,
        circuit_max_rpm=10**9,
    )
    return SQLitePolicyEngine(connection, config)


def fill(path: Path, count: int) -> None:
    """Earlier payments, committed, half a minute apart up to now."""
    engine(path)._conn.close()
    first = int(time()) - count * SECONDS_BETWEEN
    connection = create_buyer_connection(path)
    with connection:
        connection.execute(
            """
            WITH RECURSIVE numbers (n) AS (
                SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count
            )
            INSERT INTO ap_budget_ledger (id, policy_id, wallet_address, intent_id,
                amount_base_units, state, created_at, expires_at, updated_at)
            SELECT 'res_' || lower(hex(randomblob(16))), 'benchmark', :wallet,
                lower(hex(randomblob(16))), :amount, 'COMMITTED', :first + n * :step,
                :first + n * :step + 360, :first + n * :step + 20
            FROM numbers WHERE n < :count
            """,
            {
                "count": count,
                "wallet": WALLET,
                "amount": AMOUNT,
                "first": first,
                "step": SECONDS_BETWEEN,
            },
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def spell(path: Path, callers: int, seconds: float) -> tuple[float, int]:
    """Reservations a second, and how many asks were refused: the limits are far away."""
    approved, refused = [0] * callers, [0] * callers
    barrier = threading.Barrier(callers + 1)

    def call(caller: int) -> None:
        own = engine(path)
        barrier.wait()
        until = perf_counter() + seconds
        while not approved[caller] + refused[caller] or perf_counter() < until:
            answer = own.reserve(uuid.uuid4().hex, AMOUNT, PAYEE, ASSET, "eip155:84532")
            (approved if answer.approved else refused)[caller] += 1
        own._conn.close()

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return sum(approved) / (perf_counter() - began), sum(refused)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--payments", required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    rates: dict[str, dict[str, float]] = {}
    refusals: dict[str, dict[str, int]] = {}
    for payments in map(int, arguments.payments.split(",")):
        path = arguments.folder / f"peer{payments}.db"
        fill(path, payments)
        for callers in CALLERS:
            rate, refused = spell(path, callers, arguments.seconds)
            rates.setdefault(str(payments), {})[str(callers)] = round(rate, 2)
            refusals.setdefault(str(payments), {})[str(callers)] = refused
    connection = create_buyer_connection(path)
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    connection.close()
    if synchronous < 2:
        raise RuntimeError("the peer's commits are not durable here: they compare with nothing")
    found = {
        "name": f"open-agentpay {version('open-agentpay')}",
        "decisions_per_second": rates,
        "refused": refusals,
        "without": WITHOUT,
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
