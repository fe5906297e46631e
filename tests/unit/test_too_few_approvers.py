"""Policies whose approvers are too few, and those that one loss would make too few."""

from __future__ import annotations

import pytest

from coordinator.domain.policy.approvals import Approvals
from coordinator.domain.policy.losses import approval_warnings, blocking_losses

ONE, TWO, THREE = (f"address:0x{'1' * 39}{digit}" for digit in "123")


def warnings(**table: object) -> list[str]:
    return list(blocking_losses(Approvals.model_validate({"signatures": "required"} | table)))


@pytest.mark.parametrize(
    "table",
    [
        {"approvers": {"alice": {"up_to": "50", "credentials": [ONE, TWO]}}},
        {
            "required": 2,
            "approvers": {
                "alice": {"credentials": [ONE, TWO]},
                "bob": {"up_to": "50", "credentials": [THREE]},
            },
        },
        {
            "from_each": ["finance"],
            "approvers": {
                "alice": {"group": "finance", "up_to": "50", "credentials": [ONE, TWO]},
                "bob": {"credentials": [THREE]},
            },
        },
        {"approvers": {}},
    ],
    ids=["up to an amount", "two asked, one may", "the group's only one", "nobody"],
)
def test_a_policy_that_nobody_could_change_is_told(table: dict[str, object]) -> None:
    (told,) = warnings(**table)
    assert told.startswith("no policy can be changed")
    assert told.endswith("and there are not as many who may")


def test_one_credential_that_blocks_once_lost_is_told() -> None:
    (told,) = warnings(approvers={"alice": {"credentials": [ONE]}})
    assert told.startswith("alice has one credential")


def test_two_credentials_of_each_are_enough() -> None:
    assert warnings(approvers={"alice": {"credentials": [ONE, TWO]}}) == []


def test_signatures_that_nobody_has_to_give_are_told() -> None:
    able = {"alice": {"credentials": [ONE, TWO]}}
    (told,) = approval_warnings(Approvals.model_validate({"approvers": able}))
    assert 'set signatures = "required"' in told
    asked = {"approvers": able, "signatures": "required"}
    assert list(approval_warnings(Approvals.model_validate(asked))) == []
    mixed = {"approvers": able | {"bob": {}}}
    assert list(approval_warnings(Approvals.model_validate(mixed))) == []
