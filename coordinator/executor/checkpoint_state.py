"""The state of the audit log up to a row, as the worker has seen it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.hosts import WORKER_EVENTS
from coordinator.domain.purchase.lifecycle import FINAL
from coordinator.domain.times import rfc3339
from coordinator.domain.x402.top_ups import WINDOW_SECONDS
from coordinator.executor.signed_rules import DAY, POLICY_EVENTS, SPENDS, PolicyChange, SignedRules
from coordinator.ledger.audit.export import GENESIS
from coordinator.ledger.chain.top_up_rules import SIGNED as TOP_UP_SIGNED
from coordinator.ledger.chain.unasked import PAYS
from coordinator.ledger.proofs.audit_fold import MOVED, ORDERS
from coordinator.ledger.proofs.evidence import Seen, Unasked

ORDERS_SIGNED: Final = frozenset(f"{kind}_signed" for kind in ORDERS)
_BEGUN: Final = frozenset({"escrow_attributed", *(f"{kind}_ordered" for kind in ORDERS)})
_TAKEN_BACK: Final = frozenset(f"{kind}_taken_back" for kind in ORDERS)
_ENDED: Final = frozenset(
    {
        *("order_done", "order_failed", "proposal_rejected", "proposal_expired"),
        *(event for event, status in MOVED.items() if status in FINAL),
    }
)
# A day of any zone, and the day before: what was asked then may be signed now.
_UNASKED_KEPT: Final = 3 * DAY
_USED_KEPT: Final = 30 * DAY
_DRAFT_ENDS: Final = frozenset({"proposal_rejected", "proposal_expired"})
START: Final = Head(0, GENESIS)


@dataclass(slots=True)
class CheckpointState:
    """The log's state up to ``head``: signed withdrawals, and the policy in force."""

    head: Head = START
    signed: set[str] = field(default_factory=set)
    policy: str | None = None
    since: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    reopened: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    #: The pins by which ``accepted`` was judged; None without any.
    pins: str | None = None
    #: Hash of the policy that the pinned approvers, or those of the one before it, have signed.
    accepted: str | None = None
    #: Proposals of policies and unpauses that were carried out: none of them counts twice. Each
    #: with when it expires; None for one that the order of versions alone makes worthless.
    used: dict[str, int | None] = field(default_factory=dict)
    #: When the newest row of a worker was written.
    time: int = 0
    #: By account, the nonce after the last that the log tells was used.
    nonces: dict[str, int] = field(default_factory=dict)
    #: When drafts of a policy were seen first, by this worker's clock, and what came of them.
    drafts: dict[str, int] = field(default_factory=dict)
    changes: list[PolicyChange] = field(default_factory=list)
    #: (unix seconds, base units) of what was signed of late; ``signed_total`` is of all time.
    spent: list[tuple[int, int]] = field(default_factory=list)
    signed_total: int = 0
    #: The same of the USDC that went to the wallet for HTTP requests, which is no spending.
    topped: list[tuple[int, int]] = field(default_factory=list)
    #: Why the version that came into force last is not believed.
    refused: str | None = None
    #: Purchases approved without people, each by its agent and when it was asked, until they end.
    approved: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Those of them that were signed of late.
    unasked: dict[str, Unasked] = field(default_factory=dict)

    def copy(self) -> CheckpointState:
        return replace(
            self,
            signed=set(self.signed),
            rows=dict(self.rows),
            paused=set(self.paused),
            reopened=set(self.reopened),
            revoked=set(self.revoked),
            used=dict(self.used),
            nonces=dict(self.nonces),
            drafts=dict(self.drafts),
            changes=list(self.changes),
            approved=dict(self.approved),
            unasked=dict(self.unasked),
        )

    def take(self, row: AuditRow) -> None:
        self.head = Head(row.seq, row.hash)
        if row.event in WORKER_EVENTS:
            self.time = max(self.time, row.at)
            self._note_nonce(row)
        if row.event in ORDERS_SIGNED:
            self.signed.add(row.subject)
        elif row.event == "policy_activated":
            self.policy = row.subject
        elif row.event == "host_revoked":
            self.revoked.add(row.subject)
        elif row.event == "paused":
            self.paused.add(row.subject)
        elif row.event in SPENDS and (units := row.body.get("usdc", 0)):
            self.signed_total += units
            self.spent = [one for one in self.spent if one[0] > row.at - DAY]
            self.spent.append((row.at, units))
            self._note_unasked(row, units)
        if row.event == TOP_UP_SIGNED and (units := row.body.get("usdc", 0)):
            self.topped = [one for one in self.topped if one[0] > row.at - WINDOW_SECONDS]
            self.topped.append((row.at, units))
        self._note_approved(row)
        self._count(row)

    def _note_approved(self, row: AuditRow) -> None:
        if row.event in _ENDED:
            self.approved.pop(row.subject, None)
        elif row.event in MOVED:
            body = row.body
            if body.get("approval") is not None:
                self.approved.pop(row.subject, None)
            elif row.event == "purchase_approved" and "agent" in body:
                self.approved[row.subject] = (body["agent"], row.at)

    def _note_unasked(self, row: AuditRow, units: int) -> None:
        if row.event not in PAYS or row.subject not in self.approved:
            return
        agent, asked_at = self.approved[row.subject]
        kept = {of: one for of, one in self.unasked.items() if one.at > row.at - _UNASKED_KEPT}
        # Nothing was asked later than it was signed, whatever a host says.
        self.unasked = {**kept, row.subject: Unasked(agent, min(asked_at, row.at), units)}

    def note_policy(self, row: AuditRow, now: int) -> None:
        """Keep drafts of a policy and what came of them, to be judged in their order."""
        if row.event == "proposal_made" and row.body["kind"] == "policy":
            self.drafts[row.subject] = now
        elif row.event in _DRAFT_ENDS:
            self.drafts.pop(row.subject, None)
        elif row.event in POLICY_EVENTS:
            proposal = row.body.get("proposal")
            self.changes.append(PolicyChange(row.seq, row.event, row.subject, proposal))

    def _count(self, row: AuditRow) -> None:
        subject, begun = row.subject, row.subject in self.rows
        moves = row.event in MOVED or row.event in _TAKEN_BACK
        begins = (
            row.event in _BEGUN
            or (row.event in MOVED and "terms" in row.body)
            or (row.event == "proposal_made" and row.body["kind"] == "withdraw")
        )
        if begun or begins:
            self.rows[subject] = self.rows.get(subject, 0) + 1
        elif moves and row.event not in _ENDED:
            # A reorganisation took its end back: how many rows it had is not known any more.
            self.reopened.add(subject)
        if row.event in _ENDED:
            self.rows.pop(subject, None)
            self.reopened.discard(subject)

    def seen(self, rules: SignedRules, now: int) -> Seen:
        return Seen(
            count=self.head.count,
            since=self.since,
            rows=dict(self.rows),
            signed=frozenset(self.signed),
            paused=frozenset(self.paused),
            reopened=frozenset(self.reopened),
            revoked=frozenset(self.revoked),
            policy=rules.policy(self.accepted) if rules.pins is not None else None,
            pinned=rules.pins is not None,
            behind=self._behind(rules, now) if rules.pins is not None else "",
            unasked=dict(self.unasked),
            wallet=rules.wallet,
            topped=sum(units for at, units in self.topped if at > now - WINDOW_SECONDS),
            room=rules.room(
                sum(units for at, units in self.spent if at > now - DAY), self.signed_total
            ),
        )

    def _behind(self, rules: SignedRules, now: int) -> str:
        """Say until when, or why, ``accepted`` is believed although another came into force."""
        if self.changes:
            change = self.changes[0]
            seen_at = self.drafts.get(change.proposal or "", now)
            at = rfc3339(rules.effective_at(change, self.accepted, seen_at))
            return f"until {at}, when {change.hash[:12]}… takes effect for it"
        return f"because it refused {self.refused}" if self.refused is not None else ""

    def _note_nonce(self, row: AuditRow) -> None:
        """Note the nonce after the last that a row of a worker tells was used, and by whom."""
        if row.event == "lane_opened":
            signer, nonce = row.subject.removeprefix("lane:"), int(row.body["first"])
        elif row.event == "nonces_adopted":
            signer, nonce = row.body["signer"], int(row.body["last"]) + 1
        elif row.event.endswith("_signed") and row.event != "x402_signed":
            # The nonce of an authorisation is no transaction's.
            signer, nonce = row.body["signer"], int(row.body["nonce"]) + 1
        else:
            return
        self.nonces[signer] = max(self.nonces.get(signer, 0), nonce)

    def prune(self, now: int) -> None:
        """Forget what can't count any more: unpauses that expired long ago, drafts that ended.

        A clock that was put back by less than a month brings none of them back.
        """
        past = min(self.time, now) - _USED_KEPT
        expired = [of for of, ends in self.used.items() if ends is not None and ends < past]
        for proposal_id in expired:
            del self.used[proposal_id]
