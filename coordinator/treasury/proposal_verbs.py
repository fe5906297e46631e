"""The treasury's verbs of proposals: what approvers sign, agree on and reject."""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coordinator.domain.errors import LedgerTampered
from coordinator.domain.inputs import free_text, identifier
from coordinator.domain.policy.payees import Contracts
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock
from coordinator.domain.purchase.approval import Approver
from coordinator.domain.purchase.proposal import PREFIXES, Proposal, ProposalKind
from coordinator.domain.reasons import Reason
from coordinator.domain.statements.making import proposal_statement
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.ledger.spend.approvals import read_approval
from coordinator.ledger.spend.proposals import read_proposal, waiting_ids
from coordinator.ledger.spend.words import Word, Words, signing_request
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.approve import statement_of
from coordinator.treasury.draft import SignTyped, draft_policy, recover_policy
from coordinator.treasury.pause import unpause
from coordinator.treasury.propose import approve_proposal, carry_out_due, reject_proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalVerbs:
    """Runs them in one transaction each. ``wake`` lets the executor look for something to do."""

    group_commit: GroupCommit
    operations: OperationsBook
    words: Words
    contracts: Contracts
    clock: Clock
    wake: Callable[[], None]

    def statement(self, subject_id: str, *, reason: str | None = None) -> SigningRequest:
        """Return what an approver of a purchase or proposal signs at this moment.

        With a ``reason`` it is rejected. UnknownId when there is no such approval.
        """
        return self.group_commit.read(self._request(subject_id, reason))

    def _request(self, subject_id: str, reason: str | None) -> Callable[[Tx], SigningRequest]:
        def make(tx: Tx) -> SigningRequest:
            if subject_id.startswith(tuple(PREFIXES.values())):
                proposal = read_proposal(tx, subject_id)
                return signing_request(tx, proposal_statement(tx.policy, proposal, reason=reason))
            row, purchase = read_approval(tx, subject_id)
            return signing_request(
                tx, statement_of(tx.policy, purchase, row.expires_at, reason=reason)
            )

        return make

    def _word(
        self, subject_id: str, approver: str, given: GivenSignature | None, reason: str | None
    ) -> Word:
        return self.words.of(given, approver, self._request(subject_id, reason))

    @contextlib.contextmanager
    def _pausing_if_tampered(self, subject: str) -> Iterator[None]:
        try:
            yield
        except LedgerTampered as fault:
            self.operations.report_tampering(subject, fault.what, now=self.clock())
            raise

    def unpause(
        self, reason: str, *, approver: str, scope: str = "organisation", of: str = ""
    ) -> Reason | None:
        """Allow spending again, once as many approvers as the policy requires have agreed.

        None when it is done; otherwise why not: the person may not, or others have to say so too.
        """
        reason = free_text("reason", reason, 2000)
        who, now = approver_of(approver), self.clock()
        refusal = self.group_commit.run(
            lambda tx: unpause(tx, scope, of, who, reason=reason, now=now)
        )
        self.wake()
        return refusal

    def approve_proposal(
        self, proposal_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> tuple[Proposal, Reason | None]:
        """Record the approver's yes; the last one needed carries it out. Refusals say why."""
        word = self._word(proposal_id, approver, signature, None)
        who, now = approver_of(approver), self.clock()
        with self._pausing_if_tampered(proposal_id):
            found = self.group_commit.run(
                lambda tx: approve_proposal(tx, proposal_id, who, now=now, word=word)
            )
        self.wake()
        return found.proposal, found.refusal

    def reject_proposal(
        self,
        proposal_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> tuple[Proposal, Reason | None]:
        """Reject the proposal in the approver's name."""
        reason = free_text("reason", reason, 2000)
        word = self._word(proposal_id, approver, signature, reason)
        who, now = approver_of(approver), self.clock()
        found = self.group_commit.run(
            lambda tx: reject_proposal(tx, proposal_id, who, reason=reason, now=now, word=word)
        )
        return found.proposal, found.refusal

    def draft_policy(self, policy: Policy, *, by: str, reason: str) -> Proposal:
        """Propose a version of the policy, which approvers sign; nothing is in force by that."""
        reason, name, now = free_text("reason", reason, 2000), identifier("by", by), self.clock()
        return self.group_commit.run(
            lambda tx: draft_policy(
                tx, policy, contracts=self.contracts, by=name, reason=reason, now=now
            )
        )

    def recover_policy(self, policy: Policy, *, by: str, reason: str, sign: SignTyped) -> Proposal:
        """Begin to replace the policy with the treasury's key; in force after 72 hours."""
        reason, name, now = free_text("reason", reason, 2000), identifier("by", by), self.clock()
        return self.group_commit.run(
            lambda tx: recover_policy(
                tx,
                policy,
                contracts=self.contracts,
                by=name,
                reason=reason,
                now=now,
                sign=sign,
            )
        )

    def put_policies_in_force(self) -> None:
        """Put drafts in force that enough approvers signed and whose delay is over."""
        if self.group_commit.read(lambda tx: waiting_ids(tx, ProposalKind.POLICY)):
            now = self.clock()
            self.group_commit.run(lambda tx: carry_out_due(tx, now))


def approver_of(name: str) -> Approver:
    """Return the approver, with the host and user account of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return Approver(identifier("approver", name), socket.gethostname(), user)
