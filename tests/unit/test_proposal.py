"""The words in which a proposal tells what it waits for."""

from __future__ import annotations

import pytest

from coordinator.domain.purchase.proposal import Proposal, ProposalKind, ProposalStatus


def waiting(required: int, *approved_by: str) -> str:
    proposal = Proposal(
        id="wdr_1",
        kind=ProposalKind.WITHDRAW,
        terms={},
        by="ann",
        reason="payday",
        status=ProposalStatus.AWAITING_APPROVAL,
        required=required,
        approved_by=approved_by,
        created_at=0,
        expires_at=86_400,
    )
    return proposal.waiting().message


@pytest.mark.parametrize(
    ("said", "begins"),
    [
        (waiting(1), "0 of 1 approvals: 1 approver has to run"),
        (waiting(2), "0 of 2 approvals: 2 approvers have to run"),
        (waiting(2, "ann"), "1 of 2 approvals: 1 more approver has to run"),
        (waiting(3, "ann"), "1 of 3 approvals: 2 more approvers have to run"),
        (
            waiting(2, "ann", "ben"),
            "2 of 2 approvals, none of a group that is asked for: 1 more approver has to run",
        ),
    ],
)
def test_it_says_how_many_approvers_are_missing(said: str, begins: str) -> None:
    assert said == f"{begins} `coordinator approvals approve wdr_1` before 1970-01-02T00:00:00Z"
