"""Routes of approvers: purchases and proposals that wait for people."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from coordinator.server import models as m
from coordinator.server.access import ApproverCaller, ReadingCaller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented
from coordinator.server.routes.terms import ID, given

router = APIRouter(prefix="/v1", tags=["approvals"], route_class=StrictRoute)

ApprovalId = Annotated[str, Path(pattern=ID)]
Reason = Annotated[
    str | None,
    Query(min_length=1, max_length=2000, description="To reject it: the reason, which is signed."),
]


@router.get("/approvals", responses={200: {"model": m.Items}, **FAULTS})
def list_approvals(who: ReadingCaller) -> Response:
    """List purchases that wait for approvers, oldest first."""
    return answer({"items": [a.as_dict() for a in who.coordinator.approvals()]})


@router.get("/approvals/{approval_id}", responses={200: {"model": m.Anything}, **FAULTS})
def show_approval(who: ReadingCaller, approval_id: ApprovalId) -> Response:
    """Judge a waiting purchase: its limits, what was before, and the reasons against it."""
    approver = who.name if who.role == "approver" else None
    judged = who.coordinator.judge_approval(approval_id, approver=approver)
    background = who.coordinator.background(approval_id)
    return answer({**judged.as_dict(), "background": background.as_dict()})


@router.get("/approvals/{approval_id}/statement", responses={200: {"model": m.Statement}, **FAULTS})
def show_statement(who: ReadingCaller, approval_id: ApprovalId, reason: Reason = None) -> Response:
    """Return what an approver signs to approve a purchase, a proposal or an increase.

    With a reason, to reject it.
    """
    return answer(who.coordinator.statement(approval_id, reason=reason).as_dict())


@router.post(
    "/approvals/{approval_id}/approve",
    responses={200: {"model": m.Answer}, **BODY_FAULTS, **documented(404)},
)
def approve(
    who: ApproverCaller, approval_id: ApprovalId, signed: m.Signed | None = None
) -> Response:
    """Approve it in the name of the key's approver; a refusal is an answer with its reason."""
    found = who.coordinator.approve(approval_id, approver=who.name, signature=given(signed))
    return answer(found)


@router.post(
    "/approvals/{approval_id}/reject",
    responses={200: {"model": m.Answer}, **BODY_FAULTS, **documented(404)},
)
def reject(who: ApproverCaller, approval_id: ApprovalId, why: m.SignedWhy) -> Response:
    """Reject it, with a reason; the hold is voided."""
    found = who.coordinator.reject(
        approval_id, approver=who.name, reason=why.reason, signature=given(why)
    )
    return answer(found)


@router.get("/proposals", responses={200: {"model": m.Items}, **FAULTS})
def list_proposals(who: ReadingCaller) -> Response:
    """List withdrawals, early settles and unpauses that wait for approvers, oldest first."""
    return answer({"items": [p.as_dict() for p in who.coordinator.proposals()]})


@router.get("/proposals/{proposal_id}", responses={200: {"model": m.Anything}, **FAULTS})
def show_proposal(who: ReadingCaller, proposal_id: ApprovalId) -> Response:
    """Return a proposal, pending or decided."""
    return answer(who.coordinator.proposal(proposal_id))


@router.post(
    "/proposals/{proposal_id}/approve",
    responses={200: {"model": m.Judged}, **BODY_FAULTS, **documented(404)},
)
def approve_proposal(
    who: ApproverCaller, proposal_id: ApprovalId, signed: m.Signed | None = None
) -> Response:
    """Approve it; the last approval needed carries it out."""
    found, reason = who.coordinator.approve_proposal(
        proposal_id, approver=who.name, signature=given(signed)
    )
    return answer({"done": reason is None, "reason": reason, "proposal": found.as_dict()})


@router.post(
    "/proposals/{proposal_id}/reject",
    responses={200: {"model": m.Judged}, **BODY_FAULTS, **documented(404)},
)
def reject_proposal(who: ApproverCaller, proposal_id: ApprovalId, why: m.SignedWhy) -> Response:
    """Reject it, with a reason."""
    found, reason = who.coordinator.reject_proposal(
        proposal_id, approver=who.name, reason=why.reason, signature=given(why)
    )
    return answer({"done": reason is None, "reason": reason, "proposal": found.as_dict()})
