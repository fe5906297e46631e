"""Warnings about a valid policy: approvers that are too few, changes that nobody has to sign."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.policy.approvals import Approvals, Approver, Quorum


def approval_warnings(approvals: Approvals) -> Iterator[str]:
    """Name what a valid policy leaves open: lost credentials, and changes that nobody signs."""
    yield from blocking_losses(approvals)
    people = approvals.approvers.values()
    if approvals.signatures == "optional" and people and all(one.signs for one in people):
        yield (
            "every approver has a credential, but whoever can run `coordinator policy apply`"
            ' replaces this policy without any signature: set signatures = "required"'
        )


def blocking_losses(approvals: Approvals) -> Iterator[str]:
    """Name each approver whose one credential, once lost, blocks what takes approvals.

    Two credentials for each approver prevent it: one of them signs the policy that replaces the
    other. Where they are too few as they are, only that is named.
    """
    if approvals.signatures == "required":
        stuck = next(_blocked(approvals, list(approvals.approvers.values())), None)
        if stuck is not None:
            yield f"{stuck}, and there are not as many who may"
            return
    for name, approver in approvals.approvers.items():
        if len(approver.credentials) != 1:
            continue
        left = [one for other, one in approvals.approvers.items() if other != name]
        blocked = next(_blocked(approvals, left), None)
        if blocked is not None:
            yield (
                f"{name} has one credential: once {approver.credentials[0]} is lost, {blocked};"
                " give each approver two"
            )


def _blocked(approvals: Approvals, left: list[Approver]) -> Iterator[str]:
    people = [one for one in left if not one.agent and one.up_to is None]
    base = approvals.quorum()
    if not base.met_by(people):
        yield f"no policy can be changed: that takes {_words(base)}"
    for tier in approvals.tiers:
        able = [one for one in left if one.up_to is None or one.up_to > tier.above]
        quorum = Quorum(
            required=max(base.required, tier.required),
            from_each=(*base.from_each, *tier.from_each),
        )
        if not quorum.met_by(able):
            yield f"nothing above {tier.above} USDC can be approved: that takes {_words(quorum)}"


def _words(quorum: Quorum) -> str:
    groups = f", one of each of {', '.join(quorum.from_each)}" if quorum.from_each else ""
    return f"{quorum.required} approver{'s' if quorum.required > 1 else ''}{groups}"
