"""The fewest calls of owners that bring a treasury from what its chain has to other limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.configuration import (
    APPROVE,
    DISPUTES,
    PURCHASES,
    Places,
    allowances,
    granted_roles,
    name,
    scopes,
    targets,
)
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.on_chain import OnChain
from coordinator.chain.safe.proof import Expected, Place, approval_word, read
from coordinator.chain.safe.roles import (
    assign_roles,
    revoke_function,
    revoke_target,
    scope_function,
    scope_target,
    set_allowance,
    set_unwrapper,
)
from coordinator.chain.safe.roles_storage import (
    clearance_word,
    membership_word,
    never_functions,
    never_targets,
    permission_word,
    scope_word,
    unwrapper_word,
)
from coordinator.chain.safe.safe_storage import END
from coordinator.chain.safe.safe_transactions import (
    ADD_OWNER,
    CHANGE_THRESHOLD,
    DISABLE_MODULE,
    ENABLE_MODULE,
    REMOVE_OWNER,
)
from coordinator.chain.safe.storage import Word

_ROLES = (PURCHASES, DISPUTES)


def changes(rpc: Rpc, places: Places, limits: ChainLimits, on_chain: OnChain) -> list[InnerCall]:
    """Return the owners' calls without which the Safe and its roles would differ from the limits.

    An allowance that stays has its rest untouched. One that changes is set to what is left of it,
    and never to more: whoever signs in the morning gives back what was spent until the evening.
    """
    due = [*_roles_due(places, limits)]
    due += [(approval_word(places), take_approval_back(places))]
    read_words = read(rpc, Expected(tuple(word for word, _ in due), {}), block=on_chain.tag).words
    # Who is given a role is put before all others in the list of members.
    calls = [*_modules_due(places, on_chain)]
    calls += _members_due(places, limits.member, on_chain)
    calls += [call for word, call in due if _differs(word, read_words)]
    calls += _allowances_due(places, limits, on_chain)
    calls += _owners_due(places, limits, on_chain)
    return list(dict.fromkeys(calls))


def revoked(places: Places, member: str) -> list[InnerCall]:
    """Return what stops a key: it has no role, and what it got the vault approved is gone."""
    call = assign_roles(member, _ROLES, member_of=False)
    return [
        InnerCall(places.roles, call, f"take every role from {member}"),
        take_approval_back(places),
    ]


def closed(places: Places, on_chain: OnChain) -> list[InnerCall]:
    """Return what stops every key at once: the roles are no module of the Safe any more."""
    before = _before(places.roles, on_chain.modules)
    title = "let nothing but its owners act for the Safe"
    call = InnerCall(places.safe, DISABLE_MODULE.call(before, places.roles), title)
    return [call, take_approval_back(places)]


def take_approval_back(places: Places) -> InnerCall:
    """Return what ends the vault's standing approval, which a key may have hoarded."""
    title = f"take back any approval that stands for {places.vault}"
    return InnerCall(places.usdc, APPROVE.call(places.vault, 0), title)


def _roles_due(places: Places, limits: ChainLimits) -> Iterator[tuple[Word, InnerCall]]:
    roles, member = places.roles, limits.member

    def call(data: bytes, title: str) -> InnerCall:
        return InnerCall(roles, data, title)

    yield unwrapper_word(roles), call(set_unwrapper(), "judge calls through MultiSend one by one")
    for role, target in targets(places, limits):
        title = f"let {name(role)} call {target}"
        yield clearance_word(roles, role, target), call(scope_target(role, target), title)
    for s in scopes(places, limits):
        data = scope_function(s.role, s.target, s.function.selector, s.condition)
        yield scope_word(roles, s), call(data, f"set what {name(s.role)} may {s.function.name}")
    for role, target in never_targets(places, limits):
        title = f"let {name(role)} call {target} no longer"
        word = clearance_word(roles, role, target, cleared=False)
        yield word, call(revoke_target(role, target), title)
    for role, target, f in never_functions(places, limits):
        title = f"let {name(role)} call {f.name} no longer"
        data = revoke_function(role, target, f.selector)
        yield permission_word(roles, role, target, f), call(data, title)
    granted = granted_roles(limits)
    for role in _ROLES:
        has = role in granted
        word = membership_word(roles, role, member, member_of=has)
        title = f"{'give' if has else 'take'} the role {name(role)}"
        yield word, call(assign_roles(member, [role], member_of=has), title)


def _allowances_due(places: Places, limits: ChainLimits, on_chain: OnChain) -> Iterator[InnerCall]:
    stored = on_chain.allowances or {}
    for key, full in allowances(limits).items():
        had = stored.get(key)
        if had is not None and _shape(had) == _shape(full):
            continue
        balance = full.balance if had is None else _kept(had, full, on_chain.time)
        data = set_allowance(key, replace(full, balance=balance))
        yield InnerCall(places.roles, data, f"set the allowance {name(key)}")


def _modules_due(places: Places, on_chain: OnChain) -> Iterator[InnerCall]:
    """Yield the end of every foreign module, and the return of roles that were closed."""
    left = list(on_chain.modules)
    for other in on_chain.modules:
        if other == places.roles:
            continue
        before = _before(other, left)
        left.remove(other)
        title = f"let {other} act for the Safe no longer"
        yield InnerCall(places.safe, DISABLE_MODULE.call(before, other), title)
    if places.roles not in left:
        title = f"let {places.roles} act for the Safe"
        yield InnerCall(places.safe, ENABLE_MODULE.call(places.roles), title)


def _members_due(places: Places, member: str, on_chain: OnChain) -> Iterator[InnerCall]:
    """Yield the end of every other key, each as it stands when those before it are gone."""
    left = list(on_chain.members)
    for other in on_chain.members:
        if other == member:
            continue
        before = _before(other, left)
        left.remove(other)
        taken = assign_roles(other, _ROLES, member_of=False)
        yield InnerCall(places.roles, taken, f"take every role from {other}")
        out = DISABLE_MODULE.call(before, other)
        yield InnerCall(places.roles, out, f"let {other} call the roles no longer")


def _owners_due(places: Places, limits: ChainLimits, on_chain: OnChain) -> Iterator[InnerCall]:
    """Yield new owners, then the end of others, so that there are never too few for a threshold."""
    left, threshold = list(on_chain.owners), on_chain.threshold
    for owner in limits.owners:
        if owner not in left:
            left.insert(0, owner)
            data = ADD_OWNER.call(owner, threshold)
            yield InnerCall(places.safe, data, f"let {owner} own the Safe")
    for owner in on_chain.owners:
        if owner not in limits.owners:
            before = _before(owner, left)
            left.remove(owner)
            threshold = min(threshold, len(left))
            data = REMOVE_OWNER.call(before, owner, threshold)
            yield InnerCall(places.safe, data, f"let {owner} own the Safe no longer")
    if threshold != limits.threshold:
        data = CHANGE_THRESHOLD.call(limits.threshold)
        yield InnerCall(places.safe, data, f"let {limits.threshold} owners sign")


def _before(one: str, listed: Iterable[str]) -> str:
    """Return what stands before it in a contract's list."""
    before = END
    for other in listed:
        if other == one:
            return before
        before = other
    return before


def _differs(word: Word, found: Mapping[Place, int]) -> bool:
    return any(word.differences(found[Place(word.contract, word.slot)]))


def _shape(allowance: Allowance) -> tuple[int, int, int]:
    return allowance.refill, allowance.max_refill, allowance.period


def _kept(had: Allowance, full: Allowance, time: int) -> int:
    """Return what may be left of an allowance that changes; one that never was begins full."""
    if not had.max_refill and not had.balance:
        return full.balance
    if full.period:
        return min(had.left_at(time), full.max_refill)
    spent = max(had.max_refill - had.balance, 0)
    return max(full.balance - spent, 0)
