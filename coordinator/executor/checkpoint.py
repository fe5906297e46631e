"""Keep the worker's checkpoint of the audit log in a file outside the database."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.errors import LedgerTampered, LedgerUnavailable
from coordinator.domain.policy.policy import Policy
from coordinator.executor.checkpoint_state import ORDERS_SIGNED, START, CheckpointState
from coordinator.executor.signed_rules import PolicyChange, SignedRules
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.audit.seals import Seal
from coordinator.ledger.proofs.evidence import Seen, Unasked
from coordinator.ledger.tx.checkpoints import CheckpointBook

log = logging.getLogger(__name__)

SEAL_ROWS: Final = 1_000
SEAL_SECONDS: Final = 3_600
# Decisions of any process, which the worker's log tells with the id that they are about.
_TOLD: Final = {
    "purchase_denied": "purchase_id",
    "purchase_awaiting_approval": "purchase_id",
    "purchase_approved": "purchase_id",
    "purchase_rejected": "purchase_id",
    "paused": "scope",
    "unpaused": "scope",
    "policy_activated": "hash",
}


class Checkpoint:
    """Verifies each row of the audit log once, and refuses a log that has lost rows.

    A database that was put back with its log is authentic row by row. Only what is kept elsewhere
    tells that it is older: the head of the log, and which orders were signed, which no chain would
    refuse to carry out twice. ``path`` None keeps it for this process alone; where there is no
    such file yet, the first of those ``before`` that there is counts.
    """

    def __init__(
        self,
        path: Path | None,
        audit: AuditLog,
        book: CheckpointBook,
        rules: SignedRules,
        *,
        before: Sequence[Path] = (),
    ) -> None:
        self._rules = rules
        self._path = path
        self._before = before
        self._audit = audit
        self._book = book
        self._known: CheckpointState | None = None
        self._written: Head | None = None
        self._sealed: Seal | None = None
        self._sealed_at = 0
        self._refused: list[tuple[int, str, str, str]] = []

    def take_over(self, *, now: int) -> None:
        """Read the file again: another process of this host may have acted meanwhile."""
        self._book.join(now=now)
        if self._path is not None:
            self._known = None
        self._sealed = None

    def advance(self, *, now: int) -> bool:
        """Verify the rows appended since; on a refused log pause spending and return False.

        It is accepted again once an approver has unpaused after it was refused. LedgerUnavailable
        when the file can't be read or written: then nothing may be signed either.
        """
        started = self._known is None
        if self._known is None:
            self._known = self._read()
        known, self._refused = self._known, []
        try:
            self._judge_by_own_pins(now)
            # What was decided before this executor acted is history, not its log.
            self._take(self._audit.after(known.head), now=now, tell=not started)
        except LedgerTampered as fault:
            head = self._book.accepted(known.head, lambda row: self._is_agreed(row, now))
            if head is None:
                self._book.refuse(known.head, fault.what, now=now)
                return False
            log.warning("audit_log_accepted expected=%s from=%s", known.head, head)
            signed = known.signed | self._book.signed_orders(*ORDERS_SIGNED)
            # People and its own signatures count as before: they are not the log's to forget.
            self._known = CheckpointState(
                head,
                signed,
                since=head.count,
                pins=known.pins,
                accepted=known.accepted,
                used=known.used,
                time=known.time,
                nonces=known.nonces,
                drafts=known.drafts,
                changes=known.changes,
                spent=known.spent,
                topped=known.topped,
                signed_total=known.signed_total,
                refused=known.refused,
                approved=known.approved,
                unasked=known.unasked,
            )
            self._take(self._audit.after(head), now=now)
        assert self._known is not None
        self._accept_policies(self._known, now)
        self._known.prune(now)
        self._tell_refused(now)
        self._write()
        self._seal(now)
        return True

    def _seal(self, now: int) -> None:
        """Seal the log after so many rows, or so long: what is sealed is not checked again."""
        known = self._known
        assert known is not None
        if self._sealed is None:
            self._sealed = self._book.sealed()
            self._sealed_at = max(self._sealed.at, now if not self._sealed.count else 0)
        rows = known.head.count - self._sealed.count
        if rows >= SEAL_ROWS or (rows > 0 and now - self._sealed_at >= SEAL_SECONDS):
            self._sealed = self._book.seal(known.head, now=now)
            self._sealed_at = now

    def seen(self, now: int) -> Seen:
        """Return the log as verified so far: every signature must agree with it."""
        known = self._known if self._known is not None else CheckpointState()
        return known.seen(self._rules, now)

    def nonces(self, signer: str) -> int:
        """Return the nonce after the last that the log tells an account has used."""
        return self._known.nonces.get(signer, 0) if self._known is not None else 0

    @property
    def policy(self) -> str | None:
        """Hash of the policy that the log put in force last."""
        return self._known.policy if self._known is not None else None

    @property
    def signed_policy(self) -> Policy | None:
        """The policy that approvers have signed, where this worker pins them; None otherwise."""
        accepted = self._known.accepted if self._known is not None else None
        return self._rules.policy(accepted) if self._rules.pins is not None else None

    def _judge_by_own_pins(self, now: int) -> None:
        """Take every version of the policy anew where other approvers were pinned before."""
        known, pins = self._known, self._rules.pins
        said = None if pins is None else str(pins)
        assert known is not None
        if known.pins == said:
            return
        anew = replace(known.copy(), pins=said, accepted=None, refused=None, drafts={}, changes=[])
        if pins is not None and known.head.count:
            for row in self._audit.after(START):
                if row.seq > known.head.count:
                    break
                anew.note_policy(row, now)
        for change in anew.changes:
            anew.used.pop(change.proposal or "", None)
        self._known, self._written = anew, None

    def _take(self, rows: Iterable[AuditRow], *, now: int, tell: bool = False) -> None:
        # A copy, so that a row that is wrong leaves everything as it was.
        known, told = None, []
        for row in rows:
            assert self._known is not None
            known = self._known.copy() if known is None else known
            try:
                known.take(row)
                self._judge(known, row, now)
            except (AttributeError, KeyError, TypeError, ValueError):
                what = f"audit row {row.seq} ({row.event} {row.subject}) can't be read"
                raise LedgerTampered(what) from None
            if tell and row.event in _TOLD:
                told.append((row.event, _TOLD[row.event], row.subject))
        self._known = known or self._known
        for event, name, subject in told:
            log.info("%s %s=%s", event, name, subject)

    def _unpause_refused(self, known: CheckpointState, row: AuditRow, now: int) -> str | None:
        # By the log's time, which grows: but a clock that was put back is the worker's, too.
        not_before = min(known.time, now)
        believed = known.accepted if self._rules.pins is not None else known.policy
        policy = self._rules.policy(believed)
        return self._rules.unpause_refused(row, policy, known.used, not_before)

    def _use(self, known: CheckpointState, row: AuditRow) -> None:
        """Let the proposal of an unpause count no more; one that has expired can't anyway."""
        proposal_id = row.body.get("proposal")
        told = self._book.proposal(proposal_id) if proposal_id else None
        if told is not None:
            known.used[told.proposal.id] = told.proposal.expires_at

    def _is_agreed(self, row: AuditRow, now: int) -> bool:
        """Whether people have signed an unpause, by the policy that is believed at present."""
        assert self._known is not None
        return self._unpause_refused(self._known, row, now) is None

    def _judge(self, known: CheckpointState, row: AuditRow, now: int) -> None:
        """Take a policy or an unpause for what it is only if people have signed it."""
        if row.event == "unpaused":
            # Whoever signed it is in a version that stands before it.
            self._accept_policies(known, now)
            why = self._unpause_refused(known, row, now)
            if why is None:
                known.paused.discard(row.subject)
                self._use(known, row)
            else:
                self._refused.append((row.seq, row.event, row.subject, why))
        elif self._rules.pins is not None:
            known.note_policy(row, now)

    def _accept_policies(self, known: CheckpointState, now: int) -> None:
        """Believe the versions that approvers signed, in their order, each once it is due."""
        while known.changes:
            change = known.changes[0]
            why = self._rules.policy_refused(change, known.accepted)
            if why is None and change.proposal in known.used:
                why = "it was signed for an earlier change"
            if why is not None:
                # A first version is applied without signatures: what waits for one tells so.
                if known.accepted is not None or change.proposal is not None:
                    self._refused.append((*change[:3], why))
                known.refused = f"{change.hash[:12]}…: {why}"
            else:
                seen_at = known.drafts.setdefault(change.proposal or "", now)
                if now < self._rules.effective_at(change, known.accepted, seen_at):
                    return
                known.accepted, known.refused = change.hash, None
                known.used[change.proposal or ""] = None
            known.drafts.pop(change.proposal or "", None)
            known.changes.pop(0)

    def _tell_refused(self, now: int) -> None:
        refused, self._refused = self._refused, []
        for seq, event, subject, why in refused:
            self._book.refuse_row(seq, event, subject, why, now=now)

    def _read(self) -> CheckpointState:
        paths = (self._path, *self._before)
        path = next((path for path in paths if path is not None and path.exists()), None)
        if self._path is None or path is None:
            return CheckpointState()
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            known = CheckpointState(
                head=Head.parse(found["audit_head"]),
                signed=set(found["signed"]),
                policy=found["policy"],
                since=found["since"],
                rows=found["rows"],
                paused=set(found["paused"]),
                reopened=set(found["reopened"]),
                revoked=set(found["revoked"]),
                pins=found.get("pins"),
                accepted=found["accepted"],
                used=dict(found["used"]),
                time=found["time"],
                nonces=dict(found["nonces"]),
                drafts=found["drafts"],
                changes=[PolicyChange(*one) for one in found["changes"]],
                spent=[(at, units) for at, units in found["spent"]],
                signed_total=found["signed_total"],
                topped=[(at, units) for at, units in found.get("topped", [])],
                refused=found.get("refused"),
                approved={of: (who, at) for of, (who, at) in found.get("approved", {}).items()},
                unasked={of: Unasked(*one) for of, one in found.get("unasked", {}).items()},
            )
        except (OSError, KeyError, TypeError, ValueError) as fault:
            raise LedgerUnavailable(
                f"the worker's audit checkpoint {path} can't be read: {fault}"
            ) from None
        self._written = known.head if path == self._path else None
        return known

    def _write(self) -> None:
        known = self._known
        if self._path is None or known is None or known.head == self._written:
            return
        text = json.dumps(
            {
                "audit_head": str(known.head),
                "policy": known.policy,
                "signed": sorted(known.signed),
                "since": known.since,
                "rows": known.rows,
                "paused": sorted(known.paused),
                "reopened": sorted(known.reopened),
                "revoked": sorted(known.revoked),
                "pins": known.pins,
                "accepted": known.accepted,
                "used": known.used,
                "time": known.time,
                "nonces": known.nonces,
                "drafts": known.drafts,
                "changes": known.changes,
                "spent": known.spent,
                "topped": known.topped,
                "signed_total": known.signed_total,
                "refused": known.refused,
                "approved": known.approved,
                "unasked": known.unasked,
            }
        )
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as fault:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise LedgerUnavailable(
                f"the worker's audit checkpoint {self._path} can't be written ({fault.strerror}):"
                " set COORDINATOR_STATE_FOLDER to a folder that it may write"
            ) from None
        self._written = known.head
