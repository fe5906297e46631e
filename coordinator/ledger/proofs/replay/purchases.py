"""Replay purchases: who approved each, and that it was enough before its create was signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.policy.payees import not_bound
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.statements.making import dispute_statement
from coordinator.domain.statements.statement import Statement
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.agreement import expected_statement, purchase_agreement
from coordinator.ledger.proofs.audit_fold import MOVED, LoggedPurchase, LoggedState, create_of
from coordinator.ledger.proofs.replay.words import Words

_DECIDED: Final = frozenset({"purchase_approved_by", "purchase_rejected_by"})
_OTHERS: Final = frozenset(
    {"escrow_attributed", "purchase_adopted", "create_signed", "dispute_wanted", "x402_signed"}
)
EVENTS: Final = frozenset(MOVED) | _DECIDED | _OTHERS | {"audit_imported"}


class ReplayedPurchases:
    """Folds purchases row by row, and names each approval that was needed and does not count."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._past = LoggedState()
        # A rebuilt database goes on without rows that were lost after its export.
        self._complete = True

    def find(self, purchase_id: str) -> LoggedPurchase | None:
        return self._past.purchases.get(purchase_id)

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong at the row, and fold it."""
        if row.event == "audit_imported":
            self._complete = False
            return
        known = self.find(row.subject)
        if row.event in _DECIDED:
            yield from self._decided(row, known)
        elif row.event == "dispute_wanted":
            yield from self._disputed(row)
        elif row.event == "create_signed":
            # The same nonce at another price is the same create.
            if known is None or create_of(row.body) not in known.creates:
                yield from self._not_agreed(known, "its create was signed")
        elif row.event == "x402_signed" and (known is None or not known.authorised):
            yield from self._not_agreed(known, "its authorisation was signed")
        elif row.event in MOVED:
            yield from self._moved(row, known, MOVED[row.event])
        self._past.take(row)
        if known is None and (made := self.find(row.subject)) is not None:
            # Of all purchases of a log only what is asked here is kept.
            made.decision = {}

    def _decided(self, row: AuditRow, known: LoggedPurchase | None) -> Iterator[str]:
        body = row.body
        if known is None or known.status is not Status.AWAITING_APPROVAL:
            yield "nothing waited for approval"
            return
        approval = known.approval or {}
        if body["approval"] != approval.get("id"):
            yield f"its approval is {body['approval']!r}; it was asked as {approval.get('id')!r}"
        reason = body["reason"]
        if row.event == "purchase_approved_by" and reason is not None:
            yield f"its reason is {reason!r}, and nobody signs one to approve"
            reason = None

        def expected(policy: Policy) -> Statement:
            return expected_statement(policy, known, reason=reason)

        yield from self._words.check(row, body["approver"], expected)

    def _disputed(self, row: AuditRow) -> Iterator[str]:
        body = row.body

        def expected(policy: Policy) -> Statement:
            return dispute_statement(
                policy,
                purchase_id=row.subject,
                bond=Usdc.from_base_units(body["bond"]),
                window_ends=body["signed"]["statement"]["expires_at"],
                reason=body["why"],
            )

        yield from self._words.check(row, body["by"], expected)

    def _moved(self, row: AuditRow, known: LoggedPurchase | None, status: Status) -> Iterator[str]:
        if known is None:
            yield from self._first(row, status)
        elif status is Status.APPROVED and known.status is Status.AWAITING_APPROVAL:
            yield from self._not_agreed(known, "it was approved", always=True)
        elif status is Status.REJECTED:
            said = [one for one in known.decisions.values() if one["decision"] == "rejected"]
            if not said:
                yield "nobody has rejected it"
        elif status in ESCROWED and self._complete and known.unsigned:
            yield from self._not_agreed(known, "it was funded")

    def _first(self, row: AuditRow, status: Status) -> Iterator[str]:
        body = row.body
        if "agent" not in body or status is not Status.APPROVED:
            return
        policy, amount = self._words.in_force, Usdc.from_base_units(body["amount"])
        threshold, tier = policy.threshold(body["agent"]), policy.approvals.lowest_tier
        host = (body.get("x402") or {}).get("host")
        unbound = not_bound(policy, body["provider"], host) if host is not None else None
        if unbound is not None:
            yield f"{unbound}, and nobody was asked"
        over = [most for most in (threshold, tier) if most is not None and amount > most]
        if over:
            yield f"{amount} USDC is above {min(over)}, and nobody was asked"

    def _not_agreed(
        self, known: LoggedPurchase | None, what: str, *, always: bool = False
    ) -> Iterator[str]:
        """Say which approvals were missing."""
        if known is None or known.approval is None:
            return
        words = self._words
        signed = any("signed" in said for said in known.decisions.values())
        if always or signed or words.signs():
            agreed = purchase_agreement(words.in_force, known, words.trust)
            if not agreed.met:
                yield f"{what} though {agreed.missing}"
