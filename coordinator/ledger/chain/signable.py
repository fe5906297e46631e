"""The check that calls may still be signed, in the transaction that commits to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import BindParameter, bindparam, select

from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.lifecycle import (
    FINAL,
    Status,
    is_settled_unasked,
    may_not_create,
    may_not_link,
)
from coordinator.domain.purchase.planning import settles_unasked
from coordinator.domain.reasons import Reason
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.top_ups import STOPS, TOP_UP
from coordinator.ledger.chain.call_proofs import (
    OF_ESCROW,
    SPENDING,
    call_differences,
    order_call_differences,
)
from coordinator.ledger.chain.worker_judge import WorkerJudge
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import batched
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c
_OF: Final[BindParameter[Any]] = bindparam("of", expanding=True)
_PURCHASES: Final = select(t.purchases).where(_p.id.in_(_OF))
_READ_MAX: Final = 500
_PULLS: Final = frozenset({StepKind.LINK, StepKind.DISPUTE})
#: Ends the text of what goes on by itself once the worker may sign it.
NOTHING_SIGNED: Final = "nothing is signed for it"
_PROVED: Final = SPENDING | OF_ESCROW


class Signable:
    """Judges calls by the rows of one transaction; ``now`` is the ledger's, a purchase waits by it.

    Whether a window is over is the chain's word, which the call has: a row could say anything.
    """

    def __init__(
        self,
        tx: Tx,
        evidence: Evidence,
        *,
        now: int,
        seen: Seen | None = None,
    ) -> None:
        self._tx = tx
        self._connection = tx.connection
        self._judge = WorkerJudge(tx.connection, evidence, tx.policy, tx.trust, seen, now=now)
        self._policy = self._judge.policy
        self._evidence = evidence
        # By subject, what differs from the audit log: nothing is signed on its word.
        self.tampered: dict[str, str] = {}
        self._seen = seen
        # Orders that fail, and purchases that wait for people, with why.
        self.failed: dict[str, str] = {}
        self.stranded: dict[str, str] = {}
        # Purchases whose approvals do not count, with why: people decide them again.
        self.unapproved: dict[str, str] = {}
        self._now = now
        self._paused = {
            (row.scope_kind, row.scope_id) for row in tx.connection.execute(select(t.pauses))
        }
        self._stopped: dict[tuple[str, str], bool] = {}
        self._left_out: set[str | None] = set()
        # Purchases that count in the worker's limits already: a create and its link are one.
        self._admitted: set[str] = set()
        # Nobody else writes meanwhile, and what this transaction adds decides nothing.
        self._rows: dict[str, Any] = {}
        self._told: dict[str, LoggedPurchase | LedgerTampered] = {}

    def read(self, calls: Sequence[Call]) -> None:
        """Read what the purchases of many calls are judged by, in few reads."""
        wanted = {call.purchase_id for call in calls if call.purchase_id}
        self.read_purchases(wanted, {c.purchase_id for c in calls if c.kind in _PROVED})

    def read_purchases(
        self, ids: Collection[str], proved: Collection[str | None] | None = None
    ) -> None:
        """Read purchases that were not read yet, and what the log tells of those to be proved."""
        wanted = set(ids) - self._rows.keys()
        for part in batched(sorted(wanted), _READ_MAX):
            for row in self._connection.execute(_PURCHASES, {"of": part}):
                self._rows[row.id] = row
        proved = wanted if proved is None else wanted.intersection(proved)
        # What ended has no rows to compare.
        rows = (self._rows.get(of) for of in sorted(proved))
        open_ones = [row.id for row in rows if row is not None and row.status not in FINAL]
        if open_ones:
            self._told |= self._evidence.purchases(self._connection, open_ones, self._seen)

    def of(self, calls: Iterable[Call]) -> list[Call]:
        """Filter the calls that may still be signed, in order; the rest are planned anew.

        A create that is left out takes the creates behind it along, with their links: their
        escrow ids were predicted with it before them. An approval goes with what needed it.
        """
        calls = list(calls)
        self.read(calls)
        kept, shifted = [], False
        for call in calls:
            if call.kind is StepKind.CREATE and shifted:
                self._left_out.add(call.escrow_id)
            elif self.allows(call):
                kept.append(call)
            else:
                shifted |= call.kind is StepKind.CREATE
        if any(call.kind in _PULLS for call in kept):
            return kept
        return [call for call in kept if call.kind is not StepKind.APPROVE]

    def allows(self, call: Call, *, stored: bool = False) -> bool:
        """Whether this call may be signed; never the link of a create that was refused before.

        One that was ``stored`` was compared with the log when it was planned, and does not tell
        any more what it was made from.
        """
        if stored:
            call = replace(call, terms=None)
        allowed = call.purchase_id is None or self._is_due(call, call.purchase_id, stored)
        if call.reference is not None:
            allowed = self._is_ordered(call, call.reference)
        if call.kind is StepKind.LINK and call.escrow_id in self._left_out:
            return False
        if call.kind is StepKind.CREATE and not allowed:
            self._left_out.add(call.escrow_id)
        return allowed

    def _is_due(self, call: Call, purchase_id: str, stored: bool) -> bool:
        if purchase_id not in self._rows:
            self.read([call])
        purchase = self._rows.get(purchase_id)
        if purchase is None:
            self.tampered[purchase_id] = f"purchase {purchase_id}: its row is gone"
            return False
        if call.kind in _PROVED and purchase.status in FINAL:
            # It ended after its call was allocated, and what ended has no rows to compare.
            return False
        if call.kind in SPENDING:
            past = self._proved(call, purchase)
            if past is None or self._is_doubted(purchase, past.doubts):
                return False
            link = call.kind is StepKind.LINK
            return self._may_not_spend(call, purchase) is None and self._is_agreed(
                past, stored=stored, link=link
            )
        if call.kind is StepKind.SETTLE:
            doubted = self._is_paused(("provider", purchase.provider_name))
            if doubted and not call.window_over:
                # Of what was stored long ago it is not known any more: it is planned anew.
                return False
            past = self._proved(call, purchase)
            return past is not None and self._may_settle(call, purchase, past, stored)
        if call.kind is StepKind.DISPUTE:
            past = self._proved(call, purchase)
            wished = {} if past is None else _of(past.doubts, "dispute_wanted")
            return (
                past is not None
                and not self._is_doubted(purchase, wished)
                and (stored or self._takes(purchase.id, self._judge.dispute_refused(past)))
            )
        return True

    def _takes(self, purchase_id: str, why: str | None) -> bool:
        if why is not None and not self._judge.unanswered:
            self.stranded[purchase_id] = why
        return why is None

    def _is_agreed(self, past: LoggedPurchase, *, stored: bool, link: bool = False) -> bool:
        """Whether people have signed what it takes, and the worker's own rules allow it."""
        if past.create_signed and link:
            return True
        missing = self._judge.purchase_not_approved(past)
        counted = stored or past.create_signed or past.id in self._admitted
        refused = self._judge.purchase_refused(past, counted=counted)
        amount = Usdc.from_base_units(past.amount)
        if refused is not None:
            self.stranded[past.id] = f"{amount} USDC: {refused}; {NOTHING_SIGNED}"
        elif missing is not None and not self._judge.unanswered:
            self._keep_back(past, missing)
        elif missing is None:
            self._admitted.add(past.id)
            self._judge.admit(past)
        return refused is None and missing is None

    def _keep_back(self, past: LoggedPurchase, missing: str) -> None:
        """Let people decide a purchase again, unless nothing would come of their word."""
        amount, ahead = Usdc.from_base_units(past.amount), self._judge.purchase_is_ahead(past)
        if ahead is not None:
            self.stranded[past.id] = f"{amount} USDC: {missing}; {ahead}; {NOTHING_SIGNED}"
        elif past.create_signed:
            # What was signed for it once is not asked about again.
            self.stranded[past.id] = (
                f"{amount} USDC: its create was not mined, and no other is signed: {missing};"
                " cancel it, and ask again if it is wanted"
            )
        else:
            self.unapproved[past.id] = missing

    def _is_doubted(self, row: Any, doubts: Mapping[str, str]) -> bool:
        """Whether it was decided on a host that was revoked since: people have to decide again."""
        for host in doubts.values():
            self.stranded[row.id] = (
                f"{Usdc.from_base_units(row.amount)} USDC: host {host} decided it and was revoked"
                f" since; {NOTHING_SIGNED}: cancel it, and ask again if it is wanted"
            )
            return True
        return False

    def _may_not_spend(self, call: Call, purchase: Any) -> Reason | None:
        scopes = self._policy.stops(purchase.agent, purchase.provider_name)
        status, cancelled = Status(purchase.status), bool(purchase.cancel_wanted)
        paused = any([self._is_paused(scope) for scope in scopes])
        if call.kind is StepKind.LINK:
            return may_not_link(status, cancel_wanted=cancelled, paused=paused)
        return may_not_create(
            status,
            cancel_wanted=cancelled,
            paused=paused,
            now=self._now,
            approved_at=purchase.approved_at or purchase.created_at,
            create_within=self._policy.escrow.create_within,
        )

    def _may_settle(self, call: Call, row: Any, past: LoggedPurchase, stored: bool) -> bool:
        """Whether somebody decided that it is paid, and nobody that it is contested first."""
        if past.bond is not None and not call.window_over:
            self._expect_bond(row.id)
            return False
        if past.settle_wanted and not (stored or call.window_over):
            refused = self._judge.settle_refused(past)
            if refused is not None:
                return self._takes(row.id, f"it is not settled early: {refused}")
        doubts = _of(past.doubts, "settle_wanted") if past.settle_wanted else past.doubts
        if not call.window_over and doubts:
            # Once the window is over the chain says the same as whoever decided.
            return False
        if (
            stored
            or past.settle_wanted
            or is_settled_unasked(past.settle, unasked=False, window_over=call.window_over)
        ):
            return True
        amount = Usdc.from_base_units(past.amount)
        early = settles_unasked(self._policy, past.settle, past.agent, amount)
        if not early and (row.settle_wanted or past.settle != "on_delivery"):
            # Otherwise it is the policy that has changed since it was planned.
            what = "the audit log does not tell that anybody settles it"
            self.tampered[row.id] = (
                f"purchase {row.id}: {what}{'' if call.window_over else ' early'}"
            )
        return early

    def _expect_bond(self, purchase_id: str) -> None:
        h = t.holds.c
        held = select(h.id).where(
            h.purchase_id == purchase_id, h.kind == "bond", h.status == "held"
        )
        if self._connection.execute(held).first() is None:
            what = "it is contested, and the hold of its bond is gone"
            self.tampered[purchase_id] = f"purchase {purchase_id}: {what}"

    def _is_ordered(self, call: Call, order_id: str) -> bool:
        """Whether the audit log tells the order as its row and the call do, and it was not signed.

        No chain refuses a second withdrawal: what was signed once is never signed anew.
        """
        query = select(t.orders).where(t.orders.c.id == order_id)
        # What was signed for it in this transaction counts too.
        self._tx.flush()
        row = self._connection.execute(query).one_or_none()
        try:
            past = self._evidence.order(self._connection, order_id, self._seen)
        except LedgerTampered as fault:
            self.tampered[order_id] = fault.what
            return False
        wrong = (
            "its row is gone"
            if row is None
            else next(order_call_differences(call, row, past), None)
        )
        if wrong is not None:
            self.tampered[order_id] = f"order {order_id}: {wrong}"
        elif self._seen is not None and order_id in self._seen.signed:
            # A log that was put back does not tell that it was.
            self.failed[order_id] = "it was signed before: order it again if it was not carried out"
            return False
        elif past.doubts:
            host = next(iter(past.doubts.values()))
            self.failed[order_id] = (
                f"it was ordered on host {host}, which was revoked: order it again"
            )
            return False
        elif not self._is_agreed_order(past):
            return False
        return wrong is None and past.status == "approved"

    def _is_agreed_order(self, past: LoggedOrder) -> bool:
        try:
            refused = self._judge.order_refused(past)
        except LedgerTampered as fault:
            self.tampered[past.id] = fault.what
            return False
        if past.kind == TOP_UP:
            refused = refused or self._top_ups_stopped()
        if refused is not None and not self._judge.unanswered:
            self.failed[past.id] = f"{refused}: order it again"
        return refused is None

    def top_up_refused(self, recipient: str, amount: Usdc) -> str | None:
        """Say why a top-up of the wallet may not be ordered; None when it would be signed."""
        try:
            refused = self._judge.top_up_refused(recipient, amount)
        except LedgerTampered as fault:
            self.tampered[recipient] = refused = fault.what
        return refused or self._top_ups_stopped()

    def top_up_left(self) -> Usdc | None:
        """Return what may still go to the wallet; None where the policy has no limit for it."""
        return self._judge.top_up_left()

    def _top_ups_stopped(self) -> str | None:
        stopped = [scope for scope in STOPS if self._is_paused(scope)]
        return f"{stopped[0][0]} is paused" if stopped else None

    def _is_paused(self, scope: tuple[str, str]) -> bool:
        """Whether the table or the audit log says so: who writes to one can't unpause."""
        if scope not in self._stopped:
            subject = ":".join(filter(None, scope))
            try:
                told = self._evidence.is_paused(self._connection, scope)
            except LedgerTampered as fault:
                told, self.tampered[subject] = True, fault.what
            told |= self._seen is not None and subject in self._seen.paused
            if told and scope not in self._paused:
                what = f"the pause of {subject} is gone and nobody unpaused it"
                self.tampered.setdefault(subject, what)
            self._stopped[scope] = told or scope in self._paused
        return self._stopped[scope]

    def _proved(self, call: Call, row: Any) -> LoggedPurchase | None:
        """Return the purchase as the audit log tells it, if its row and the call tell the same."""
        past = self._told.get(row.id)
        if past is None:
            past = self._evidence.purchases(self._connection, [row.id], self._seen)[row.id]
            self._told[row.id] = past
        if isinstance(past, LedgerTampered):
            self.tampered[row.id] = past.what
            return None
        wrong = next(call_differences(call, row, past), None)
        if wrong is not None:
            self.tampered[row.id] = f"purchase {row.id}: {wrong}"
            return None
        return past


def _of(doubts: Mapping[str, str], event: str) -> Mapping[str, str]:
    return {event: doubts[event]} if event in doubts else {}
