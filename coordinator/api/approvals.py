"""The Python API of approvers: what waits for them, what they sign, and their decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.api.arguments import checked
from coordinator.api.background import background_of
from coordinator.config import read_policy
from coordinator.domain.errors import ChainUnavailable, TxReverted
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import JudgedApproval, PendingApproval
from coordinator.domain.purchase.background import Background
from coordinator.domain.purchase.proposal import Proposal
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.reasons import Reason
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import ZERO, Usdc

if TYPE_CHECKING:
    from coordinator.wiring import Wiring


@checked
class ApprovalApi(ABC):
    """Methods of ``Coordinator`` for approvers."""

    @property
    @abstractmethod
    def wiring(self) -> Wiring:
        """Return the coordinator's parts; CoordinatorClosed after it was closed."""

    @abstractmethod
    def look(self) -> None:
        """Wait until the books have followed the chain once."""

    @abstractmethod
    def get(self, purchase_id: str) -> Purchase:
        """Return a purchase; UnknownId when there is none."""

    def approvals(self) -> Sequence[PendingApproval]:
        """List purchases that wait for approvers, oldest first."""
        return self.wiring.approvals.pending(self.wiring.clock())

    def judge_approval(self, approval_id: str, *, approver: str | None = None) -> JudgedApproval:
        """Judge a waiting purchase now: every limit, and the reasons against approving it.

        With ``approver`` also whether that person may decide it. Nothing is written.
        """
        return self.wiring.treasury.judge_approval(approval_id, approver=approver)

    def background(self, approval_id: str) -> Background:
        """Return what was done before with the provider and by the agent it is about.

        For purchases, requests for more and proposals alike; its cost does not grow with history.
        """
        return background_of(self.wiring, approval_id)

    def statement(self, approval_id: str, *, reason: str | None = None) -> SigningRequest:
        """Return what an approver signs to approve it, or to reject it for a ``reason``.

        ``approval_id`` is one of a purchase, a proposal or an increase; UnknownId otherwise.
        """
        if approval_id.startswith("inc_"):
            return self.wiring.budgets.statement(approval_id, reason=reason)
        return self.wiring.treasury.statement(approval_id, reason=reason)

    def approve(
        self, approval_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> Answer:
        """Approve it in the approver's name; refused when it no longer fits the limits.

        Whom the policy gives credentials has to sign the ``statement``.
        """
        return self.wiring.treasury.approve(approval_id, approver=approver, signature=signature)

    def reject(
        self,
        approval_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> Answer:
        """Reject it; the hold is voided. Whom the policy gives credentials has to sign it."""
        return self.wiring.treasury.reject(
            approval_id, approver=approver, reason=reason, signature=signature
        )

    def proposals(self) -> Sequence[Proposal]:
        """List withdrawals, early settles and unpauses that wait for approvers, oldest first."""
        return self.wiring.proposals.waiting(self.wiring.clock())

    def proposal(self, proposal_id: str) -> Proposal:
        """Return the proposal, pending or decided; UnknownId when there is none."""
        return self.wiring.proposals.get(proposal_id)

    def draft_policy(self, policy: str | Path | Policy, *, by: str, reason: str) -> Proposal:
        """Draft a version of the policy, of a file or built in code, for approvers to sign.

        It comes into force with the last approval that the policy in force asks for.
        ConfigurationError lists every fault of it.
        """
        made = read_policy(Path(policy) if isinstance(policy, str) else policy)
        return self.wiring.treasury.draft_policy(made, by=by, reason=reason)

    def recover_policy(self, policy: str | Path | Policy, *, by: str, reason: str) -> Proposal:
        """Replace a policy whose approvers lost their credentials, with the treasury's own key.

        It takes effect after 72 hours, unless an approver rejects it; people are told.
        ConfigurationError where this process does not have the treasury's key.
        """
        made = read_policy(Path(policy) if isinstance(policy, str) else policy)
        w = self.wiring
        w.signer.open()
        return w.treasury.recover_policy(made, by=by, reason=reason, sign=w.signer.sign_typed)

    def approve_proposal(
        self, proposal_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> tuple[Proposal, Reason | None]:
        """Approve it in the approver's name; the last approval needed carries it out.

        The reason tells why it was not: the person may not, it is too late, or others have to
        approve it too.
        """
        return self.wiring.treasury.approve_proposal(
            proposal_id, approver=approver, signature=signature
        )

    def reject_proposal(
        self,
        proposal_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> tuple[Proposal, Reason | None]:
        """Reject it in the approver's name; the reason says why that was not possible."""
        return self.wiring.treasury.reject_proposal(
            proposal_id, approver=approver, reason=reason, signature=signature
        )

    def dispute(
        self,
        purchase_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> Answer:
        """Dispute a delivered purchase within its window; the bond is held meanwhile."""
        bond = self._bond(purchase_id)
        return self.wiring.treasury.dispute(
            purchase_id, approver=approver, reason=reason, bond=bond, signature=signature
        )

    def dispute_statement(self, purchase_id: str, *, reason: str) -> SigningRequest:
        """Return what an approver signs who disputes a purchase for a ``reason``."""
        bond = self._bond(purchase_id)
        return self.wiring.treasury.dispute_statement(purchase_id, reason=reason, bond=bond)

    def _bond(self, purchase_id: str) -> Usdc:
        self.look()
        escrow_id = self.get(purchase_id).escrow_id
        if escrow_id is None:
            return ZERO
        try:
            return self.wiring.chain.escrow(escrow_id).bond
        except TxReverted as fault:
            raise ChainUnavailable(
                f"the escrow of {purchase_id} is not on the chain at the moment ({fault}); the"
                " books will follow: nothing was sent, try again"
            ) from fault
