"""Changes of the policy that take effect late, so that people see them before money can follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from coordinator.domain.policy.model import BASE_CHAIN_ID, PolicyModel

_DAY: Final = 86_400


def change_delay(policy: PolicyModel, chain_id: int) -> int:
    """Return the seconds between a draft and its effect; on Base a day where the policy is silent.

    The policy is the one in force, which the draft would replace.
    """
    stated = policy.approvals.change_delay
    if stated is not None:
        return stated
    return _DAY if chain_id == BASE_CHAIN_ID else 0


def delayed_changes(old: PolicyModel, new: PolicyModel) -> Iterator[str]:
    """Name what of a draft takes effect late: who is paid, who decides, and where money may go.

    What only takes away, such as a provider or an approver's credential, takes effect at once.
    """
    for name, provider in new.providers.items():
        known = old.providers.get(name)
        if known is None or known.address != provider.address:
            yield f"provider {name} is paid at {provider.address}"
    for name, address in new.withdrawals.addresses.items():
        if old.withdrawals.addresses.get(name) != address:
            yield f"withdrawals to {name} go to {address}"
    if old.withdrawals.listed_only and not new.withdrawals.listed_only:
        yield "withdrawals may go anywhere"
    yield from _approvals(old, new)


def _approvals(old: PolicyModel, new: PolicyModel) -> Iterator[str]:
    before, after = old.approvals, new.approvals
    for name, approver in after.approvers.items():
        known = before.approvers.get(name)
        added = [c for c in approver.credentials if known is None or c not in known.credentials]
        if known is None:
            yield f"{name} is an approver"
        for credential in added:
            yield f"{name} signs with {credential}"
        if known is not None and (known.up_to, known.group) != (approver.up_to, approver.group):
            yield f"{name} may decide other amounts, or is in another group"
    nobody: dict[str, Any] = {"approvers": {}}
    if before.model_copy(update=nobody) != after.model_copy(update=nobody):
        yield "other numbers of approvers, tiers or times"
