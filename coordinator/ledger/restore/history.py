"""History for a replay: the audit log's rows, and what counted besides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select

from coordinator.domain.limits.limits import Usage
from coordinator.domain.limits.rules import Opening, Overlays, Rules
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.replay import Charged, Judged, Moved, Replay, replay
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.limits.overlays import read_overlays
from coordinator.ledger.limits.recount import holds_with_terms, terms_of
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database

_MOVES: Final = {
    f"purchase_{status}": status
    for status in (
        Status.APPROVED,
        Status.AWAITING_APPROVAL,
        Status.DENIED,
        Status.REJECTED,
        Status.EXPIRED,
        Status.CANCELLED,
        Status.FAILED,
    )
}


def replay_history(
    database: Database, policy: Policy, *, since: int, until: int, minimum: Usdc
) -> Replay:
    """Decide the requests of [since, until) anew by ``policy``; nothing is written.

    What was asked earlier, costs and bonds count as the books have them now. Grants hold when
    they did, unless they were withdrawn; allocations and the limits of opened tasks and sessions
    are those of now. Nobody is disabled or paused, and nothing is closed.
    """
    with database.read() as connection:
        overlays = read_overlays(connection)
        rules = Rules(policy, Overlays(overlays.grants, overlays.allocations))
        return replay(
            rules,
            _in_order(connection, policy, since, until),
            since=since,
            until=until,
            minimum=minimum,
            openings=partial(_opening, connection, {}),
        )


def _in_order(
    connection: Connection, policy: Policy, since: int, until: int
) -> Iterator[Charged | Judged | Moved]:
    """The log's rows in their order, each after what was charged until then."""
    said = list(_moves_in_log(connection, since, until))
    asked = {happened.id for happened in said if isinstance(happened, Judged)}
    charged = _charged(connection, policy, asked, until)
    following = next(charged, None)
    for happened in said:
        while following is not None and following.at <= happened.at:
            yield following
            following = next(charged, None)
        yield happened


def _moves_in_log(connection: Connection, since: int, until: int) -> Iterator[Judged | Moved]:
    a = t.audit.c
    query = (
        select(a.at, a.event, a.subject, a.body)
        .where(a.at >= since, a.at < until, a.event.in_(list(_MOVES)))
        .order_by(a.seq)
    )
    for at, event, subject, text in connection.execute(query):
        body, status = json.loads(text), _MOVES[event]
        # Only a request's own row says whose it is.
        if "agent" in body:
            codes = frozenset(ReasonCode(reason["code"]) for reason in body["reasons"])
            yield Judged(at, subject, _request(body), status, codes)
        else:
            yield Moved(at, subject, status)


def _request(body: dict[str, Any]) -> Request:
    return Request(
        agent=body["agent"],
        # By address: a name may belong to somebody else in the other policy.
        provider=body["provider"],
        amount=Usdc.from_base_units(body["amount"]),
        purpose=body["purpose"],
        service=body["service"],
        category=body["category"],
        task=body["task"],
        session=body["session"],
        host=(body.get("x402") or {}).get("host"),
    )


def _charged(
    connection: Connection, policy: Policy, asked: Set[str], until: int
) -> Iterator[Charged]:
    """Yield what the books hold and have spent of everything but ``asked``, oldest first."""
    h = t.holds.c
    query = (
        holds_with_terms()
        .add_columns(h.purchase_id)
        .where(h.placed_at < until, h.status != "voided")
        .order_by(None)
        .order_by(h.placed_at, h.id)
    )
    for row in connection.execute(query):
        if row.kind == "purchase" and row.purchase_id in asked:
            continue
        held = row.amount if row.status == "held" else 0
        usage = Usage.of(Usdc.from_base_units(held), Usdc.from_base_units(row.posted))
        yield Charged(row.placed_at, terms_of(row, policy), usage, bool(row.asked))


def _opening(
    connection: Connection, known: dict[tuple[str, str], Opening | None], kind: str, name: str
) -> Opening | None:
    if (kind, name) not in known:
        found = read_opening(connection, kind, name)
        known[kind, name] = None if found is None else replace(found, closed=False)
    return known[kind, name]
