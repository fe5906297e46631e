"""The scenes: what a research crew does in a day, each with what must come of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.api.coordinator import Coordinator
from coordinator.demo.safe import Thief
from coordinator.demo.stage import Stage
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase

PROVIDER: Final = "paper-api"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a scene, with the chain's evidence."""

    text: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene passes when its outcome is the one expected, word for word."""

    name: str
    expected: str
    play: Callable[[Stage], Outcome]


def auto_approved(stage: Stage) -> Outcome:
    purchase = _buy(stage.coordinator, "research-agent", "25.00", key="papers-1")
    return Outcome(_describe(stage, purchase), stage.evidence(purchase))


def approved_by_a_human(stage: Stage) -> Outcome:
    waiting = _buy(stage.coordinator, "data-agent", "150.00", key="archive-1")
    before = waiting.status
    answer = stage.coordinator.approve(waiting.approval_id or "", approver="alice")
    purchase = stage.coordinator.wait_for(waiting.id, timeout_seconds=20)
    evidence = stage.evidence(purchase) | {
        "approvals": [d.as_dict() for d in purchase.approvals],
        "answer": answer.done,
    }
    return Outcome(f"{before}, then {_describe(stage, purchase)}", evidence)


def above_the_purchase_limit(stage: Stage) -> Outcome:
    return _refused(stage, _buy(stage.coordinator, "research-agent", "120.00"))


def a_days_limit(stage: Stage) -> Outcome:
    agent = stage.coordinator.agent("research-agent")
    funded = [
        _buy(stage.coordinator, "research-agent", "50.00", key=f"batch-{n}", wait=False)
        for n in range(5)
    ]
    refused = _buy(stage.coordinator, "research-agent", "30.00")
    done = [agent.wait_for(p.id, timeout_seconds=20) for p in funded]
    count = sum(stage.escrow(p).state is EscrowState.FUNDED for p in done if p.escrow_id)
    outcome = _refused(stage, refused)
    evidence = outcome.evidence | {"funded": [stage.evidence(p) for p in done]}
    return Outcome(f"{count} funded, then {outcome.text}", evidence)


def unknown_provider(stage: Stage) -> Outcome:
    agent = stage.coordinator.agent("data-agent")
    purchase = agent.purchase(provider=stage.stranger, amount="10.00", purpose="A stranger's API")
    return _refused(stage, purchase)


def same_key_twice(stage: Stage) -> Outcome:
    first = _buy(stage.coordinator, "data-agent", "12.00", key="once")
    second = _buy(stage.coordinator, "data-agent", "12.00", key="once")
    count = stage.fundings(first)
    same = "the same purchase" if first.id == second.id else "another purchase"
    evidence = stage.evidence(second) | {"fundings": count}
    return Outcome(f"{same}, {count} escrow", evidence)


def twenty_at_once(stage: Stage) -> Outcome:
    agents = [stage.coordinator.agent(a) for a in ("data-agent", "compute-agent")]

    def ask(n: int) -> Purchase:
        return agents[n % 2].purchase(
            provider=PROVIDER, amount="5.00", purpose=f"Data set {n}", idempotency_key=f"set-{n}"
        )

    with ThreadPoolExecutor(20) as threads:
        purchases = list(threads.map(ask, range(20)))
    funded = [p for p in purchases if p.escrow_id and stage.escrow(p).state is EscrowState.FUNDED]
    links = [t for p in funded for t in p.transactions if t.step == "link"]
    blocks = sorted({link.block for link in links if link.block is not None})
    evidence = {"blocks": blocks, "escrow_ids": [p.escrow_id for p in funded]}
    spread = "in at most two blocks" if len(blocks) <= 2 else f"in {len(blocks)} blocks"
    return Outcome(f"{len(funded)} funded {spread}", evidence)


def funding_fails(stage: Stage) -> Outcome:
    held_before = _held(stage)
    with stage.blocks_by_hand() as mine:
        asked = _buy(stage.coordinator, "compute-agent", "40.00", key="unlucky", wait=False)
        sent = 2 if stage.payer == "wallet" else 1
        stage.wait_until(lambda: stage.pool_size() >= sent, "the funding in the pool")
        stage.list_vault(False, wait=False)
        stage.wait_until(lambda: stage.pool_size() > sent, "the admin's transaction")
        mine()
    stage.list_vault(True)
    purchase = stage.coordinator.wait_for(asked.id, until="final", timeout_seconds=20)
    state = "no escrow on the chain"
    if purchase.escrow_id:
        state = f"kernel says {stage.escrow(purchase).state}"
    held = "hold voided" if _held(stage) == held_before else "hold kept"
    evidence = stage.evidence(purchase) | {
        "reason": purchase.reason.message if purchase.reason else None
    }
    return Outcome(f"{purchase.status}, {state}, {held}", evidence)


def delivered_and_settled(stage: Stage) -> Outcome:
    agent = stage.coordinator.agent("research-agent")
    purchase = agent.get(idempotency_key="papers-1")
    stage.deliver(purchase)
    delivered = agent.wait_for(purchase.id, until="delivered", timeout_seconds=20)
    agent.settle(purchase.id)
    settled = agent.wait_for(purchase.id, until="final", timeout_seconds=20)
    evidence = stage.evidence(settled) | {
        "provider_received": str(settled.provider_received),
        "platform_fee": str(settled.platform_fee),
    }
    paid = f"provider got {settled.provider_received}"
    return Outcome(f"{delivered.status}, then {_describe(stage, settled)}, {paid}", evidence)


def killed_between_create_and_fund(stage: Stage) -> Outcome:
    stage.close()
    terms = ["--agent", "compute-agent", "--provider", PROVIDER, "--amount", "60.00"]
    words = ["--purpose", "A long simulation", "--idempotency-key", "crash-1"]
    with stage.blocks_by_hand() as mine:
        status = stage.run_and_kill(
            ["purchase", "request", *terms, *words], KillPoint.ATTEMPTS_SENT
        )
        coordinator = stage.open()
        agent = coordinator.agent("compute-agent")
        purchase = agent.get(idempotency_key="crash-1")
        link = next(t.hash for t in purchase.transactions if t.step == "link")
        stage.rpc.call("anvil_dropTransaction", link)
        mine()
    coordinator.recover(timeout_seconds=20)
    funded = agent.wait_for(purchase.id, timeout_seconds=20)
    death = signal.Signals(-status).name if status < 0 else f"exit {status}"
    again = next((t.hash for t in funded.transactions if t.step == "link"), None)
    same = "with the same bytes" if again == link else "with other bytes"
    evidence = stage.evidence(funded) | {"fundings": stage.fundings(funded)}
    return Outcome(f"{death}, then {_describe(stage, funded)} {same}", evidence)


def lost_database(stage: Stage) -> Outcome:
    before = stage.treasury_usdc()
    known = stage.coordinator.agent("data-agent").get(idempotency_key="archive-1")
    old = list(stage.coordinator.wiring.journal.entries())
    log = Path(stage.folder) / "audit.jsonl"
    log.write_bytes(b"".join(stage.coordinator.wiring.audit.export()))
    stage.close()
    stage.open(COORDINATOR_DATABASE_URL=f"sqlite:///{stage.folder}/rebuilt.db")
    stage.coordinator.rebuild(audit=log)
    rebuilt = list(stage.coordinator.wiring.journal.entries())
    again = _buy(stage.coordinator, "data-agent", "150.00", key="archive-1")
    stage.coordinator.unpause("the books match the chain", by="alice")
    unspent = stage.treasury_usdc() == before and stage.fundings(again) == 1
    found = "put back" if again.escrow_id == known.escrow_id else "bought again"
    nothing = "nothing spent" if unspent else "spent twice"
    journal = "the same journal" if rebuilt[: len(old)] == old else "another journal"
    evidence = stage.evidence(again) | {"entries": len(rebuilt), "treasury_usdc": str(before)}
    return Outcome(f"{found}, {nothing}, {journal}", evidence)


def reconciled(stage: Stage) -> Outcome:
    stage.coordinator.recover(timeout_seconds=20)
    found = stage.coordinator.reconcile()
    booked = stage.coordinator.wiring.journal.treasury_balance()
    balance = stage.treasury_usdc()
    equal = "books equal the token" if booked == balance else "books differ from the token"
    evidence = found.as_dict() | {"booked": str(booked), "token_balance": str(balance)}
    return Outcome(f"{len(found.discrepancies)} discrepancies, {equal}", evidence)


def reported(stage: Stage) -> Outcome:
    report = stage.coordinator.report().as_dict()
    audit = stage.coordinator.wiring.verify_audit()
    log = "audit log whole" if audit.ok else "audit log broken"
    closing = "closes" if report["closing"] == str(stage.treasury_usdc()) else "does not close"
    return Outcome(f"{closing} with the token's balance, {log}", report)


def leaked_key(stage: Stage) -> Outcome:
    assert stage.places is not None
    before, key = stage.treasury_usdc(), stage.environment["TREASURY_PRIVATE_KEY"]
    thief = Thief(stage.rpc, stage.places, key, stage.stranger)
    stage.coordinator.start()
    errors = {call.title: thief.attempt(call) for call in thief.tries()}
    operations = stage.coordinator.wiring.operations
    stage.wait_until(operations.pauses, "the worker to see that somebody else has its key")
    refused = sum(error not in ("done", "refused") for error in errors.values())
    taken = "nothing taken" if stage.treasury_usdc() == before else "USDC taken"
    evidence = {"refused": errors, "pauses": [str(pause) for pause in operations.pauses()]}
    return Outcome(f"{refused} of {len(errors)} refused by the chain, {taken}, paused", evidence)


SCENES: Final = (
    Scene("25 USDC, below the threshold", "funded, kernel says funded", auto_approved),
    Scene(
        "150 USDC, alice approves",
        "awaiting_approval, then funded, kernel says funded",
        approved_by_a_human,
    ),
    Scene(
        "120 USDC, above the purchase limit",
        "denied: per_purchase_limit",
        above_the_purchase_limit,
    ),
    Scene("a day's limit is reached", "5 funded, then denied: daily_limit", a_days_limit),
    Scene("a provider not on the list", "denied: provider_not_allowed", unknown_provider),
    Scene("the same key twice", "the same purchase, 1 escrow", same_key_twice),
    Scene("20 purchases at once", "20 funded in at most two blocks", twenty_at_once),
    Scene(
        "funding fails on chain",
        "cancelled, kernel says cancelled, hold voided",
        funding_fails,
    ),
    Scene(
        "delivered and settled",
        "delivered, then settled, kernel says settled, provider got 24.75",
        delivered_and_settled,
    ),
    Scene(
        "killed between create and fund",
        "SIGKILL, then funded, kernel says funded with the same bytes",
        killed_between_create_and_fund,
    ),
    Scene(
        "the database is lost",
        "put back, nothing spent, the same journal",
        lost_database,
    ),
    Scene("reconcile", "0 discrepancies, books equal the token", reconciled),
    Scene("report", "closes with the token's balance, audit log whole", reported),
)

_OF_A_SAFE: Final[dict[object, tuple[str, str]]] = {
    funding_fails: ("funding fails on chain", "failed, no escrow on the chain, hold voided"),
    killed_between_create_and_fund: (
        "killed before the answer came",
        "SIGKILL, then funded, kernel says funded with the same bytes",
    ),
}
SAFE_SCENES: Final = (
    *(Scene(*_OF_A_SAFE.get(s.play, (s.name, s.expected)), s.play) for s in SCENES),
    Scene(
        "the worker's key leaks", "3 of 3 refused by the chain, nothing taken, paused", leaked_key
    ),
)


def _buy(
    coordinator: Coordinator, agent: str, amount: str, *, key: str | None = None, wait: bool = True
) -> Purchase:
    if not wait:
        coordinator.start()
    return coordinator.agent(agent).purchase(
        provider=PROVIDER,
        amount=amount,
        purpose="Academic papers and data",
        category="api",
        idempotency_key=key,
        wait=wait,
        timeout_seconds=20,
    )


def _describe(stage: Stage, purchase: Purchase) -> str:
    if purchase.escrow_id is None:
        return str(purchase.status)
    return f"{purchase.status}, kernel says {stage.escrow(purchase).state}"


def _refused(stage: Stage, purchase: Purchase) -> Outcome:
    code = purchase.reason.code if purchase.reason else "no reason"
    evidence = {
        "purchase_id": purchase.id,
        "reason": purchase.reason.as_dict() if purchase.reason else None,
        "fundings": stage.fundings(purchase),
    }
    return Outcome(f"{purchase.status}: {code}", evidence)


def _held(stage: Stage) -> str:
    return str(stage.coordinator.report().as_dict()["held"])
