"""Find contradictions within a policy's approvals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from coordinator.domain.policy.approvals import Approvals
from coordinator.domain.policy.faults import Fault
from coordinator.domain.policy.model import PolicyModel

# What looks the same in most fonts; names have no letters but ASCII's.
_LOOKS_LIKE: Final = str.maketrans("01i", "oll")


def _one_person(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with an earlier one that looks like it."""
    seen: dict[str, str] = {}
    for name in names:
        read = name.casefold().translate(_LOOKS_LIKE)
        if read in seen:
            yield seen[read], name
        seen.setdefault(read, name)


def approval_faults(policy: PolicyModel) -> Iterator[Fault]:
    """Yield the contradictions of the approvals."""
    approvals = policy.approvals
    for first, second in _one_person(approvals.approvers):
        yield (
            ("approvals", "approvers", second),
            f"looks like {first!r}: each approver counts once, so give people different names",
        )
    for first, second in _one_person([*policy.agents, *approvals.approvers]):
        if first in policy.agents and second in approvals.approvers and first != second:
            yield (
                ("approvals", "approvers", second),
                f"looks like the agent {first!r}: an agent must not approve its own requests",
            )
    for name, approver in approvals.approvers.items():
        path = ("approvals", "approvers", name)
        if name in policy.agents and not approver.agent:
            yield (
                ("agents", name),
                "is also an approver: only with agent = true may an agent approve",
            )
        if approver.agent and approver.up_to is None:
            yield path, "an agent that approves needs up_to, the largest amount it may approve"
    yield from _credential_faults(policy)
    yield from _group_faults(policy)
    known = max(1, len(approvals.approvers))
    if approvals.required > known:
        yield (
            ("approvals", "required"),
            f"asks for more than the {len(approvals.approvers)} approvers",
        )
    for number, tier in enumerate(approvals.tiers):
        path = ("approvals", "tiers", str(number))
        able = [a for a in approvals.approvers.values() if a.up_to is None or a.up_to > tier.above]
        if tier.required > len(able):
            asked = f"above {tier.above} asks for {tier.required} approvers"
            yield path, f"{asked}, but only {len(able)} may approve that much"
        lower = [other for other in approvals.tiers if other.above < tier.above]
        if any(other.required > tier.required for other in lower):
            yield path, f"above {tier.above} asks for fewer approvers than a lower tier"
        if any(other.above == tier.above for other in approvals.tiers[:number]):
            yield path, f"there is a tier above {tier.above} already"


def _credential_faults(policy: PolicyModel) -> Iterator[Fault]:
    approvals, seen = policy.approvals, dict[str, str]()
    for name, approver in approvals.approvers.items():
        path = ("approvals", "approvers", name, "credentials")
        for credential in approver.credentials:
            other = seen.setdefault(credential.address, name)
            if other != name:
                yield path, f"{credential} is {other!r}'s, too: each approver counts once"
            elif approver.credentials.count(credential) > 1:
                yield path, f"names {credential} twice"
        if approvals.signatures == "required" and not approver.signs:
            yield path, 'is missing: signatures = "required" lets nobody decide without signing'


def _group_faults(policy: PolicyModel) -> Iterator[Fault]:
    approvals = policy.approvals
    listed: list[tuple[tuple[str, ...], int, list[str]]] = [
        (("approvals",), approvals.required, approvals.from_each)
    ]
    for number, tier in enumerate(approvals.tiers):
        listed.append((("approvals", "tiers", str(number)), tier.required, tier.from_each))
    groups = {one.group for one in approvals.approvers.values()}
    for path, required, names in listed:
        for name in names:
            if name not in groups:
                yield (*path, "from_each"), f"no approver is in the group {name!r}"
        if len(set(names)) != len(names):
            yield (*path, "from_each"), "names a group twice"
        if len(names) > required:
            text = f"asks for {len(names)} groups, and required for {required} approvers only"
            yield (*path, "from_each"), text
    if approvals.four_eyes:
        yield from _four_eyes_faults(approvals)


def _four_eyes_faults(approvals: Approvals) -> Iterator[Fault]:
    path = ("approvals", "four_eyes")
    people = [one for one in approvals.approvers.values() if not one.agent and one.up_to is None]
    if len(people) <= approvals.required:
        yield path, f"needs {approvals.required + 1} approvers: who proposes does not count"
    if approvals.required == 1 and any(one.signs for one in people):
        yield (
            path,
            "needs required = 2 where approvers sign: who proposed is a name that nobody signs, so"
            " one of them could do both",
        )
