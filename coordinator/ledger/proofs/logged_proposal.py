"""A proposal folded from the rows that the audit log has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.proposal import Proposal, ProposalKind, ProposalStatus

_ENDS: Final = frozenset({"proposal_approved", "proposal_rejected", "proposal_expired"})
_YES: Final = "proposal_approved_by"


@dataclass(frozen=True, slots=True)
class LoggedProposal:
    """A proposal, and by name what its approvers said."""

    proposal: Proposal
    decisions: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, rows: Sequence[AuditRow]) -> LoggedProposal | None:
        """Fold the rows of one subject, in their order; None where none of them made it.

        LedgerTampered when one does not say what such a row says.
        """
        try:
            return cls._of(rows)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise LedgerTampered(f"a row of the audit log about {rows[0].subject}") from None

    @classmethod
    def _of(cls, rows: Sequence[AuditRow]) -> LoggedProposal | None:
        made = next((row for row in rows if row.event == "proposal_made"), None)
        if made is None:
            return None
        ends = [row.event for row in rows if row.event in _ENDS]
        said = {
            row.body["approver"]: {**row.body, "decision": "approved"}
            for row in rows
            if row.event == _YES
        }
        body = made.body
        proposal = Proposal(
            id=made.subject,
            kind=ProposalKind(body["kind"]),
            terms=body["terms"],
            by=body["by"],
            reason=body["reason"],
            status=ProposalStatus(
                ends[-1].removeprefix("proposal_") if ends else "awaiting_approval"
            ),
            required=body["required"],
            approved_by=tuple(said),
            created_at=made.at,
            expires_at=body["expires_at"],
        )
        return cls(proposal, said)
