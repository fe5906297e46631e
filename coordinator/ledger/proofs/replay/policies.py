"""Replay versions of the policy: who signs them decides who signs everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.policy.delays import change_delay, delayed_changes
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import ProposalKind
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.pins import Pins
from coordinator.domain.statements.signed import Signed
from coordinator.domain.times import rfc3339
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.proofs.replay.words import Words, told

_ACTIVATED: Final = "policy_activated"
_SIGNED: Final = "policy_signed"
EVENTS: Final = frozenset({_ACTIVATED, _SIGNED})

Agreed = Callable[[AuditRow, ProposalKind], LoggedProposal | None]


class ReplayedPolicies:
    """Puts each version in force that may be; one that had to be signed and was not is not."""

    def __init__(self, words: Words, agreed: Agreed, pins: Pins | None) -> None:
        self._words = words
        self._agreed = agreed
        self._pins = pins
        # Whether the first version that was signed has been met.
        self._begun = False
        # Versions that are believed although nobody signed them, with the rows that tell of them.
        self.unsigned: dict[str, str] = {}

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong with the version, and go on with it where it counts."""
        policy = self._words.policy
        if row.event == _SIGNED:
            wrong = None if policy is None or policy.hash == row.subject else "it is not in force"
            if (wrong := wrong or self._not_signed(row)) is not None:
                yield wrong
            else:
                self.unsigned.clear()
            return
        made = Policy.from_dict(row.body["document"])
        if made.hash != row.subject:
            yield "its document is not the one with this hash"
            return
        if policy is not None and policy.hash == made.hash:
            return
        if row.body.get("proposal") is None:
            if policy is not None and policy.approvals.signatures == "required":
                yield "approvers had to sign it and did not"
                return
            self.unsigned[row.subject] = told(row)
        elif (wrong := self._not_signed(row, made)) is not None:
            yield wrong
            return
        self._words.policy = made

    def _not_signed(self, row: AuditRow, made: Policy | None = None) -> str | None:
        told = self._agreed(row, ProposalKind.POLICY)
        if told is None:
            return f"no approver has agreed to {row.body.get('proposal')}"
        terms, policy = told.proposal.terms, self._words.policy
        if terms["hash"] != row.subject:
            return f"approvers agreed to {terms['hash']}"
        if row.event == _ACTIVATED and policy is not None and terms["before"] != policy.hash:
            return f"approvers agreed to replace {terms['before']}"
        return self._too_early(row, told, made) or self._not_pinned(told)

    def _too_early(self, row: AuditRow, told: LoggedProposal, made: Policy | None) -> str | None:
        policy, trust = self._words.policy, self._words.trust
        if policy is None or made is None or trust is None:
            return None
        at = told.proposal.created_at + change_delay(policy, trust.chain_id)
        late = next(delayed_changes(policy, made), None)
        if late is None or row.at >= at:
            return None
        return f"it came into force before {rfc3339(at)}, and {late}"

    def _not_pinned(self, told: LoggedProposal) -> str | None:
        """Say why the first version that was signed was not by whom this process pins."""
        words = self._words
        begun, self._begun = self._begun, True
        if begun or self._pins is None or words.trust is None:
            return None
        given = [
            Signed.from_dict(said["signed"])
            for said in told.decisions.values()
            if said.get("signed") is not None
        ]
        expected = proposal_statement(words.in_force, told.proposal)
        return self._pins.missing(expected, given, words.trust)
