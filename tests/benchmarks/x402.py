"""``scripts/bench x402``: how soon a payment for an HTTP request comes back signed.

A ``coordinator worker`` with the wallet's key for each kind of database, with the settings of a
public network, and this process, which has no key and asks for payments one after the other.
Beside it the same decision without anybody who signs.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final

from coordinator import Coordinator
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.policy.export import to_toml
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import FOLDER, Tell, elapsed, kinds, positive, show_ratios, show_rows
from tests.benchmarks.course import POLICY
from tests.benchmarks.databases import fresh_databases
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.machine import described
from tests.benchmarks.scene import BLOCK_SECONDS, Scene, for_child, open_coordinator, open_scene

PAYMENTS: Final = 100
QUICK_PAYMENTS: Final = 40
HOST: Final = "papers.example"
_AMOUNT: Final = Usdc("0.01")
_FLOAT: Final = Usdc("1000")

TARGETS: Final[Mapping[str, Target]] = {"signed_p95_seconds": Target(2)}
_MEANINGS: Final = {
    "signed_p95_seconds": "from a request in one process until another's signature is there, p95",
    "signed_p50_seconds": "the same at the median",
    "over_deciding": "the median over that of the decision alone",
}


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAYMENTS} payments")
    parser.add_argument(
        "--databases", type=kinds, default=["sqlite", "postgresql"], metavar="NAME,…"
    )
    parser.add_argument("--payments", type=positive(int), default=PAYMENTS, metavar="N")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Measure one database after the other; the workers of both run all the time."""
    count = min(QUICK_PAYMENTS, arguments.payments) if arguments.quick else arguments.payments
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene())
        askers = {kind: stack.enter_context(_asker(scene, kind)) for kind in arguments.databases}
        scene.blocks_every(BLOCK_SECONDS)
        found = {}
        for kind, asker in askers.items():
            asker.pay("first", wait=30)
            found[kind] = asker.measured(count)
            tell(f"{kind}: signed after {found[kind]['signed_p95_seconds']:.2f} s at p95")
    ratios = {name: max(one[name] for one in found.values()) for name in _MEANINGS}
    return {
        **ratios,
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "by_database": found,
        "payments": count,
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print what was measured, by database."""
    by_database = summary["by_database"]
    names = ["deciding_p50_ms", "signed_p50_seconds", "signed_p95_seconds", "signed_max_seconds"]
    rows = [[n, *(str(found[n]) for found in by_database.values())] for n in names]
    show_rows(f"{summary['payments']} payments", ["", *by_database], rows)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Seconds until a payment is signed, at the median and at p95."""
    values: dict[str, dict[str, float | None]] = {
        kind: {name: found[f"signed_{name}_seconds"] for name in ("p50", "p95")}
        for kind, found in summary["by_database"].items()
    }
    return Chart("Seconds until a payment is signed", values)


@dataclass(frozen=True, slots=True)
class _Asker:
    """A process without a key, whose worker is another one."""

    coordinator: Coordinator
    answer: Mapping[str, Any]

    def pay(self, key: str, *, wait: float) -> float:
        """Seconds until the payment was there, or decided without a ``wait``."""
        began = time.perf_counter()
        found = self.coordinator.agent("a0").authorise_x402(
            self.answer,
            url=f"https://{HOST}/7",
            idempotency_key=key,
            timeout_seconds=wait,
        )
        seconds = time.perf_counter() - began
        if wait and found.payment is None:
            raise RuntimeError(f"nothing was signed within {wait:g} s: {found.purchase.reason}")
        return seconds

    def measured(self, count: int) -> dict[str, float]:
        """Payments one after the other, at moments that no beat of ours has."""
        signed, decided = [], []
        for number in range(count):
            time.sleep(secrets.randbelow(400) / 1000)
            signed.append(self.pay(f"signed-{number}", wait=30))
            decided.append(self.pay(f"decided-{number}", wait=0))
        deciding = median(decided)
        return {
            "deciding_p50_ms": round(deciding * 1000, 1),
            "signed_p50_seconds": round(median(signed), 3),
            "signed_p95_seconds": round(quantiles(signed, n=20)[-1], 3),
            "signed_max_seconds": round(max(signed), 3),
            "over_deciding": round(median(signed) / deciding, 1),
        }


@contextmanager
def _asker(scene: Scene, kind: str) -> Iterator[_Asker]:
    key = "0x" + secrets.token_hex(32)
    wallet = load_signer("env:KEY", {"KEY": key}).address
    with fresh_databases(kind, scene.folder, FOLDER, [f"x402_{kind}"]) as urls:
        (treasury,) = scene.treasuries(urls)
        scene.mint(wallet, _FLOAT)
        policy = scene.folder / f"policy-{kind}.toml"
        provider = POLICY["providers"]["paper-api"] | {"hosts": [HOST]}
        document = POLICY | {"providers": {"paper-api": provider}}
        policy.write_text(to_toml(Policy.from_dict(document)))
        shared = scene.environment(treasury, url=scene.url, public=True)
        shared["COORDINATOR_POLICY_FILE"] = str(policy)
        acting = shared | {"COORDINATOR_X402_SIGNER": "env:X402_KEY", "X402_KEY": key}
        log = scene.folder / f"x402-{kind}.log"
        with open_coordinator(acting, act=False) as asker, log.open("wb") as output:
            # Makes the database, so that the two do not do it at once.
            asker.limits()
            process = subprocess.Popen(
                [sys.executable, "-m", "coordinator", "worker"],
                cwd=scene.folder,
                env=for_child(acting),
                stdout=output,
                stderr=output,
            )
            try:
                yield _Asker(asker, _answer(scene, provider["address"]))
            except Exception:
                print(log.read_text()[-2000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                process.wait(timeout=30)


def _answer(scene: Scene, payee: str) -> dict[str, Any]:
    offer = {
        "scheme": "exact",
        "network": f"eip155:{scene.deployment.chain_id}",
        "asset": scene.deployment.usdc,
        "amount": str(_AMOUNT.base_units),
        "payTo": payee,
        "maxTimeoutSeconds": 60,
    }
    return {"x402Version": 2, "accepts": [offer]}
