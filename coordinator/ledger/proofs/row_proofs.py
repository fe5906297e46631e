"""Compare rows with the audit log, whose own rows are proved first."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Select, Table, bindparam, select

from coordinator.domain.audit import AuditRow
from coordinator.domain.canonical import canonical_json
from coordinator.domain.purchase.lifecycle import FINAL, Status
from coordinator.ledger.audit.row_codes import Prove
from coordinator.ledger.audit.scan import Scan
from coordinator.ledger.limits.logged_budgets import OVERLAID
from coordinator.ledger.limits.overlays import logged_overlays
from coordinator.ledger.proofs.audit_fold import MOVED, LoggedOrder, LoggedPurchase, LoggedState
from coordinator.ledger.proofs.counter_faults import counter_faults
from coordinator.ledger.proofs.member_rows import apart, incomplete
from coordinator.ledger.proofs.payment_rows import payment_differences
from coordinator.ledger.proofs.step_digest import StepDigest, sealed, values_of
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

_PAGE: Final = 500
_WORDS: Final = ("provider_name", "service", "category", "task", "session", "purpose")
_ORDER: Final = ("kind", "recipient", "amount", "status")
_COST: Final = ("agent", "category", "provider", "task", "session", "purpose", "expires_at")
_OVERLAY: Final = (
    *("id", "kind", "scope_kind", "scope_id", "window", "amount"),
    *("starts_at", "ends_at", "withdrawn"),
)
_IS_OPENED: Final = Prepared(
    select(t.openings.c.status).where(
        t.openings.c.kind == bindparam("kind_"), t.openings.c.id == bindparam("id_")
    )
)

EscrowKey = Callable[[str, str], str]
"""The escrow key of (agent, idempotency key)."""


class Log(Protocol):
    """The parts of the audit log that the comparison needs."""

    def proven(
        self, connection: Connection, *subjects: str, events: Sequence[str] = ..., skip: bool = ...
    ) -> list[AuditRow]: ...


def row_faults(
    connection: Connection, log: Scan, escrow_key: EscrowKey | None = None
) -> Iterator[str]:
    """Name every row that is not what the log tells, by table and id; a page at a time.

    Escrow keys, which the log keeps secret, are compared where ``escrow_key`` makes them. What the
    log itself has lost is found by verifying its chain.
    """
    yield from _policy_faults(connection, log)
    yield from _purchase_faults(connection, log, escrow_key)
    yield from _cost_faults(connection, log)
    yield from _order_faults(connection, log)
    yield from overlay_faults(connection, log)
    yield from _opening_faults(connection, log)
    yield from _pause_faults(connection, log)
    yield from _step_faults(connection, log)
    yield from counter_faults(connection)


def purchase_differences(row: Any, past: LoggedPurchase) -> Iterator[str]:
    """Name every column of the purchase's row that is not what the log tells."""
    told = {
        "status": past.status.value,
        "agent": past.agent,
        "idempotency_key": past.idempotency_key,
        "provider": past.provider,
        "amount": past.amount,
        "settle": past.settle,
        "approved_at": past.approved_at,
    }
    if past.cancel_wanted and past.status not in FINAL:
        # A cancelling that nobody ordered pays nobody; one that was taken back does.
        told["cancel_wanted"] = 1
    if past.escrow_key is not None:
        told["escrow_key"] = past.escrow_key
    if past.agent is not None:
        told |= {word: past.words.get(word) for word in _WORDS}
    yield from _differences(row, told)


def order_differences(row: Any, past: LoggedOrder) -> Iterator[str]:
    """Name every column of the order's row that is not what the log tells."""
    told = past.body | {"kind": past.kind, "status": past.status}
    yield from _differences(row, {name: told[name] for name in _ORDER})


def _differences(row: Any, told: Mapping[str, Any]) -> Iterator[str]:
    for column, value in told.items():
        found = getattr(row, column)
        if found != value:
            yield f"its {column} is {found!r}; the audit log says {value!r}"


def _policy_faults(connection: Connection, log: Log) -> Iterator[str]:
    told = {
        (r.subject, r.at) for r in log.proven(connection, events=("policy_activated",), skip=True)
    }
    for row in connection.execute(select(t.policies).order_by(t.policies.c.version)):
        name = f"policy {row.hash[:12]}… (version {row.version})"
        if document_hash(row.document) != row.hash:
            yield f"{name}: its document is not the one with this hash"
        if (row.hash, row.activated_at) not in told:
            yield f"{name}: the audit log does not tell that it was put in force"


def document_hash(document: str) -> str | None:
    """Return the hash of a policy's document; None for what is no document."""
    try:
        return sha256(canonical_json(json.loads(document))).hexdigest()
    except (TypeError, ValueError):
        # SQLite keeps any type in any column.
        return None


def _purchase_faults(
    connection: Connection, log: Log, escrow_key: EscrowKey | None
) -> Iterator[str]:
    query = select(t.purchases).order_by(t.purchases.c.seq)
    for rows in _pages(connection, query, t.purchases.c.seq):
        ids = [row.id for row in rows]
        past, ends = _folded(log.proven(connection, *ids, skip=True))
        holds = _by_purchase(connection, t.holds, ids)
        approvals = _by_purchase(connection, t.approvals, ids)
        payments = _by_purchase(connection, t.authorisations, ids)
        decisions = _decisions(connection, ids)
        for row in rows:
            known = past.purchases.get(row.id)
            if known is None:
                yield f"purchase {row.id}: the audit log does not tell of it"
                continue
            if escrow_key is not None and known.agent is not None:
                known.escrow_key = escrow_key(known.agent, known.idempotency_key or "")
            faults = [
                *purchase_differences(row, known),
                *_approval_differences(known, approvals[row.id], decisions[row.id]),
                *_hold_differences(known, holds[row.id], ends.get(row.id, {})),
                *payment_differences(next(iter(payments[row.id]), None), known),
            ]
            yield from (f"purchase {row.id}: {fault}" for fault in faults)


def _approval_differences(
    past: LoggedPurchase, approvals: Sequence[Any], decisions: Sequence[Any]
) -> Iterator[str]:
    kept = [
        {name: getattr(a, name) for name in ("id", "required", "expires_at")} for a in approvals
    ]
    if kept != ([past.approval] if past.approval is not None else []):
        yield f"its approval is {kept}; the audit log says {past.approval}"
    said = {d.approver: (d.decision, d.at) for d in decisions}
    told = {name: (one["decision"], one["at"]) for name, one in past.decisions.items()}
    if said != told:
        yield f"its approvers' decisions are {said}; the audit log says {told}"


def _hold_differences(
    past: LoggedPurchase, holds: Sequence[Any], ends: Mapping[str, int | None]
) -> Iterator[str]:
    kinds = [hold.kind for hold in holds]
    if past.status is not Status.DENIED and "purchase" not in kinds:
        yield "its hold is gone"
    if past.bond is not None and "bond" not in kinds:
        yield "the hold of its bond is gone"
    for hold in holds:
        bond = past.bond[0] if past.bond is not None else None
        amount = past.amount if hold.kind == "purchase" else bond
        if hold.amount != amount:
            yield f"its {hold.kind} hold is of {hold.amount}; the audit log says {amount}"
        posted = ends.get(hold.kind)
        if hold.status == "held" and posted is not None:
            yield f"its {hold.kind} hold is open; the audit log says that it ended"
        if hold.status != "held" and past.status not in FINAL:
            yield f"its {hold.kind} hold is {hold.status} before its end"
        if posted is not None and hold.posted != posted:
            yield f"its {hold.kind} hold posted {hold.posted}; the audit log says {posted}"


def _cost_faults(connection: Connection, log: Log) -> Iterator[str]:
    query = select(t.costs).order_by(t.costs.c.seq)
    for rows in _pages(connection, query, t.costs.c.seq):
        ids = [row.id for row in rows]
        past, _ = _folded(log.proven(connection, *ids, skip=True))
        found = connection.execute(select(t.holds).where(t.holds.c.cost_id.in_(ids)))
        holds = {hold.cost_id: hold for hold in found}
        for row in rows:
            known, hold = past.budgets.costs.get(row.id), holds.get(row.id)
            if known is None or hold is None:
                yield f"cost {row.id}: the audit log does not tell of it, or its hold is gone"
                continue
            told = {
                "amount": known.body["amount"],
                "status": known.status,
                "posted": known.posted,
                "by_owner": int(known.by_owner),
            }
            faults = [
                *_differences(row, {name: known.body[name] for name in _COST}),
                *_differences(hold, told),
            ]
            yield from (f"cost {row.id}: {fault}" for fault in faults)


def _order_faults(connection: Connection, log: Log) -> Iterator[str]:
    rows = connection.execute(select(t.orders)).all()
    past, _ = _folded(log.proven(connection, *(r.id for r in rows), skip=True) if rows else ())
    for row in rows:
        known = past.orders.get(row.id)
        if known is None:
            yield f"order {row.id}: the audit log does not tell of it"
            continue
        yield from (f"order {row.id}: {fault}" for fault in order_differences(row, known))


def overlay_faults(
    connection: Connection, log: Log, *, of: Iterable[str] | None = None
) -> Iterator[str]:
    """Name every overlay that is not what the log tells, and those that are gone.

    With ``of`` of what is gone only that of these agents, pools and grants, and of those that have
    overlays: it reads a part of the log.
    """
    rows = connection.execute(select(t.overlays).order_by(t.overlays.c.seq)).all()
    subjects = {*of, *map(_overlay_subject, rows)} if of is not None else set()
    if of is not None and not subjects:
        return
    said = log.proven(connection, *sorted(subjects), events=sorted(OVERLAID), skip=True)
    told = Counter(
        tuple(one.get(name) for name in _OVERLAY) for row in said for one in logged_overlays(row)
    )
    for row in rows:
        # The log names the ids of grants and shares alone.
        named = row.kind in ("grant", "allocation")
        found = tuple(getattr(row, name) if name != "id" or named else None for name in _OVERLAY)
        told.subtract([found])
        if told[found] < 0:
            yield f"overlay {row.id}: the audit log does not tell of it as it stands"
    for values, missing in told.items():
        if missing > 0:
            yield f"overlay {values}: the audit log tells of it, and it is gone"


def _overlay_subject(row: Any) -> str:
    if row.kind == "withdrawn":
        return str(row.withdrawn)
    if row.kind == "grant":
        return str(row.id)
    return str(row.scope_id).partition("/")[0]


def _opening_faults(connection: Connection, log: Log) -> Iterator[str]:
    past = LoggedState()
    events = tuple(
        f"{kind}_{done}" for kind in ("task", "session") for done in ("opened", "closed")
    )
    for said in log.proven(connection, events=events, skip=True):
        past.take(said)
    known = past.budgets.openings
    for row in connection.execute(select(t.openings)):
        body = known.pop((row.kind, row.id), None)
        if body is None:
            yield f"{row.kind} {row.id}: the audit log does not tell that it was opened"
            continue
        faults = _opening_differences(row, body)
        yield from (f"{row.kind} {row.id}: {fault}" for fault in faults)
    for kind, name in known:
        yield f"{kind} {name}: the audit log tells that it was opened, and it is gone"


def opening_fault(connection: Connection, log: Log, kind: str, name: str) -> str | None:
    """Say how the task or session differs from what the log tells of it; None if it does not."""
    o, past = t.openings.c, LoggedState()
    for said in log.proven(connection, name, events=(f"{kind}_opened", f"{kind}_closed")):
        past.take(said)
    body = past.budgets.openings.get((kind, name))
    opened = _IS_OPENED.one(connection, {"kind_": kind, "id_": name}) is not None
    if not opened and body is None:
        return None
    if not opened or body is None:
        return f"{kind} {name}: its row, or the log's, is gone"
    row = connection.execute(select(t.openings).where(o.kind == kind, o.id == name)).one()
    fault = next(_opening_differences(row, body), None)
    return f"{kind} {name}: {fault}" if fault is not None else None


def _opening_differences(row: Any, body: Mapping[str, Any]) -> Iterator[str]:
    told = {
        "agent": body["agent"],
        "status": "closed" if "closed_at" in body else "open",
        "by_agent": int(body["by_agent"]),
    }
    if json.loads(row.limits) != {key: body[key] for key in ("limits", "categories")}:
        yield "its limits are not those that the audit log tells"
    yield from _differences(row, told)


def _pause_faults(connection: Connection, log: Log) -> Iterator[str]:
    past = LoggedState()
    for said in log.proven(connection, events=("paused", "unpaused"), skip=True):
        past.take(said)
    known = {scope: body["by"] for scope, (body, _) in past.pauses.items()}
    for row in connection.execute(select(t.pauses)):
        scope = (row.scope_kind, row.scope_id)
        if known.pop(scope, None) != row.by:
            yield f"pause of {row.scope_kind}:{row.scope_id}: the audit log does not tell of it"
    for kind, of in known:
        yield f"pause of {kind}:{of}: the audit log tells of it, and it is gone"


def _step_faults(connection: Connection, log: Scan) -> Iterator[str]:
    """Compare steps with the digest that was sealed; name one by one what it does not cover."""
    seal, digest = sealed(connection, log.codes), StepDigest()
    query = select(t.steps).order_by(t.steps.c.id)
    proves = log.codes.prover(connection, revoked_too=True)
    unsealed: list[str] = []
    for rows in _pages(connection, query, t.steps.c.id):
        for row in rows:
            if row.id <= seal.step_id:
                digest.take(row)
            elif not proves(row.mac, "steps", values_of(row)):
                unsealed.append(_step_fault(row))
    if digest != seal:
        yield from _sealed_step_faults(connection, seal.step_id, proves)
    yield from unsealed
    for row in apart(connection):
        yield f"step {row.nonce} ({row.kind}): it is in another batch than it was allocated in"
    for nonce in incomplete(connection):
        yield f"step {nonce} (batch): it has not the calls that were allocated"


def _sealed_step_faults(connection: Connection, last: int, proves: Prove) -> Iterator[str]:
    found = False
    for rows in _pages(connection, select(t.steps).order_by(t.steps.c.id), t.steps.c.id):
        for row in rows:
            if row.id <= last and not proves(row.mac, "steps", values_of(row)):
                found = True
                yield _step_fault(row)
    if not found:
        yield "steps are gone that the worker has sealed"


def _step_fault(row: Any) -> str:
    return f"step {row.nonce} ({row.kind}): its call is not the one that was allocated"


def _folded(said: Iterable[AuditRow]) -> tuple[LoggedState, Mapping[str, dict[str, int | None]]]:
    """The rows folded, and by purchase and kind of hold what the last end posted."""
    past = LoggedState()
    ends: dict[str, dict[str, int | None]] = defaultdict(dict)
    for row in said:
        past.take(row)
        if row.event in ("hold_posted", "hold_voided"):
            ends[row.subject][row.body["kind"]] = row.body["amount"]
        elif row.event in MOVED:
            # What moves after its end was held again: its block was lost, or its database.
            ends[row.subject].clear()
    return past, ends


def _pages(connection: Connection, query: Select[Any], key: Any) -> Iterator[Sequence[Any]]:
    last = -1
    while rows := connection.execute(query.where(key > last).limit(_PAGE)).all():
        yield rows
        last = getattr(rows[-1], key.name)


def _by_purchase(
    connection: Connection, table: Table, ids: Sequence[str]
) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(select(table).where(table.c.purchase_id.in_(ids))):
        found[row.purchase_id].append(row)
    return found


def _decisions(connection: Connection, ids: Sequence[str]) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    query = (
        select(t.approval_decisions, t.approvals.c.purchase_id)
        .join(t.approvals, t.approvals.c.id == t.approval_decisions.c.approval_id)
        .where(t.approvals.c.purchase_id.in_(ids))
    )
    for row in connection.execute(query):
        found[row.purchase_id].append(row)
    return found
